package agent

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	agentv1 "github.com/contrail-mesos/contrail/api/mesos/v1/agent"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// errNoFile is the answer for every path that is not below the sandboxes: 404
// without a text.
var errNoFile = codec.Errorf(http.StatusNotFound, "")

// maxRead bounds one answer with a file's content, in bytes.
const maxRead = 1 << 20

// openFile opens a path below WORK/slaves. Links in a sandbox are the task's:
// what leads out of the sandboxes is refused by os.Root.
func (a *Agent) openFile(path string) (*os.File, fs.FileInfo, error) {
	base := filepath.Join(a.config.WorkDir, "slaves")
	relative, err := filepath.Rel(base, path)
	if err != nil || !filepath.IsAbs(path) || !filepath.IsLocal(relative) || strings.ContainsRune(path, 0) {
		return nil, nil, errNoFile
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	// "latest" is an absolute link of our own.
	if parts := strings.Split(relative, "/"); len(parts) > 6 && parts[5] == "runs" && parts[6] == "latest" {
		if to, err := os.Readlink(filepath.Join(base, filepath.Join(parts[:7]...))); err == nil {
			parts[6] = filepath.Base(to)
			relative = filepath.Join(parts...)
		}
	}
	// A FIFO of the task must not block the agent.
	f, err := root.OpenFile(relative, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, errNoFile
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() && !info.IsDir() {
		f.Close()
		return nil, nil, errNoFile
	}
	return f, info, nil
}

func (a *Agent) list(path string) ([]*mesosv1.FileInfo, error) {
	dir, info, err := a.openFile(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if !info.IsDir() {
		return nil, errNoFile
	}
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	all := []*mesosv1.FileInfo{}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		stat := info.Sys().(*syscall.Stat_t)
		all = append(all, &mesosv1.FileInfo{
			Path: proto.String(filepath.Join(path, e.Name())), Nlink: proto.Int32(int32(stat.Nlink)),
			Size: proto.Uint64(uint64(info.Size())), Mode: proto.Uint32(stat.Mode),
			Mtime: &mesosv1.TimeInfo{Nanoseconds: proto.Int64(info.ModTime().Unix() * 1e9)},
			Uid:   proto.String(userName(stat.Uid)), Gid: proto.String(groupName(stat.Gid)),
		})
	}
	sortBy(all, func(x, y *mesosv1.FileInfo) int { return cmp.Compare(x.GetPath(), y.GetPath()) })
	return all, nil
}

func userName(id uint32) string {
	if u, err := user.LookupId(strconv.Itoa(int(id))); err == nil {
		return u.Username
	}
	return strconv.Itoa(int(id))
}

func groupName(id uint32) string {
	if g, err := user.LookupGroupId(strconv.Itoa(int(id))); err == nil {
		return g.Name
	}
	return strconv.Itoa(int(id))
}

func (a *Agent) content(path string, offset int64, length int64) (size int64, data []byte, err error) {
	f, info, err := a.openFile(path)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	if info.IsDir() {
		return 0, nil, codec.Errorf(http.StatusBadRequest, "Cannot read a directory.\n")
	}
	if length < 0 || length > maxRead {
		length = maxRead
	}
	data, err = io.ReadAll(io.NewSectionReader(f, offset, length))
	return info.Size(), data, err
}

func (a *Agent) listFiles(r *agentv1.Response, call *agentv1.Call_ListFiles) (*agentv1.Response, error) {
	if call == nil {
		return nil, codec.Errorf(http.StatusBadRequest, "Failed to validate agent::Call: Expecting 'list_files' to be present")
	}
	all, err := a.list(call.GetPath())
	r.ListFiles = &agentv1.Response_ListFiles{FileInfos: all}
	return r, err
}

func (a *Agent) readFile(r *agentv1.Response, call *agentv1.Call_ReadFile) (*agentv1.Response, error) {
	if call == nil {
		return nil, codec.Errorf(http.StatusBadRequest, "Failed to validate agent::Call: Expecting 'read_file' to be present")
	}
	length := int64(-1)
	if call.Length != nil {
		length = int64(min(call.GetLength(), maxRead))
	}
	size, data, err := a.content(call.GetPath(), int64(min(call.GetOffset(), 1<<62)), length)
	r.ReadFile = &agentv1.Response_ReadFile{Size: proto.Uint64(uint64(size)), Data: data}
	return r, err
}

func pathOf(w http.ResponseWriter, r *http.Request) (string, bool) {
	path := r.URL.Query().Get("path")
	if path == "" {
		codec.WriteError(w, codec.Errorf(http.StatusBadRequest, "Expecting 'path=value' in query.\n"))
	}
	return path, path != ""
}

// browse is /files/browse.
func (a *Agent) browse(w http.ResponseWriter, r *http.Request) {
	path, ok := pathOf(w, r)
	if !ok {
		return
	}
	all, err := a.list(path)
	if err != nil {
		codec.WriteError(w, err)
		return
	}
	out := []map[string]any{}
	for _, f := range all {
		out = append(out, map[string]any{
			"path": f.GetPath(), "nlink": f.GetNlink(), "size": f.GetSize(), "mode": modeText(f.GetMode()),
			"mtime": double(f.GetMtime().GetNanoseconds() / 1e9), "uid": f.GetUid(), "gid": f.GetGid(),
		})
	}
	writeJSON(w, out)
}

// modeText is as in ls -l.
func modeText(mode uint32) string {
	text := []byte("?rwxrwxrwx")
	kinds := map[uint32]byte{unix.S_IFREG: '-', unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFIFO: 'p', unix.S_IFSOCK: 's', unix.S_IFCHR: 'c', unix.S_IFBLK: 'b'}
	if kind, ok := kinds[mode&unix.S_IFMT]; ok {
		text[0] = kind
	}
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			text[i+1] = '-'
		}
	}
	return string(text)
}

// read is /files/read. Without an offset, and with -1, it tells the size.
func (a *Agent) read(w http.ResponseWriter, r *http.Request) {
	path, ok := pathOf(w, r)
	if !ok {
		return
	}
	offset, length := int64(-1), int64(-1)
	for name, to := range map[string]*int64{"offset": &offset, "length": &length} {
		text := r.URL.Query().Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < -1 {
			codec.WriteError(w, codec.Errorf(http.StatusBadRequest, "Failed to parse %s: %q is no number from -1.\n", name, text))
			return
		}
		*to = n
	}
	size, data, err := a.content(path, max(0, offset), length)
	if err != nil {
		codec.WriteError(w, err)
		return
	}
	if offset < 0 {
		offset, data = size, nil
	}
	writeJSON(w, map[string]any{"data": strings.ToValidUTF8(string(data), string(utf8.RuneError)), "offset": offset})
}

// download is /files/download.
func (a *Agent) download(w http.ResponseWriter, r *http.Request) {
	path, ok := pathOf(w, r)
	if !ok {
		return
	}
	f, info, err := a.openFile(path)
	if err != nil {
		codec.WriteError(w, err)
		return
	}
	defer f.Close()
	if info.IsDir() {
		codec.WriteError(w, codec.Errorf(http.StatusBadRequest, "Cannot download a directory.\n"))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": filepath.Base(path)}))
	io.CopyN(w, f, info.Size()) // it may grow meanwhile
}
