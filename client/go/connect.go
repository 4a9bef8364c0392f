package dirty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How long an HTTP/2 server that was connected to may take until it says something. It speaks first, at once.
const greetingTime = time.Second

// The longest path that fits a Unix socket's address.
const longestPath = 107

// socketPaths is where to look for dirtyd's client socket.
func socketPaths(chosen string) []string {
	if chosen != "" {
		return []string{chosen}
	}
	var paths []string
	add := func(path string) {
		for _, known := range paths {
			if known == path {
				return
			}
		}
		paths = append(paths, path)
	}
	if path := os.Getenv("DIRTY_SOCKET"); path != "" {
		add(path)
	}
	add("/run/dirty/dirty.sock")
	if folder := os.Getenv("XDG_RUNTIME_DIR"); folder != "" {
		add(filepath.Join(folder, "dirty", "dirty.sock"))
	}
	return paths
}

// dialer connects to the first path that answers and then stays with it. Safe for concurrent use.
type dialer struct {
	mu      sync.Mutex
	paths   []string
	failure string        // of the last attempt: each path, and why not
	failed  chan struct{} // closed by the next failure; nil if nobody waits for it
}

// path is the one that answered, or the first to try.
func (d *dialer) path() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.paths[0]
}

// lastFailure is why the last attempt failed; empty if none did.
func (d *dialer) lastFailure() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failure
}

// nextFailure is closed when the next attempt has failed.
func (d *dialer) nextFailure() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		d.failed = make(chan struct{})
	}
	return d.failed
}

// dial is what gRPC calls.
func (d *dialer) dial(ctx context.Context, _ string) (net.Conn, error) {
	d.mu.Lock()
	paths := d.paths
	d.mu.Unlock()
	var failures []string
	for _, path := range paths {
		connection, err := connect(ctx, path)
		if err == nil {
			d.mu.Lock()
			d.paths, d.failure = []string{path}, ""
			d.mu.Unlock()
			return connection, nil
		}
		failures = append(failures, fmt.Sprintf("%s: %v", path, err))
	}
	failure := strings.Join(failures, "; ")
	d.mu.Lock()
	d.failure = failure
	if d.failed != nil {
		close(d.failed)
		d.failed = nil
	}
	d.mu.Unlock()
	return nil, errors.New(failure)
}

// connect is a connection whose other end has begun to speak; the error says why there is none.
func connect(ctx context.Context, path string) (net.Conn, error) {
	if len(path) > longestPath {
		return nil, fmt.Errorf("too long: %d bytes, a socket's path has at most %d", len(path), longestPath)
	}
	connection, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, obstacle(path, err)
	}
	first := make([]byte, 1)
	connection.SetReadDeadline(time.Now().Add(greetingTime))
	if _, err := connection.Read(first); err != nil {
		connection.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, errors.New("connected, but no answer: is it stopped, or not dirtyd?")
		}
		return nil, fmt.Errorf("accepted and closed at once: check allow_uids and allow_gids of dirtyd, you are uid %d, gid %d",
			os.Geteuid(), os.Getegid())
	}
	connection.SetReadDeadline(time.Time{})
	return &greeted{Conn: connection, first: first}, nil
}

// greeted gives back the byte that was read ahead.
type greeted struct {
	net.Conn
	first []byte
}

func (g *greeted) Read(into []byte) (int, error) {
	if len(g.first) > 0 && len(into) > 0 {
		read := copy(into, g.first)
		g.first = g.first[read:]
		return read, nil
	}
	return g.Conn.Read(into)
}

// obstacle says why path cannot be connected to.
func obstacle(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		return errors.New("absent")
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, io.EOF):
		return errors.New("nobody is listening")
	case errors.Is(err, os.ErrPermission):
		return errors.New("permission denied: " + whoMay(path))
	case errors.Is(err, syscall.EAGAIN):
		return errors.New("busy: too many connections wait to be accepted")
	}
	var system syscall.Errno
	if errors.As(err, &system) {
		return system
	}
	return err
}

// whoMay says who may use the socket, and what to do: `dirty:dirty 0660, you are uid 33; join group dirty`.
func whoMay(path string) string {
	you := fmt.Sprintf("you are uid %d", os.Geteuid())
	describe := func(file os.FileInfo) (string, *syscall.Stat_t) {
		owner, ok := file.Sys().(*syscall.Stat_t)
		if !ok {
			return you, nil
		}
		return fmt.Sprintf("%s:%s %04o, %s", userName(owner.Uid), groupName(owner.Gid), file.Mode().Perm(), you), owner
	}
	if file, err := os.Stat(path); err == nil {
		text, owner := describe(file)
		switch {
		case owner == nil:
			return text
		case file.Mode().Perm()&0o020 == 0:
			return text + "; its socket_mode lets only its owner in"
		case owner.Gid == 0:
			return text + "; set socket_group to a group of yours"
		}
		return text + "; join group " + groupName(owner.Gid)
	}
	// Some folder above may not be searched: the outermost such one is the obstacle.
	for end, c := range path {
		if folder := path[:end]; c == '/' && end > 0 && syscall.Access(folder, 1) != nil {
			if file, err := os.Stat(folder); err == nil {
				text, _ := describe(file)
				return "folder " + folder + " is " + text
			}
		}
	}
	return you
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if found, err := user.LookupId(id); err == nil {
		return found.Username
	}
	return id
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if found, err := user.LookupGroupId(id); err == nil {
		return found.Name
	}
	return id
}
