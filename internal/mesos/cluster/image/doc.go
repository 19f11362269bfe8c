// Package image brings the file systems of container images onto a node.
//
//	reference -> source (registry, or directory of archives) -> manifest, config
//	          -> each layer: verify digest, unpack once -> DIR/layers/DIFFID
//	          -> Image{layers, config}, held by a container until released
//
// Layers are kept under the digest of their content, in the form overlayfs
// wants (whiteouts are devices 0:0, opaque directories carry an attribute), so
// containers mount them as they are and images share them. What a directory
// under DIR/layers is called, it is: it gets its name when it is complete.
//
//	DIR/images.json     which image names are known, with configuration
//	DIR/holders/OWNER   the layers a container needs; survives a restart
//	DIR/tmp             being unpacked; emptied at start
//
// Archives are hostile: names that leave the layer, links through which others
// would, device nodes, and sizes beyond bounds are refused or left out.
package image
