package box

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// exampleName is the image of the example applications. Its tags are latest and
// one for its content: a node keeps an image that it has by its name, so that
// what a new build brings needs a new one.
const exampleName = "contrail/example"

const (
	busybox = "/bin/busybox"
	// refName is the OCI annotation that names an image in a layout.
	refName = "org.opencontainers.image.ref.name"
)

// ensureExampleImage builds the example's image from this machine's static
// busybox and the example program, into the layout that the registry serves.
func (c *Config) ensureExampleImage() error {
	shell, err := os.ReadFile(busybox)
	if err != nil {
		return fmt.Errorf("read %s: %w; install the package busybox-static", busybox, err)
	}
	program, err := os.ReadFile(filepath.Join(filepath.Dir(c.Binary), "contrail-example"))
	if err != nil {
		return fmt.Errorf("read the example program: %w; `make build` makes it", err)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("list the applets of %s: %w", busybox, err)
	}
	content, err := exampleRoot(shell, program, strings.Fields(string(applets)))
	if err != nil {
		return fmt.Errorf("build image %s: %w", exampleName, err)
	}
	image, err := imageOf(content)
	if err != nil {
		return fmt.Errorf("build image %s: %w", exampleName, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return fmt.Errorf("build image %s: %w", exampleName, err)
	}
	c.exampleImage = exampleName + ":" + digest.Hex[:12]
	if err := storeImage(c.images(), image, exampleName+":latest", c.exampleImage); err != nil {
		return fmt.Errorf("store image %s: %w", exampleName, err)
	}
	return nil
}

// exampleRoot is a root file system as a tar archive. Times are zero, so that
// the same content is the same image.
func exampleRoot(shell, program []byte, applets []string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	var errs []error
	dir := func(name string, mode int64) {
		errs = append(errs, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}))
	}
	file := func(name string, mode int64, data []byte) {
		errs = append(errs, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))}))
		_, err := w.Write(data)
		errs = append(errs, err)
	}
	for _, name := range []string{"bin", "dev", "etc", "proc", "root", "sys", "usr", "usr/bin", "var", "mnt"} {
		dir(name, 0o755)
	}
	dir("tmp", 0o1777)
	file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"))
	file("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	file("bin/busybox", 0o755, shell)
	file("bin/contrail-example", 0o755, program)
	for _, applet := range applets {
		if applet == "busybox" {
			continue
		}
		errs = append(errs, w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "busybox", Mode: 0o777}))
	}
	errs = append(errs, w.Close())
	return buf.Bytes(), errors.Join(errs...)
}

func imageOf(content []byte) (v1.Image, error) {
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config.Env = []string{"PATH=/bin:/usr/bin"}
	file.Config.Cmd = []string{"/bin/contrail-example", "serve"}
	return mutate.ConfigFile(image, file)
}

// storeImage puts an image under names into an OCI layout. What the layout had
// under another tag of the same name goes: it was an earlier build's.
func storeImage(dir string, image v1.Image, names ...string) error {
	path, err := layout.FromPath(dir)
	if err != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if path, err = layout.Write(dir, empty.Index); err != nil {
			return err
		}
	}
	for _, name := range names {
		err := path.ReplaceImage(image, match.Annotation(refName, name), layout.WithAnnotations(map[string]string{refName: name}))
		if err != nil {
			return err
		}
	}
	repository, _, _ := strings.Cut(names[0], ":")
	return removeOthers(path, image, func(d v1.Descriptor) bool {
		name := d.Annotations[refName]
		return strings.HasPrefix(name, repository+":") && !slices.Contains(names, name)
	})
}

// removeOthers removes the images that match, and their blobs but for those
// that one to keep has too.
func removeOthers(path layout.Path, keep v1.Image, match func(v1.Descriptor) bool) error {
	index, err := path.ImageIndex()
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	kept, err := blobs(keep)
	if err != nil {
		return err
	}
	var gone []v1.Hash
	for _, d := range manifest.Manifests {
		if !match(d) {
			continue
		}
		image, err := index.Image(d.Digest)
		if err != nil {
			return err
		}
		all, err := blobs(image)
		if err != nil {
			return err
		}
		gone = append(gone, all...)
	}
	if err := path.RemoveDescriptors(match); err != nil {
		return err
	}
	for _, blob := range gone {
		if slices.Contains(kept, blob) {
			continue
		}
		if err := path.RemoveBlob(blob); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// blobs are an image's manifest, configuration and layers.
func blobs(image v1.Image) ([]v1.Hash, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return nil, err
	}
	digest, err := image.Digest()
	if err != nil {
		return nil, err
	}
	all := []v1.Hash{digest, manifest.Config.Digest}
	for _, l := range manifest.Layers {
		all = append(all, l.Digest)
	}
	return all, nil
}
