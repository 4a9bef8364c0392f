package dirty_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	dirty "dirty.dev/client/go"
)

// unreachable is the message of a call on a client with these options, which cannot connect.
func unreachable(t *testing.T, options ...dirty.ClientOption) string {
	t.Helper()
	client := newClient(t, options...)
	_, err := client.Execute(context.Background(), "a:A", "act")
	failure := failureOf(t, err, dirty.Connection)
	if failure.App != "a:A" || failure.Action != "act" {
		t.Errorf("of %s %s", failure.App, failure.Action)
	}
	return failure.Message
}

func TestEveryPathIsTriedAndNamed(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("DIRTY_SOCKET", filepath.Join(folder, "chosen"))
	t.Setenv("XDG_RUNTIME_DIR", folder)
	said := unreachable(t, dirty.WithConnectTimeout(0))
	for _, path := range []string{filepath.Join(folder, "chosen"), filepath.Join(folder, "dirty", "dirty.sock")} {
		if !strings.Contains(said, path+": absent") {
			t.Errorf("%s is not in: %s", path, said)
		}
	}
	if !strings.HasPrefix(said, "cannot reach dirtyd: ") || !strings.Contains(said, "/run/dirty/dirty.sock: ") {
		t.Error(said)
	}
}

func TestAChosenSocketIsTheOnlyOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if said := unreachable(t, dirty.WithSocket(path), dirty.WithConnectTimeout(0)); said != "cannot reach dirtyd: "+path+": absent" {
		t.Error(said)
	}
}

func TestNobodyIsListening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	if said := unreachable(t, dirty.WithSocket(path), dirty.WithConnectTimeout(0)); !strings.Contains(said, "nobody is listening") {
		t.Error(said)
	}
}

// accepting gives each connection to serve.
func accepting(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(connection)
		}
	}()
	return path
}

func TestAServerThatSaysNothing(t *testing.T) {
	path := accepting(t, func(connection net.Conn) { io.Copy(io.Discard, connection) })
	if said := unreachable(t, dirty.WithSocket(path), dirty.WithConnectTimeout(0)); !strings.Contains(said, "connected, but no answer") {
		t.Error(said)
	}
}

func TestAServerThatLetsNobodyIn(t *testing.T) {
	path := accepting(t, func(connection net.Conn) { connection.Close() })
	if said := unreachable(t, dirty.WithSocket(path), dirty.WithConnectTimeout(0)); !strings.Contains(said, "check allow_uids and allow_gids") {
		t.Error(said)
	}
}

func TestATooLongPath(t *testing.T) {
	path := "/" + strings.Repeat("x", 200)
	if said := unreachable(t, dirty.WithSocket(path), dirty.WithConnectTimeout(0)); !strings.Contains(said, "too long: 201 bytes") {
		t.Error(said)
	}
}

// Runs itself as somebody else: root may do everything.
func TestPermissionDenied(t *testing.T) {
	if path := os.Getenv("DIRTY_GO_FORBIDDEN"); path != "" {
		said := unreachable(t, dirty.WithSocket(path), dirty.WithConnectTimeout(0))
		if !strings.Contains(said, "permission denied: ") || !strings.Contains(said, "you are uid 65534; its socket_mode lets only its owner in") {
			t.Error(said)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	path := accepting(t, func(connection net.Conn) { connection.Close() })
	if err := errors.Join(os.Chmod(path, 0o600), openUp(filepath.Dir(path))); err != nil {
		t.Fatal(err)
	}
	itself, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(filepath.Dir(path), "test")
	if err := os.WriteFile(program, itself, 0o755); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "-test.run=^TestPermissionDenied$")
	command.Dir = "/"
	command.Env = append(os.Environ(), "DIRTY_GO_FORBIDDEN="+path)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// openUp lets everybody into a test's folder and those around it.
func openUp(folder string) error {
	for ; folder != os.TempDir() && len(folder) > 1; folder = filepath.Dir(folder) {
		if err := os.Chmod(folder, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func TestACallWaitsForTheSocketNoLongerThanTheConnectTimeout(t *testing.T) {
	client := newClient(t, dirty.WithSocket(filepath.Join(t.TempDir(), "s")), dirty.WithConnectTimeout(300*time.Millisecond))
	began := time.Now()
	_, err := client.Execute(context.Background(), "a:A", "act")
	failureOf(t, err, dirty.Connection)
	if took := time.Since(began); took < 300*time.Millisecond || took > 5*time.Second {
		t.Error(took)
	}
}

func TestAClientWithoutPatienceFailsEachTimeAtOnce(t *testing.T) {
	client := newClient(t, dirty.WithSocket(filepath.Join(t.TempDir(), "s")), dirty.WithConnectTimeout(0))
	for range 20 {
		_, err := client.Execute(context.Background(), "a:A", "act")
		failureOf(t, err, dirty.Connection)
	}
}

func TestTheContextEndsTheWait(t *testing.T) {
	client := newClient(t, dirty.WithSocket(filepath.Join(t.TempDir(), "s")))
	late, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := client.Execute(late, "a:A", "act")
	failureOf(t, err, dirty.Connection)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	cancelled, cancelIt := context.WithCancel(context.Background())
	cancelIt()
	_, err = client.Execute(cancelled, "a:A", "act")
	failureOf(t, err, dirty.Cancelled)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, option := range []dirty.ClientOption{dirty.WithConnectTimeout(-1), dirty.WithMaxMessageSize(-1)} {
		if _, err := dirty.NewClient(option); err == nil {
			t.Error("no error")
		}
	}
}
