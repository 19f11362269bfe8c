package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, h := range headers {
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, h.Name)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func TestUnpack(t *testing.T) {
	dir := t.TempDir()
	err := unpack(bytes.NewReader(archive(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o711},
		tar.Header{Name: "bin/tool", Mode: 0o4755},
		tar.Header{Name: "/absolute"},
		tar.Header{Name: "bin/link", Typeflag: tar.TypeLink, Linkname: "bin/tool"},
		tar.Header{Name: "etc", Typeflag: tar.TypeSymlink, Linkname: "/host/etc"},
		tar.Header{Name: "fifo", Typeflag: tar.TypeFifo},
		tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8},
		tar.Header{Name: "bin/tool", Mode: 0o700}, // the last of a name wins
	)), dir, defaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "bin/tool"))
	if err != nil || info.Mode() != 0o700 {
		t.Errorf("tool: %v %v", info, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "bin/link")); err != nil || info.Mode() != 0o755|os.ModeSetuid {
		t.Errorf("link: %v %v", info, err)
	}
	if to, err := os.Readlink(filepath.Join(dir, "etc")); to != "/host/etc" {
		t.Errorf("symbolic link: %q %v", to, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "absolute")); string(data) != "/absolute" {
		t.Errorf("absolute: %q %v", data, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "dev/sda")); err == nil {
		t.Error("device node was made")
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("root: %v %v", info, err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		headers []tar.Header
		limits  Limits
	}{
		"name leaves the image":            {headers: []tar.Header{{Name: "a/../../x"}}},
		"link target":                      {headers: []tar.Header{{Name: "x", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}}},
		"path escapes":                     {headers: []tar.Header{{Name: "d", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "d/x"}}},
		"path escapes from":                {headers: []tar.Header{{Name: "d", Typeflag: tar.TypeSymlink, Linkname: "../"}, {Name: "d/x"}}},
		"escapes":                          {headers: []tar.Header{{Name: "d", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "d/.wh.x"}}},
		"whiteout of no name":              {headers: []tar.Header{{Name: ".wh."}}},
		"whiteout of no name ":             {headers: []tar.Header{{Name: "a/.wh..."}}},
		"root of an image":                 {headers: []tar.Header{{Name: ".", Typeflag: tar.TypeSymlink, Linkname: outside}}},
		"more than 1 entries":              {headers: []tar.Header{{Name: "a"}, {Name: "b"}}, limits: Limits{Bytes: 1 << 20, Entries: 1}},
		"layer is larger than allowed":     {headers: []tar.Header{{Name: strings.Repeat("a", 90)}}, limits: Limits{Bytes: 64, Entries: 9}},
		"no such file":                     {headers: []tar.Header{{Name: "x", Typeflag: tar.TypeLink, Linkname: "nothing"}}},
		"entry of unknown type":            {headers: []tar.Header{{Name: "x", Typeflag: 'Z'}}},
		"name is malformed":                {headers: []tar.Header{{Name: strings.Repeat("a/", 3000) + "a"}}},
		"file name too long":               {headers: []tar.Header{{Name: strings.Repeat("a", 300)}}},
		"file exists":                      {headers: []tar.Header{{Name: "x"}, {Name: "x/y"}}},
		"layer is larger than allowed (2)": {headers: []tar.Header{{Name: "a"}, {Name: "b"}, {Name: "c"}}, limits: Limits{Bytes: 1600, Entries: 9}},
	} {
		if test.limits.Bytes == 0 {
			test.limits = defaultLimits
		}
		dir := filepath.Join(t.TempDir(), "layer")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		err := unpack(bytes.NewReader(archive(t, test.headers...)), dir, test.limits)
		want, _, _ := strings.Cut(strings.TrimSpace(name), " (")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 0 {
		t.Errorf("written outside: %v", entries)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, tar.Header{Name: "a/b"}, tar.Header{Name: "c", Typeflag: tar.TypeSymlink, Linkname: "../.."}, tar.Header{Name: "c/d"}))
	f.Add([]byte("not an archive"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "layer")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		unpack(bytes.NewReader(data), dir, Limits{Bytes: 1 << 20, Entries: 100})
		if entries, _ := os.ReadDir(parent); len(entries) != 1 {
			t.Fatalf("written outside: %v", entries)
		}
	})
}

func testImage(t *testing.T, content string) v1.Image {
	t.Helper()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive(t, tar.Header{Name: content}))), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.Config(img, v1.Config{Env: []string{"A=b"}, Entrypoint: []string{"/run"}, Cmd: []string{"x"}, WorkingDir: "/srv"})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func newRegistry(t *testing.T) (*httptest.Server, *atomic.Int64) {
	var blobs atomic.Int64
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			blobs.Add(1)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.Close(); http.DefaultTransport.(*http.Transport).CloseIdleConnections() })
	return server, &blobs
}

func push(t *testing.T, server *httptest.Server, reference string, img v1.Image) {
	t.Helper()
	ref, err := name.ParseReference(server.Listener.Addr().String() + "/" + reference)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, config Config) *Store {
	t.Helper()
	s, err := Open(slog.New(slog.DiscardHandler), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r, ok := s.source.(*registries); ok {
			for _, transport := range []http.RoundTripper{r.transport, r.others} {
				transport.(*patient).next.(*http.Transport).CloseIdleConnections()
			}
		}
	})
	return s
}

