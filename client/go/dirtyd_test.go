package dirty_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dirty "dirty.dev/client/go"
)

// dirtyd is a real one with the app of the conformance suite as `app`. $DIRTY_BUILD says where it was built.
type dirtyd struct {
	t       *testing.T
	folder  string
	command *exec.Cmd
}

func startDirtyd(t *testing.T) *dirtyd {
	t.Helper()
	if os.Getenv("DIRTY_BUILD") == "" {
		t.Skip("DIRTY_BUILD is not set: no dirtyd")
	}
	folder, err := os.MkdirTemp("", "dirty-go-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	d := &dirtyd{t: t, folder: folder}
	d.start()
	t.Cleanup(d.stop)
	return d
}

// start returns once every app is ready.
func (d *dirtyd) start() {
	d.t.Helper()
	build := os.Getenv("DIRTY_BUILD")
	config := fmt.Sprintf(`{"runtime_dir": %q, "threads": 4, "max_message_size": "4MiB", "env": {"CONFORMANCE_FOLDER": %q},
		"apps": [{"app": %q, "name": "app"}]}`, d.folder, d.folder, filepath.Join(build, "tests/apps/libconformance.so:Conformance"))
	file := filepath.Join(d.folder, "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.command = exec.Command(filepath.Join(build, "bin/dirtyd"), "--config", file)
	stderr, err := d.command.StderrPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.command.Start(); err != nil {
		d.t.Fatal(err)
	}
	ready := make(chan string, 1)
	go func() {
		var said strings.Builder
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(&said, lines.Text())
			if strings.Contains(lines.Text(), " ready: 1/1 ") {
				ready <- ""
			}
		}
		select {
		case ready <- said.String():
		default:
		}
	}()
	if said := <-ready; said != "" {
		d.t.Fatal("dirtyd did not start: ", said)
	}
}

func (d *dirtyd) kill() {
	d.t.Helper()
	d.command.Process.Kill()
	d.command.Wait()
}

func (d *dirtyd) stop() {
	d.command.Process.Signal(syscall.SIGTERM)
	if err := d.command.Wait(); err != nil && !d.t.Failed() {
		d.t.Error("dirtyd: ", err)
	}
}

func (d *dirtyd) client(options ...dirty.ClientOption) *dirty.Client {
	return newClient(d.t, append([]dirty.ClientOption{dirty.WithSocket(filepath.Join(d.folder, "dirty.sock"))}, options...)...)
}

// awaitNoted waits until the app noted something.
func (d *dirtyd) awaitNoted(client *dirty.Client, name, what string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := client.Execute(ctx, "app", "await_noted", name, what); err != nil {
		d.t.Fatal(err)
	}
}

func TestCallsAndTheirResults(t *testing.T) {
	d := startDirtyd(t)
	client := d.client()
	ctx := context.Background()
	result, err := client.Execute(ctx, "app", "everything", 1, []byte("photo"), dirty.Kwargs{"size": 256}, dirty.RequestID("r"))
	if err != nil {
		t.Fatal(err)
	}
	value, err := result.Value()
	wanted := map[string]any{"args": []any{int64(1), []byte("photo")}, "kwargs": map[string]any{"size": int64(256)}}
	if err != nil || !reflect.DeepEqual(value, wanted) {
		t.Errorf("%v (%v)", value, err)
	}
	if result.CallID == "" || result.WorkerID == 0 || result.RunTime <= 0 || len(result.Attachments()) != 1 ||
		!strings.Contains(result.JSON(), "$attachment") {
		t.Errorf("%+v", result)
	}
	type photo struct {
		Name string `json:"name"`
		Data []byte `json:"data"`
	}
	sent := photo{"leaf", []byte("\x00\xff")}
	if got, err := dirty.ExecuteAs[photo](ctx, client, "app", "echo", sent); err != nil || !reflect.DeepEqual(got, sent) {
		t.Errorf("%+v (%v)", got, err)
	}
	if _, err := dirty.ExecuteAs[int](ctx, client, "app", "echo", "text"); err == nil {
		t.Error("a text is no int")
	}
	raw, err := client.ExecuteRaw(ctx, "app", "echo", `[{"$attachment": 0}]`, "", [][]byte{[]byte("raw")})
	if err != nil || string(raw.Attachments()[0]) != "raw" {
		t.Error(raw, err)
	}
}

func TestStreams(t *testing.T) {
	d := startDirtyd(t)
	client := d.client()
	ctx := context.Background()
	var values []int
	for value, err := range dirty.StreamAs[int](ctx, client, "app", "count", 3) {
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
	}
	if !reflect.DeepEqual(values, []int{0, 1, 2}) {
		t.Error(values)
	}
	// Leaving the loop ends the call.
	for chunk, err := range client.Stream(ctx, "app", "count_forever", "left") {
		if err != nil {
			t.Fatal(err)
		}
		if chunk.JSON() == "10" {
			break
		}
	}
	d.awaitNoted(client, "left", "cancelled")
	// An error comes last.
	var last error
	count := 0
	for _, err := range client.Stream(ctx, "app", "count_and_fail", 2, "after two") {
		last = err
		count++
	}
	if failure := failureOf(t, last, dirty.AppError); failure.Message != "after two" || count != 3 {
		t.Errorf("%v after %d", last, count)
	}
}

func TestErrors(t *testing.T) {
	d := startDirtyd(t)
	client := d.client()
	_, err := client.Execute(context.Background(), "app", "fail", "no such model")
	failure := failureOf(t, err, dirty.AppError)
	if failure.ExceptionType != "ValueError" || failure.CallID == "" || failure.WorkerID == 0 {
		t.Errorf("%+v", failure)
	}
	if err.Error() != "dirty: app fail: APP_ERROR: ValueError: no such model" {
		t.Error(err)
	}
	_, err = client.Execute(context.Background(), "app", "leave", 3)
	if failure := failureOf(t, err, dirty.WorkerLost); failure.ExitCode == nil || *failure.ExitCode != 3 {
		t.Errorf("%+v", failure)
	}
	_, err = client.Execute(context.Background(), "nothing:Here", "act")
	failureOf(t, err, dirty.AppNotFound)
	_, err = d.client(dirty.WithMaxMessageSize(1000)).Execute(context.Background(), "app", "size", make([]byte, 1000))
	if failure := failureOf(t, err, dirty.TooLarge); failure.CallID != "" || !strings.Contains(failure.Message, "max_message_size is 1000") {
		t.Errorf("%+v", failure)
	}
}

func TestDeadlineAndCancellationReachTheApp(t *testing.T) {
	d := startDirtyd(t)
	client := d.client()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := client.Execute(ctx, "app", "hold", "late")
	if failure := failureOf(t, err, dirty.Timeout); failure.CallID == "" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v", failure)
	}
	d.awaitNoted(client, "late", "cancelled")

	ctx, cancel = context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := client.Execute(ctx, "app", "hold", "unwanted")
		ended <- err
	}()
	d.awaitNoted(client, "unwanted", "running")
	cancel()
	err = <-ended
	failureOf(t, err, dirty.Cancelled)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	d.awaitNoted(client, "unwanted", "cancelled")
}

