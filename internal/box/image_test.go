package box

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// TestStoreImage: names lead to the image stored last, an earlier one under
// other tags is gone with its blobs, and other images stay.
func TestStoreImage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	files := func() int {
		entries, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	for i, names := range [][]string{{"other/app:latest"}, {"a/b:latest", "a/b:1"}, {"a/b:latest", "a/b:2"}} {
		image, err := random.Image(100, 2)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time changes nothing
			if err := storeImage(dir, image, names...); err != nil {
				t.Fatal(err)
			}
		}
		index, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		digest, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, d := range manifest.Manifests {
			if d.Digest == digest {
				found = append(found, d.Annotations[refName])
			}
			stored, err := index.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(stored); err != nil {
				t.Error(err)
			}
		}
		slices.Sort(found)
		slices.Sort(names)
		if !slices.Equal(found, names) {
			t.Errorf("image %d is named %q, want %q", i, found, names)
		}
		const blobsOfImage = 4 // manifest, configuration, two layers
		if want := min(i+1, 2) * blobsOfImage; files() != want {
			t.Errorf("%d blobs after image %d, want %d", files(), i, want)
		}
	}
}