func TestAcquire(t *testing.T) {
	server, blobs := newRegistry(t)
	push(t, server, "shop/web:1", testImage(t, "one"))
	dir := t.TempDir()
	config := Config{Dir: dir, Registry: server.Listener.Addr().String()}
	s := open(t, config)
	var wait sync.WaitGroup
	for _, owner := range []string{"a", "b", "c", "d"} {
		wait.Go(func() {
			img, err := s.Acquire(t.Context(), owner, "shop/web:1", false)
			if err != nil {
				t.Error(err)
				return
			}
			if img.WorkingDir != "/srv" || len(img.Layers) != 1 || img.Entrypoint[0] != "/run" || img.Cmd[0] != "x" || img.Env[0] != "A=b" {
				t.Errorf("image %+v", img)
			}
			if data, err := os.ReadFile(filepath.Join(s.LayersDir(), img.Layers[0], "one")); string(data) != "one" {
				t.Errorf("content %q %v", data, err)
			}
		})
	}
	wait.Wait()
	if n := blobs.Load(); n > 2*4 { // configuration and layer; a late caller finds it there
		t.Errorf("%d blobs were asked for", n)
	}
	before := blobs.Load()
	push(t, server, "shop/web:1", testImage(t, "two"))
	if img, err := s.Acquire(t.Context(), "e", "shop/web:1", false); err != nil || blobs.Load() != before {
		t.Errorf("cached image was pulled again: %+v %v", img, err)
	}
	img, err := s.Acquire(t.Context(), "e", "shop/web:1", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.LayersDir(), img.Layers[0], "two")); err != nil {
		t.Errorf("refreshed image: %v", err)
	}
	// A restart knows the holders; what is not alive any more is let go, and
	// with it the layer of the image that the tag named before.
	s = open(t, config)
	if err := s.Retain(func(owner string) bool { return owner == "e" }); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.LayersDir())
	if err != nil || len(entries) != 1 || entries[0].Name() != img.Layers[0] {
		t.Errorf("layers left: %v %v", entries, err)
	}
	server.Close()
	if _, err := s.Acquire(t.Context(), "f", "shop/web:1", false); err != nil {
		t.Errorf("image that is there needs the registry: %v", err)
	}
}

func TestCollect(t *testing.T) {
	server, _ := newRegistry(t)
	s := open(t, Config{Dir: t.TempDir(), Registry: server.Listener.Addr().String(), Keep: 1})
	for _, n := range []string{"a", "b", "c"} {
		push(t, server, n, testImage(t, n))
		if _, err := s.Acquire(t.Context(), n, n, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []string{"a", "b", "c", "c"} {
		if err := s.Release(n); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(s.LayersDir())
	if err != nil || len(entries) != 1 || len(s.images) != 1 {
		t.Errorf("left: %v %v %v", entries, s.images, err)
	}
}

func TestErrorsTellWhatToDo(t *testing.T) {
	server, _ := newRegistry(t)
	address := server.Listener.Addr().String()
	s := open(t, Config{Dir: t.TempDir(), Registry: address})
	_, err := s.Acquire(t.Context(), "x", "shop/none:9", false)
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `"shop/none:9" is not in registry `+address) {
		t.Errorf("unknown image: %v", err)
	}
	_, err = s.Acquire(t.Context(), "x", "Not A Name", false)
	if !errors.Is(err, ErrUnknown) {
		t.Errorf("bad name: %v", err)
	}
	if _, err := s.Acquire(t.Context(), "../x", "shop/web", false); err == nil {
		t.Error("owner that leaves the directory was taken")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := l.Addr().String()
	l.Close()
	s = open(t, Config{Dir: t.TempDir(), Registry: down})
	_, err = s.Acquire(t.Context(), "x", "shop/web:1", false)
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), down) || !strings.Contains(err.Error(), "check that the registry runs") {
		t.Errorf("registry down: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := s.Acquire(ctx, "x", "shop/web:1", false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended context: %v", err)
	}
	s.pulls.Do("shop/web:1", func() (any, error) { return nil, nil }) // the pull outlives its caller
	if _, err := Open(slog.New(slog.DiscardHandler), Config{Dir: t.TempDir(), Registry: "not a registry"}); err == nil {
		t.Error("bad registry was taken")
	}
}

// A layer that is not what the configuration promises is not used.
func TestDigestIsChecked(t *testing.T) {
	dir := t.TempDir()
	img := testImage(t, "honest")
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.RootFS.DiffIDs[0].Hex = strings.Repeat("0", 64)
	lying, err := mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	writeLayout(t, filepath.Join(dir, "lying"), lying)
	s := open(t, Config{Dir: t.TempDir(), Registry: dir})
	if _, err := s.Acquire(t.Context(), "x", "lying", false); err == nil || !strings.Contains(err.Error(), "content has digest") {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(s.LayersDir()); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
}

func writeLayout(t *testing.T, path string, img v1.Image) {
	t.Helper()
	l, err := layout.Write(path, empty.Index)
	if err == nil {
		err = l.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	ref, err := name.NewTag("shop/web:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "shop"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(filepath.Join(dir, "shop/web:1.tar"), ref, testImage(t, "saved")); err != nil {
		t.Fatal(err)
	}
	writeLayout(t, filepath.Join(dir, "laid:2"), testImage(t, "out"))
	s := open(t, Config{Dir: t.TempDir(), Registry: dir})
	for _, n := range []string{"shop/web:1", "laid:2"} {
		if img, err := s.Acquire(t.Context(), "x", n, false); err != nil || len(img.Layers) != 1 {
			t.Errorf("%s: %+v %v", n, img, err)
		}
	}
	for _, n := range []string{"none", "../etc", "/etc"} {
		if _, err := s.Acquire(t.Context(), "x", n, false); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", n, err)
		}
	}
}
