package dirty_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	dirty "dirty.dev/client/go"
	"dirty.dev/client/go/dirtyv1"
)

// fakeArbiter answers Execute as a test says.
type fakeArbiter struct {
	dirtyv1.UnimplementedArbiterServer
	execute func(context.Context, *dirtyv1.ExecuteRequest) (*dirtyv1.ExecuteResponse, error)
}

func (f *fakeArbiter) Execute(ctx context.Context, request *dirtyv1.ExecuteRequest) (*dirtyv1.ExecuteResponse, error) {
	return f.execute(ctx, request)
}

// fake serves a fakeArbiter until the test ends, or until it is stopped.
func fake(t *testing.T, execute func(context.Context, *dirtyv1.ExecuteRequest) (*dirtyv1.ExecuteResponse, error)) (
	string, *grpc.Server) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	return path, fakeAt(t, path, execute)
}

func fakeAt(t *testing.T, path string,
	execute func(context.Context, *dirtyv1.ExecuteRequest) (*dirtyv1.ExecuteResponse, error)) *grpc.Server {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	dirtyv1.RegisterArbiterServer(server, &fakeArbiter{execute: execute})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return server
}

func newClient(t *testing.T, options ...dirty.ClientOption) *dirty.Client {
	t.Helper()
	client, err := dirty.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// failureOf is the Error in err, of this reason.
func failureOf(t *testing.T, err error, reason dirty.Reason) *dirty.Error {
	t.Helper()
	var failure *dirty.Error
	if !errors.As(err, &failure) || !errors.Is(err, reason) || failure.Reason != reason {
		t.Fatalf("%v is not %s", err, reason)
	}
	return failure
}

func TestDeadlineIsInTheMessageAndALittleLaterInTheRPC(t *testing.T) {
	var inMessage, inRPC atomic.Int64
	path, _ := fake(t, func(ctx context.Context, request *dirtyv1.ExecuteRequest) (*dirtyv1.ExecuteResponse, error) {
		inMessage.Store(int64(request.GetTimeout().AsDuration()))
		if deadline, ok := ctx.Deadline(); ok {
			inRPC.Store(int64(time.Until(deadline)))
		}
		return &dirtyv1.ExecuteResponse{Result: "null"}, nil
	})
	client := newClient(t, dirty.WithSocket(path))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := client.Execute(ctx, "a:A", "act"); err != nil {
		t.Fatal(err)
	}
	message, rpc := time.Duration(inMessage.Load()), time.Duration(inRPC.Load())
	if message <= 50*time.Second || message > time.Minute || rpc <= message || rpc > message+2*time.Second {
		t.Errorf("the message has %s, the RPC %s", message, rpc)
	}
	if _, err := client.Execute(context.Background(), "a:A", "act"); err != nil || inMessage.Load() != 0 {
		t.Errorf("without a deadline: %d, %v", inMessage.Load(), err)
	}
}

func TestTraceparentTravelsAsMetadata(t *testing.T) {
	var seen atomic.Value
	path, _ := fake(t, func(ctx context.Context, _ *dirtyv1.ExecuteRequest) (*dirtyv1.ExecuteResponse, error) {
		incoming, _ := metadata.FromIncomingContext(ctx)
		seen.Store(strings.Join(incoming.Get("traceparent"), ","))
		return &dirtyv1.ExecuteResponse{Result: "null"}, nil
	})
	type key struct{}
	client := newClient(t, dirty.WithSocket(path), dirty.WithTraceparent(func(ctx context.Context) string {
		parent, _ := ctx.Value(key{}).(string)
		return parent
	}))
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, test := range []struct {
		ctx  context.Context
		args []any
		want string
	}{
		{context.Background(), nil, ""},
		{context.WithValue(context.Background(), key{}, parent), nil, parent},
		{context.Background(), []any{dirty.Traceparent(parent)}, parent},
		{metadata.AppendToOutgoingContext(context.Background(), "traceparent", parent), nil, parent},
	} {
		if _, err := client.Execute(test.ctx, "a:A", "act", test.args...); err != nil || seen.Load() != test.want {
			t.Errorf("%q (%v), not %q", seen.Load(), err, test.want)
		}
	}
}

func TestWhatCannotBeSentIsRefused(t *testing.T) {
	path, _ := fake(t, func(context.Context, *dirtyv1.ExecuteRequest) (*dirtyv1.ExecuteResponse, error) {
		return &dirtyv1.ExecuteResponse{Result: "null"}, nil
	})
	client := newClient(t, dirty.WithSocket(path))
	ctx := context.Background()
	_, err := client.Execute(ctx, "a:A", "act", dirty.Traceparent("a\nb"))
	failureOf(t, err, dirty.InvalidRequest)
	for _, err := range client.Stream(ctx, "a:A", "act", dirty.Traceparent("\u00e9")) {
		failureOf(t, err, dirty.InvalidRequest)
	}
	_, err = client.ExecuteRaw(ctx, "a:A", "act", "[]", "", nil, dirty.Kwargs{"lost": 1})
	failureOf(t, err, dirty.InvalidRequest)
}

func TestACallThatIsCutOffIsNotSentAgain(t *testing.T) {
	var calls atomic.Int64
	running := make(chan struct{})
	path, server := fake(t, func(ctx context.Context, _ *dirtyv1.ExecuteRequest) (*dirtyv1.ExecuteResponse, error) {
		calls.Add(1)
		close(running)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	client := newClient(t, dirty.WithSocket(path), dirty.WithConnectTimeout(0))
	go func() {
		<-running
		server.Stop()
	}()
	_, err := client.Execute(context.Background(), "a:A", "act")
	failure := failureOf(t, err, dirty.OutcomeUnknown)
	if !strings.Contains(failure.Message, "outcome unknown") || !strings.Contains(failure.Message, path) {
		t.Error(failure.Message)
	}
	if failure.App != "a:A" || failure.Action != "act" || calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
}

// gRPC's state of a connection lags behind: who has seen it break may be told for a moment that it is there.
func TestACallRightAfterABreakWasNotSent(t *testing.T) {
	running := make(chan struct{})
	answer := func(ctx context.Context, request *dirtyv1.ExecuteRequest) (*dirtyv1.ExecuteResponse, error) {
		if request.GetAction() == "hold" {
			running <- struct{}{}
			<-ctx.Done()
		}
		return &dirtyv1.ExecuteResponse{Result: "null"}, nil
	}
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "s")
	seeBreak := func(client *dirty.Client, server *grpc.Server) {
		go func() {
			<-running
			server.Stop()
		}()
		_, err := client.Execute(ctx, "a:A", "hold")
		failureOf(t, err, dirty.OutcomeUnknown)
	}
	impatient := newClient(t, dirty.WithSocket(path), dirty.WithConnectTimeout(0))
	for range 200 {
		seeBreak(impatient, fakeAt(t, path, answer))
		_, err := impatient.Execute(ctx, "a:A", "act")
		failureOf(t, err, dirty.Connection)
		seeBreak(impatient, fakeAt(t, path, answer))
		for _, err := range impatient.Stream(ctx, "a:A", "act") {
			failureOf(t, err, dirty.Connection)
		}
	}
	patient := newClient(t, dirty.WithSocket(path))
	server := fakeAt(t, path, answer)
	for range 50 {
		seeBreak(patient, server)
		again := make(chan *grpc.Server)
		go func() { again <- fakeAt(t, path, answer) }()
		if _, err := patient.Execute(ctx, "a:A", "act"); err != nil {
			t.Fatal(err)
		}
		server = <-again
	}
}

func TestACallThatNobodyAnswersNamesTheLimitThatItHad(t *testing.T) {
	path, _ := fake(t, func(ctx context.Context, _ *dirtyv1.ExecuteRequest) (*dirtyv1.ExecuteResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	const limit = 200 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := newClient(t, dirty.WithSocket(path)).Execute(ctx, "a:A", "act")
	failure := failureOf(t, err, dirty.Timeout)
	if failure.Timeout <= 0 || failure.Timeout > limit || !strings.Contains(failure.Message, "outcome unknown") {
		t.Errorf("%v with %s", failure, failure.Timeout)
	}
}

func TestAForeignAnswerThatIsNotJSONIsAnError(t *testing.T) {
	path, _ := fake(t, func(context.Context, *dirtyv1.ExecuteRequest) (*dirtyv1.ExecuteResponse, error) {
		return &dirtyv1.ExecuteResponse{Result: "{", CallId: "x-1"}, nil
	})
	result, err := newClient(t, dirty.WithSocket(path)).Execute(context.Background(), "a:A", "act")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := result.Value(); err == nil || !strings.Contains(err.Error(), "call x-1") {
		t.Error(err)
	}
}
