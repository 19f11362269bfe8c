package image

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/renameio/v2"
	"golang.org/x/sync/singleflight"

	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Config of a Store.
type Config struct {
	// Dir is the store's own directory, on a file system overlayfs can use.
	Dir string
	// Registry is host:port of the registry for names without one, or the
	// absolute path of a directory of images.
	Registry string
	// Credentials, if any, are shown to Registry.
	Credentials *ctls.Credentials
	// Keep is how many images that no container uses stay; 0 means 16.
	Keep int
	// Timeout of one pull; 0 means 10 minutes.
	Timeout time.Duration
	// Limits of a layer; zero fields have defaults.
	Limits Limits

	patience patience
}

// Image is unpacked and held.
type Image struct {
	// Name as asked for, and digest of the manifest.
	Name   string `json:"name"`
	Digest string `json:"digest"`
	// Layers are names of directories in LayersDir of the store, lowest first.
	Layers []string `json:"layers"`
	// What the image says about running it.
	Env        []string `json:"env,omitempty"`
	WorkingDir string   `json:"working_dir,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	// Used is when a container last took it.
	Used time.Time `json:"used"`
}

// Store is the images of a node. Safe for concurrent use; one per directory.
type Store struct {
	log    *slog.Logger
	config Config
	source source
	pulls  singleflight.Group

	mu      sync.Mutex
	images  map[string]Image    // by name
	holders map[string][]string // layers by owner
	pulling map[string]int      // layers of pulls under way
}

// Open reads the store, and removes what an earlier process left half done.
func Open(log *slog.Logger, config Config) (*Store, error) {
	config.Keep = cmp.Or(config.Keep, 16)
	config.Timeout = cmp.Or(config.Timeout, 10*time.Minute)
	config.Limits.Bytes = cmp.Or(config.Limits.Bytes, defaultLimits.Bytes)
	config.Limits.Entries = cmp.Or(config.Limits.Entries, defaultLimits.Entries)
	src, err := newSource(config.Registry, config.Credentials, config.patience)
	if err != nil {
		return nil, err
	}
	s := &Store{
		log: log, config: config, source: src,
		images: map[string]Image{}, holders: map[string][]string{}, pulling: map[string]int{},
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open image store %s: %w", config.Dir, err)
	}
	return s, nil
}

// LayersDir holds the directories that Image.Layers names.
func (s *Store) LayersDir() string { return filepath.Join(s.config.Dir, "layers") }

func (s *Store) load() error {
	if err := os.RemoveAll(s.path("tmp")); err != nil {
		return err
	}
	for _, dir := range []string{"tmp", "layers", "holders"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(s.path("images.json"))
	if err == nil {
		err = json.Unmarshal(data, &s.images)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// It is a cache: images are pulled again.
		s.log.Warn("list of images is unreadable and starts anew", "error", err)
		s.images = map[string]Image{}
	}
	entries, err := os.ReadDir(s.path("holders"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := os.ReadFile(s.path("holders", e.Name()))
		if err != nil {
			return err
		}
		s.holders[e.Name()] = strings.Fields(string(data))
	}
	for name, img := range s.images {
		if slices.ContainsFunc(img.Layers, func(l string) bool { return !s.has(l) }) {
			delete(s.images, name)
		}
	}
	return nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.config.Dir}, parts...)...)
}

func (s *Store) has(layer string) bool {
	_, err := os.Stat(s.path("layers", layer))
	return err == nil
}

// Acquire pulls the image if it is not there (with refresh, also if it is), and
// holds it for owner, a file name, until Release. Callers of the same name at
// the same time share one pull.
func (s *Store) Acquire(ctx context.Context, owner, name string, refresh bool) (Image, error) {
	if !filepath.IsLocal(owner) || strings.Contains(owner, "/") {
		return Image{}, fmt.Errorf("owner %q of image is no file name", owner)
	}
	if !refresh {
		if img, ok, err := s.hold(owner, name); ok || err != nil {
			return img, err
		}
	}
	for {
		pulled := s.pulls.DoChan(name, func() (any, error) {
			// It is everybody's pull: nobody's end ends it.
			pullCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Timeout)
			defer cancel()
			return nil, s.pull(pullCtx, name)
		})
		select {
		case <-ctx.Done():
			return Image{}, fmt.Errorf("pull image %q: %w", name, ctx.Err())
		case result := <-pulled:
			if result.Err != nil {
				return Image{}, result.Err
			}
		}
		// Collected again in between, by an extreme Keep: pull once more.
		if img, ok, err := s.hold(owner, name); ok || err != nil {
			return img, err
		}
	}
}

func (s *Store) hold(owner, name string) (Image, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, ok := s.images[name]
	if !ok {
		return Image{}, false, nil
	}
	img.Used = time.Now()
	if err := renameio.WriteFile(s.path("holders", owner), []byte(strings.Join(img.Layers, "\n")), 0o600); err != nil {
		return Image{}, false, fmt.Errorf("hold image %q: %w", name, err)
	}
	s.images[name] = img
	s.holders[owner] = img.Layers
	return img, true, nil
}

// Release ends a hold, and collects what is no longer worth keeping. Releasing
// what is not held is success.
func (s *Store) Release(owner string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Remove(s.path("holders", owner)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release image: %w", err)
	}
	delete(s.holders, owner)
	return s.collect()
}

// Retain releases every hold of an owner that alive does not know.
func (s *Store) Retain(alive func(owner string) bool) error {
	s.mu.Lock()
	var gone []string
	for owner := range s.holders {
		if !alive(owner) {
			gone = append(gone, owner)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, owner := range gone {
		errs = append(errs, s.Release(owner))
	}
	return errors.Join(errs...)
}

// collect forgets the images used longest ago, beyond Keep, and removes the
// layers that nothing needs. The lock is held.
func (s *Store) collect() error {
	held := map[string]bool{}
	for _, layers := range s.holders {
		for _, l := range layers {
			held[l] = true
		}
	}
	for l := range s.pulling {
		held[l] = true
	}
	var idle []Image
	needed := map[string]bool{}
	for _, img := range s.images {
		if slices.ContainsFunc(img.Layers, func(l string) bool { return !held[l] }) {
			idle = append(idle, img)
		}
		for _, l := range img.Layers {
			needed[l] = true
		}
	}
	if len(idle) > s.config.Keep {
		slices.SortFunc(idle, func(a, b Image) int { return a.Used.Compare(b.Used) })
		for _, img := range idle[:len(idle)-s.config.Keep] {
			delete(s.images, img.Name)
		}
		needed = map[string]bool{}
		for _, img := range s.images {
			for _, l := range img.Layers {
				needed[l] = true
			}
		}
	}
	if err := s.save(); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.LayersDir())
	if err != nil {
		return fmt.Errorf("list layers: %w", err)
	}
	for _, e := range entries {
		if held[e.Name()] || needed[e.Name()] {
			continue
		}
		// Under another name first: what has its name is complete.
		gone := s.path("tmp", e.Name()+".gone")
		if err := errors.Join(os.Rename(s.path("layers", e.Name()), gone), os.RemoveAll(gone)); err != nil {
			return fmt.Errorf("remove layer: %w", err)
		}
		s.log.Info("layer removed", "layer", e.Name())
	}
	return nil
}

func (s *Store) save() error {
	data, err := json.MarshalIndent(s.images, "", " ")
	if err == nil {
		err = renameio.WriteFile(s.path("images.json"), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("save list of images: %w", err)
	}
	return nil
}

// pull makes name known, with all its layers unpacked.
func (s *Store) pull(ctx context.Context, name string) error {
	began := time.Now()
	img, err := s.source.image(ctx, name)
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return fmt.Errorf("read configuration of image %q: %w", name, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return fmt.Errorf("read digest of image %q: %w", name, err)
	}
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("read layers of image %q: %w", name, err)
	}
	if len(layers) != len(config.RootFS.DiffIDs) {
		return fmt.Errorf("image %q has %d layers and %d in its configuration", name, len(layers), len(config.RootFS.DiffIDs))
	}
	known := Image{
		Name: name, Digest: digest.String(), Used: time.Now(),
		Env: config.Config.Env, WorkingDir: config.Config.WorkingDir,
		Entrypoint: config.Config.Entrypoint, Cmd: config.Config.Cmd,
	}
	for _, id := range config.RootFS.DiffIDs {
		if id.Algorithm != "sha256" || len(id.Hex) != sha256.Size*2 {
			return fmt.Errorf("image %q: layer digest %s is not SHA-256", name, id)
		}
		known.Layers = append(known.Layers, id.Hex)
	}
	s.pin(known.Layers, 1)
	defer s.pin(known.Layers, -1)
	for i, layer := range layers {
		if err := s.layer(ctx, known.Layers[i], layer); err != nil {
			return fmt.Errorf("unpack image %q: %w", name, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[name] = known
	s.log.Info("image pulled", "image", name, "digest", known.Digest, "layers", len(layers), "duration", time.Since(began))
	return s.save()
}

func (s *Store) pin(layers []string, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range layers {
		if s.pulling[l] += by; s.pulling[l] == 0 {
			delete(s.pulling, l)
		}
	}
}

// layer unpacks one layer unless it is there. Two images may bring the same
// layer at the same time; the work is done once.
func (s *Store) layer(ctx context.Context, id string, layer v1.Layer) error {
	_, err, _ := s.pulls.Do("layer "+id, func() (any, error) {
		if s.has(id) {
			return nil, nil
		}
		dir, err := os.MkdirTemp(s.path("tmp"), id+".")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil { // it becomes "/"
			return nil, err
		}
		if err := s.fetch(ctx, id, layer, dir); err != nil {
			return nil, fmt.Errorf("layer %s: %w", id[:12], err)
		}
		return nil, os.Rename(dir, s.path("layers", id))
	})
	return err
}

func (s *Store) fetch(ctx context.Context, id string, layer v1.Layer, dir string) error {
	stream, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer stream.Close()
	hash := sha256.New()
	content := io.TeeReader(contextReader{ctx, stream}, hash)
	if err := unpack(content, dir, s.config.Limits); err != nil {
		return err
	}
	// What follows the archive's end belongs to the digest, too.
	if _, err := io.Copy(io.Discard, &boundedReader{content, s.config.Limits.Bytes}); err != nil {
		return err
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != id {
		return fmt.Errorf("content has digest %s", sum)
	}
	return nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
