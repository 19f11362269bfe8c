package repo

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func newRegistry(t *testing.T) (*httptest.Server, v1.Image) {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	image, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	named := layout.WithAnnotations(map[string]string{refName: "team/app:v1"})
	if err := path.AppendImage(image, named); err != nil {
		t.Fatal(err)
	}
	index, err := random.Index(500, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{refName: "many:latest"})); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(NewHandler(slog.New(slog.DiscardHandler), dir))
	t.Cleanup(server.Close)
	return server, image
}

func TestPull(t *testing.T) {
	server, want := newRegistry(t)
	host := strings.TrimPrefix(server.URL, "http://")
	ref, err := name.ParseReference(host+"/team/app:v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
	wantDigest, _ := want.Digest()
	if digest, err := got.Digest(); err != nil || digest != wantDigest {
		t.Errorf("digest %v, %v; want %v", digest, err, wantDigest)
	}
	tags, err := remote.List(ref.Context())
	if err != nil || len(tags) != 1 || tags[0] != "v1" {
		t.Errorf("tags %v, %v; want v1", tags, err)
	}
	many, err := name.ParseReference(host+"/many", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(many)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	server, _ := newRegistry(t)
	absent := "sha256:" + strings.Repeat("0", 64)
	for _, test := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v2/", 200, ""},
		{"GET", "/v2/team/app/manifests/v2", 404, codeManifestUnknown},
		{"GET", "/v2/team/app/manifests/" + absent, 404, codeManifestUnknown},
		{"HEAD", "/v2/team/app/blobs/" + absent, 404, ""},
		{"GET", "/v2/team/app/blobs/" + absent, 404, codeBlobUnknown},
		{"GET", "/v2/team/app/blobs/sha256:12", 400, codeDigestInvalid},
		{"GET", "/v2/nobody/manifests/v1", 404, codeNameUnknown},
		{"GET", "/v2/team/app/blobs/..%2f..%2findex.json", 404, codeNameUnknown},
		{"GET", "/index.json", 404, codeNameUnknown},
		{"POST", "/v2/team/app/blobs/uploads/", 405, codeUnsupported},
		{"DELETE", "/v2/team/app/manifests/v1", 405, codeUnsupported},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			target, err := url.Parse(server.URL + test.path)
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(&http.Request{Method: test.method, URL: target})
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != test.status || !strings.Contains(string(body), test.code) {
				t.Errorf("%d %s; want %d with %s", response.StatusCode, body, test.status, test.code)
			}
		})
	}
}
