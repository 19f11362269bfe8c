package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Errors that callers tell apart.
var (
	// ErrUnknown means that the source has no such image.
	ErrUnknown = errors.New("no such image")
	// ErrUnreachable means that the source did not answer.
	ErrUnreachable = errors.New("registry does not answer")
)

// source finds an image by its reference.
type source interface {
	image(ctx context.Context, reference string) (v1.Image, error)
}

// newSource takes what --docker-registry says: host:port, or an absolute path.
func newSource(registry string, credentials *ctls.Credentials, limits patience) (source, error) {
	if filepath.IsAbs(registry) {
		return directory(registry), nil
	}
	if _, err := name.NewRegistry(registry); err != nil {
		return nil, fmt.Errorf("registry %q: want host:port or an absolute path: %w", registry, err)
	}
	own := http.DefaultTransport.(*http.Transport).Clone()
	if credentials != nil {
		own.TLSClientConfig = credentials.Client("", ctls.RoleRepo)
	}
	return &registries{
		own:       registry,
		mutual:    credentials != nil,
		transport: &patient{limits.withDefaults(), own},
		others:    &patient{limits.withDefaults(), http.DefaultTransport.(*http.Transport).Clone()},
	}, nil
}

// registries are the cluster's own, for short names, and any other that a
// reference names. The cluster's own is asked with the node's certificate if
// there is one, and then never without TLS.
type registries struct {
	own               string
	mutual            bool
	transport, others http.RoundTripper
}

// RoundTrip chooses the credentials by the host.
func (r *registries) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Host != r.own {
		return r.others.RoundTrip(request)
	}
	if r.mutual && request.URL.Scheme != "https" {
		return nil, fmt.Errorf("registry %s is asked with TLS only", r.own)
	}
	return r.transport.RoundTrip(request)
}

func (r *registries) image(ctx context.Context, reference string) (v1.Image, error) {
	ref, err := name.ParseReference(reference, name.WithDefaultRegistry(r.own))
	if err != nil {
		return nil, fmt.Errorf("%w: image name %q: %w", ErrUnknown, reference, err)
	}
	host := ref.Context().RegistryStr()
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithTransport(r),
		remote.WithAuth(authn.Anonymous), remote.WithUserAgent("contrail"),
		remote.WithRetryBackoff(remote.Backoff{Duration: 200 * time.Millisecond, Factor: 3, Jitter: 0.1, Steps: 3}))
	if err != nil {
		return nil, explain(reference, host, err)
	}
	return img, nil
}

// explain turns what the registry client says into what a user can act on.
func explain(reference, host string, err error) error {
	var status *transport.Error
	if stall := (*stalled)(nil); errors.As(err, &stall) {
		return fmt.Errorf("%w: image %q: %w", ErrUnreachable, reference, stall)
	}
	if !errors.As(err, &status) {
		return fmt.Errorf("%w: image %q from registry %s: %w: check that the registry runs and can be reached from this node",
			ErrUnreachable, reference, host, err)
	}
	switch status.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: image %q is not in registry %s: check the name and the tag, or push it", ErrUnknown, reference, host)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: registry %s refuses image %q (%d): it does not exist or wants a login", ErrUnknown, host, reference, status.StatusCode)
	default:
		return fmt.Errorf("image %q from registry %s: %w", reference, host, err)
	}
}

// directory holds images as files: REFERENCE.tar, written by `docker save` or
// the like, with the reference literally as in the task; or a directory
// REFERENCE in OCI image layout with one image.
type directory string

func (d directory) image(_ context.Context, reference string) (v1.Image, error) {
	if !filepath.IsLocal(reference) || strings.ContainsRune(reference, 0) {
		return nil, fmt.Errorf("%w: image name %q", ErrUnknown, reference)
	}
	archive := filepath.Join(string(d), reference+".tar")
	if _, err := os.Stat(archive); err == nil {
		img, err := tarball.ImageFromPath(archive, nil)
		if err != nil {
			return nil, fmt.Errorf("read image %s: %w", archive, err)
		}
		return img, nil
	}
	img, err := fromLayout(filepath.Join(string(d), reference))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: neither %s nor an OCI layout %s exists", ErrUnknown, archive, strings.TrimSuffix(archive, ".tar"))
	}
	return img, err
}

func fromLayout(path string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("read OCI layout %s: %w", path, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read OCI layout %s: %w", path, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("read OCI layout %s: it has %d images, want one", path, len(manifest.Manifests))
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return nil, fmt.Errorf("read OCI layout %s: %w", path, err)
	}
	return img, nil
}
