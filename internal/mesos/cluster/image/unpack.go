package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits bound what one layer may bring.
type Limits struct {
	// Bytes of the uncompressed archive, and of the files in it.
	Bytes int64
	// Entries of the archive.
	Entries int
}

// DefaultLimits suit images that people make.
var defaultLimits = Limits{Bytes: 8 << 30, Entries: 1_000_000}

// capability is the one attribute an image may set: it gives a program, and
// nobody else, a part of root's power.
const capabilityAttr = "security.capability"

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// unpack writes the archive r (tar, OCI layer changeset) into dir, which must
// be empty. It fails on names outside dir and leaves device nodes out.
func unpack(r io.Reader, dir string, limits Limits) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, left: limits.Bytes}
	reader := tar.NewReader(&boundedReader{r, limits.Bytes})
	for entries := 0; ; entries++ {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if entries >= limits.Entries {
			return fmt.Errorf("archive has more than %d entries", limits.Entries)
		}
		if err := u.entry(header, reader); err != nil {
			return fmt.Errorf("unpack %q: %w", header.Name, err)
		}
	}
}

type unpacker struct {
	root *os.Root
	left int64
}

func (u *unpacker) entry(h *tar.Header, body io.Reader) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root of an image must be a directory")
		}
		return u.attributes(name, h)
	}
	if err := u.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if base := path.Base(name); strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(path.Dir(name), base)
	}
	made, err := u.create(name, h, body)
	if err != nil || !made {
		return err
	}
	return u.attributes(name, h)
}

// create makes the entry itself, replacing one of the same name; it says
// whether there is anything to give attributes to.
func (u *unpacker) create(name string, h *tar.Header, body io.Reader) (bool, error) {
	if info, err := u.root.Lstat(name); err == nil && !(info.IsDir() && h.Typeflag == tar.TypeDir) {
		if err := u.root.RemoveAll(name); err != nil {
			return false, err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		err := u.root.Mkdir(name, 0o755)
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return true, err
	case tar.TypeReg, tar.TypeGNUSparse:
		return true, u.file(name, h.Size, body)
	case tar.TypeSymlink:
		return true, u.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		target, err := cleanName(h.Linkname)
		if err != nil {
			return false, fmt.Errorf("link target: %w", err)
		}
		return false, u.root.Link(target, name)
	case tar.TypeFifo:
		return true, u.at(path.Dir(name), func(fd int) error {
			return unix.Mkfifoat(fd, path.Base(name), 0o600)
		})
	case tar.TypeChar, tar.TypeBlock:
		return false, nil // the container has its own /dev
	default:
		return false, fmt.Errorf("entry of unknown type %q", h.Typeflag)
	}
}

func (u *unpacker) file(name string, size int64, body io.Reader) error {
	if u.left -= size; u.left < 0 {
		return errors.New("layer is larger than allowed")
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}

func (u *unpacker) attributes(name string, h *tar.Header) error {
	if err := u.root.Lchown(name, h.Uid, h.Gid); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		return nil
	}
	// After the owner: chown takes the set-user-id bit away.
	if err := u.chmod(name, uint32(h.Mode&0o7777)); err != nil {
		return err
	}
	if value, ok := h.PAXRecords["SCHILY.xattr."+capabilityAttr]; ok && h.Typeflag == tar.TypeReg {
		f, err := u.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := unix.Fsetxattr(int(f.Fd()), capabilityAttr, []byte(value), 0); err != nil {
			return fmt.Errorf("set %s: %w", capabilityAttr, err)
		}
	}
	if !h.ModTime.IsZero() {
		return u.root.Chtimes(name, h.ModTime, h.ModTime)
	}
	return nil
}

func (u *unpacker) chmod(name string, mode uint32) error {
	perm := fs.FileMode(mode & 0o777)
	for bit, m := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			perm |= m
		}
	}
	return u.root.Chmod(name, perm)
}

// whiteout writes the changeset's mark of a removal in overlayfs's form.
func (u *unpacker) whiteout(dir, base string) error {
	if base == opaqueMarker {
		return u.at(dir, func(fd int) error {
			return unix.Fsetxattr(fd, "trusted.overlay.opaque", []byte("y"), 0)
		})
	}
	name := strings.TrimPrefix(base, whiteoutPrefix)
	if name == "" || name == "." || name == ".." {
		return errors.New("whiteout of no name")
	}
	if strings.HasPrefix(name, whiteoutPrefix) {
		return nil // aufs's own bookkeeping (.wh..wh.plnk and such)
	}
	if err := u.root.RemoveAll(path.Join(dir, name)); err != nil {
		return err
	}
	return u.at(dir, func(fd int) error {
		return unix.Mknodat(fd, name, unix.S_IFCHR, 0)
	})
}

// at gives f the descriptor of a directory in the layer.
func (u *unpacker) at(dir string, f func(fd int) error) error {
	d, err := u.root.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(int(d.Fd()))
}

// cleanName makes a name relative to the layer, or refuses it.
func cleanName(name string) (string, error) {
	if strings.ContainsRune(name, 0) || len(name) > 4096 {
		return "", errors.New("name is malformed")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", errors.New("name leaves the image")
		}
	}
	return path.Clean("./" + strings.TrimLeft(name, "/")), nil
}

// boundedReader fails, rather than ends, when more than left bytes come.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errors.New("layer is larger than allowed")
	}
	return n, err
}
