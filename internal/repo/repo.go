// Package repo serves what the cluster's nodes have to fetch: container
// images, by the read-only part of the OCI distribution protocol.
//
//	OCI layout on disk (index.json, blobs/sha256/*) ──> Handler ──> nodes
//
// The layout is read at each request, so that an image that was added or
// replaced is there at once. Who may call is the listener's matter: on the
// fabric it wants a certificate of the cluster, of any role.
package repo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// refName is the annotation that names an image in a layout's index.
const refName = "org.opencontainers.image.ref.name"

// Error codes of the OCI distribution specification, section "Error Codes".
const (
	codeBlobUnknown     = "BLOB_UNKNOWN"
	codeDigestInvalid   = "DIGEST_INVALID"
	codeManifestUnknown = "MANIFEST_UNKNOWN"
	codeNameUnknown     = "NAME_UNKNOWN"
	codeUnsupported     = "UNSUPPORTED"
)

type handler struct {
	log *slog.Logger
	dir string
}

// NewHandler serves the images of the OCI layout in dir. It is safe for
// concurrent use, also with one writer to the layout.
func NewHandler(log *slog.Logger, dir string) http.Handler {
	return &handler{log: log, dir: dir}
}

// route takes a path apart: the name may have slashes.
var route = regexp.MustCompile(`^/v2/([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)/(manifests|blobs|tags)/([A-Za-z0-9_+.:-]+)$`)

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, codeUnsupported, "this registry is read-only")
		return
	}
	if r.URL.Path == "/v2/" || r.URL.Path == "/v2" {
		answer(w, struct{}{})
		return
	}
	parts := route.FindStringSubmatch(r.URL.Path)
	if parts == nil {
		refuse(w, http.StatusNotFound, codeNameUnknown, "no such path: "+r.URL.Path)
		return
	}
	name, kind, reference := parts[1], parts[2], parts[3]
	images, err := h.images(name)
	if err != nil {
		h.log.Error("images not read", "directory", h.dir, "error", err)
		http.Error(w, "the images cannot be read", http.StatusInternalServerError)
		return
	}
	if len(images) == 0 {
		refuse(w, http.StatusNotFound, codeNameUnknown, "no image is named "+name)
		return
	}
	switch {
	case kind == "manifests":
		h.manifest(w, r, images, name, reference)
	case kind == "blobs":
		h.blob(w, r, reference, "application/octet-stream", codeBlobUnknown)
	case reference == "list":
		tags := make([]string, 0, len(images))
		for tag := range images {
			tags = append(tags, tag)
		}
		slices.Sort(tags)
		answer(w, map[string]any{"name": name, "tags": tags})
	default:
		refuse(w, http.StatusNotFound, codeNameUnknown, "no such path: "+r.URL.Path)
	}
}

// images maps the tags of a name to what the index says of them.
func (h *handler) images(name string) (map[string]v1.Descriptor, error) {
	index, err := layout.ImageIndexFromPath(h.dir)
	if err != nil {
		return nil, fmt.Errorf("open layout: %w", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read layout: %w", err)
	}
	images := make(map[string]v1.Descriptor)
	for _, d := range manifest.Manifests {
		if tag, ok := strings.CutPrefix(d.Annotations[refName], name+":"); ok {
			images[tag] = d
		}
	}
	return images, nil
}

// manifest answers by tag, or by digest: then an index's own manifests count too.
func (h *handler) manifest(w http.ResponseWriter, r *http.Request, images map[string]v1.Descriptor, name, reference string) {
	if d, ok := images[reference]; ok {
		h.blob(w, r, d.Digest.String(), string(d.MediaType), codeManifestUnknown)
		return
	}
	for _, d := range images {
		if d.Digest.String() == reference {
			h.blob(w, r, reference, string(d.MediaType), codeManifestUnknown)
			return
		}
		if !d.MediaType.IsIndex() {
			continue
		}
		if mediaType, ok := h.within(d, reference); ok {
			h.blob(w, r, reference, mediaType, codeManifestUnknown)
			return
		}
	}
	refuse(w, http.StatusNotFound, codeManifestUnknown, "image "+name+" has no tag or digest "+reference)
}

// within looks for a digest among the manifests of an index.
func (h *handler) within(d v1.Descriptor, digest string) (mediaType string, ok bool) {
	f, err := os.Open(h.path(d.Digest))
	if err != nil {
		return "", false
	}
	defer f.Close()
	index, err := v1.ParseIndexManifest(f)
	if err != nil {
		return "", false
	}
	i := slices.IndexFunc(index.Manifests, func(d v1.Descriptor) bool { return d.Digest.String() == digest })
	if i < 0 {
		return "", false
	}
	return string(index.Manifests[i].MediaType), true
}

func (h *handler) path(hash v1.Hash) string {
	return filepath.Join(h.dir, "blobs", hash.Algorithm, hash.Hex)
}

func (h *handler) blob(w http.ResponseWriter, r *http.Request, digest, mediaType, missing string) {
	hash, err := v1.NewHash(digest) // knows only sha256 and hexadecimal digits: no way out of the directory
	if err != nil {
		refuse(w, http.StatusBadRequest, codeDigestInvalid, "digest "+digest+": "+err.Error())
		return
	}
	f, err := os.Open(h.path(hash))
	if errors.Is(err, fs.ErrNotExist) {
		refuse(w, http.StatusNotFound, missing, "nothing has the digest "+digest)
		return
	}
	if err != nil {
		h.log.Error("blob not read", "digest", digest, "error", err)
		http.Error(w, "the blob cannot be read", http.StatusInternalServerError)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Etag", strconv.Quote(digest))
	http.ServeContent(w, r, "", time.Time{}, f)
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // the caller has gone if this fails
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"errors": []map[string]string{{"code": code, "message": message}},
	})
}