func TestARestartOfDirtyd(t *testing.T) {
	d := startDirtyd(t)
	client := d.client()
	ended := make(chan error, 1)
	go func() {
		_, err := client.Execute(context.Background(), "app", "hold", "cut")
		ended <- err
	}()
	d.awaitNoted(client, "cut", "running")
	d.kill()
	failureOf(t, <-ended, dirty.OutcomeUnknown)
	// Calls that find nobody back off meanwhile.
	impatient, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, err := client.Execute(impatient, "app", "nothing")
	failureOf(t, err, dirty.Connection)
	d.start()
	began := time.Now()
	if _, err := client.Execute(context.Background(), "app", "echo", 1); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the first call after the restart took %s", took)
	}
}

func TestManyCallsAtOnce(t *testing.T) {
	d := startDirtyd(t)
	client := d.client()
	var group sync.WaitGroup
	for i := range 32 {
		group.Add(1)
		go func() {
			defer group.Done()
			for k := range 20 {
				sent := fmt.Sprintf("%d/%d", i, k)
				got, err := dirty.ExecuteAs[[]byte](context.Background(), client, "app", "echo", []byte(sent))
				if err != nil || string(got) != sent {
					t.Errorf("%q is %q (%v)", sent, got, err)
				}
			}
			sum := 0
			for value, err := range dirty.StreamAs[int](context.Background(), client, "app", "count", 50) {
				if err != nil {
					t.Error(err)
				}
				sum += value
			}
			if sum != 49*50/2 {
				t.Error(sum)
			}
		}()
	}
	group.Wait()
}
