package dirty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"dirty.dev/client/go/dirtyv1"
)

// CallOption, anywhere among the arguments of a call, is no argument: it says something about the call.
type CallOption interface{ apply(*call) }

// Kwargs are the named arguments of a call. Of several with the same name the last counts.
type Kwargs map[string]any

// RequestID is the caller's own name for a call, for logs and traces; the first 128 bytes are kept.
type RequestID string

// Traceparent is the W3C trace context of a call, instead of what WithTraceparent gives.
type Traceparent string

func (k Kwargs) apply(c *call) {
	if c.kwargs == nil {
		c.kwargs = make(map[string]any, len(k))
	}
	for name, value := range k {
		c.kwargs[name] = value
	}
}
func (id RequestID) apply(c *call)       { c.requestID = string(id) }
func (parent Traceparent) apply(c *call) { c.traceparent = string(parent) }

// call is what one call was given.
type call struct {
	app, action string
	args        []any
	kwargs      map[string]any
	requestID   string
	traceparent string
	timeout     time.Duration // what its context left when it was sent; 0: no limit
}

func newCall(app, action string, args []any) *call {
	c := &call{app: app, action: action}
	for _, arg := range args {
		if option, ok := arg.(CallOption); ok {
			option.apply(c)
		} else {
			c.args = append(c.args, arg)
		}
	}
	return c
}

// Result is a call that succeeded, or one value of a stream.
type Result struct {
	json        string
	attachments [][]byte

	// CallID is dirtyd's id of the call. Empty in a stream, as are the following.
	CallID string
	// WorkerID is the worker that ran it.
	WorkerID uint32
	// QueuedTime is from admission until a worker's slot took it.
	QueuedTime time.Duration
	// RunTime is from then until the worker's answer.
	RunTime time.Duration
}

// Decode puts the value into what target points to, as json.Unmarshal does. Bytes go into any []byte, without a copy.
func (r *Result) Decode(target any) error {
	if err := decode(r.json, r.attachments, target); err != nil {
		return fmt.Errorf("dirty: the result of call %s: %w", r.CallID, err)
	}
	return nil
}

// Value is the value as nil, bool, int64, uint64, float64, string, []byte, []any or map[string]any.
func (r *Result) Value() (any, error) {
	var value any
	err := r.Decode(&value)
	return value, err
}

// JSON is the value as text, in which {"$attachment": N} stands for Attachments()[N].
func (r *Result) JSON() string { return r.json }

// Attachments are the bytes in the value.
func (r *Result) Attachments() [][]byte { return r.attachments }

// Execute runs action of app with args and waits for its result. Arguments that are a CallOption (Kwargs, RequestID,
// Traceparent) are none. The error is an *Error.
func (c *Client) Execute(ctx context.Context, app, action string, args ...any) (*Result, error) {
	call := newCall(app, action, args)
	request, failure := c.request(call)
	if failure != nil {
		return nil, call.named(failure)
	}
	return c.execute(ctx, call, request)
}

// ExecuteRaw is Execute with arguments that are JSON text already: an array and an object, each empty if there are
// none. References in them are to attachments. dirtyd checks them.
func (c *Client) ExecuteRaw(ctx context.Context, app, action, args, kwargs string, attachments [][]byte,
	options ...CallOption) (*Result, error) {
	call := &call{app: app, action: action}
	for _, option := range options {
		option.apply(call)
	}
	if call.kwargs != nil {
		return nil, call.named(&Error{Reason: InvalidRequest, Message: "kwargs: JSON text here, not Kwargs"})
	}
	request, failure := c.checked(&dirtyv1.ExecuteRequest{App: app, Action: action, Args: args, Kwargs: kwargs,
		Attachments: attachments, RequestId: call.requestID})
	if failure != nil {
		return nil, call.named(failure)
	}
	return c.execute(ctx, call, request)
}

// ExecuteAs is Execute with its result decoded.
func ExecuteAs[T any](ctx context.Context, c *Client, app, action string, args ...any) (value T, err error) {
	result, err := c.Execute(ctx, app, action, args...)
	if err == nil {
		err = result.Decode(&value)
	}
	return value, err
}

func (c *Client) execute(ctx context.Context, call *call, request *dirtyv1.ExecuteRequest) (*Result, error) {
	var response *dirtyv1.ExecuteResponse
	end, failure := c.send(ctx, call, request, func(rpc context.Context) (err error) {
		response, err = c.arbiter.Execute(rpc, request)
		return err
	})
	if failure != nil {
		return nil, call.named(failure)
	}
	end()
	return &Result{
		json:        response.GetResult(),
		attachments: response.GetAttachments(),
		CallID:      response.GetCallId(),
		WorkerID:    response.GetWorkerId(),
		QueuedTime:  response.GetQueuedTime().AsDuration(),
		RunTime:     response.GetRunTime().AsDuration(),
	}, nil
}

// Stream runs an action that streams and gives its values as they come; one that does not stream gives one. The call
// starts when the loop does. An error, an *Error, comes last, after the values before it. Leaving the loop cancels the
// call.
func (c *Client) Stream(ctx context.Context, app, action string, args ...any) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		call := newCall(app, action, args)
		if failure := c.stream(ctx, call, yield); failure != nil {
			yield(nil, call.named(failure))
		}
	}
}

// StreamAs is Stream with its values decoded.
func StreamAs[T any](ctx context.Context, c *Client, app, action string, args ...any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for chunk, err := range c.Stream(ctx, app, action, args...) {
			var value T
			if err == nil {
				err = chunk.Decode(&value)
			}
			if !yield(value, err) || err != nil {
				return
			}
		}
	}
}

// stream yields the values; what it returns comes after them.
func (c *Client) stream(ctx context.Context, call *call, yield func(*Result, error) bool) *Error {
	request, failure := c.request(call)
	if failure != nil {
		return failure
	}
	var chunks grpc.ServerStreamingClient[dirtyv1.Chunk]
	end, failure := c.send(ctx, call, request, func(rpc context.Context) (err error) {
		chunks, err = c.arbiter.ExecuteStream(rpc, request)
		return err
	})
	if failure != nil {
		return failure
	}
	defer end()
	for {
		chunk, err := chunks.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.failure(ctx, call, err)
		}
		if !yield(&Result{json: chunk.GetValue(), attachments: chunk.GetAttachments()}, nil) {
			return nil
		}
	}
}

// send starts rpc on a connection. If that turns out to be gone before anything was sent, it takes the next one: gRPC's
// state of it lags behind. What may have been sent is never sent again. The function that is returned ends the RPC.
func (c *Client) send(ctx context.Context, call *call, request *dirtyv1.ExecuteRequest,
	rpc func(context.Context) error) (context.CancelFunc, *Error) {
	if failure := c.trace(ctx, call); failure != nil {
		return nil, failure
	}
	if err := ctx.Err(); err != nil {
		return nil, unsent(err)
	}
	var patience context.Context // there is none as long as there is nothing to wait for
	for first := true; ; first = false {
		if !first || c.channel.GetState() != connectivity.Ready {
			if patience == nil {
				var stop context.CancelFunc
				patience, stop = c.patience(ctx)
				defer stop()
			}
			if failure := c.connect(ctx, patience); failure != nil {
				return nil, failure
			}
		}
		var sent atomic.Bool
		rpcContext, end := c.rpcContext(context.WithValue(ctx, sentKey{}, &sent), call, request)
		err := rpc(rpcContext)
		if err == nil {
			return end, nil
		}
		end()
		if sent.Load() || status.Code(err) != codes.Unavailable {
			return nil, c.failure(ctx, call, err)
		}
	}
}

type sentKey struct{}

// sentMarker sets the atomic.Bool under sentKey when an RPC has a stream of some connection.
type sentMarker struct{}

func (sentMarker) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (sentMarker) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sentMarker) HandleConn(context.Context, stats.ConnStats)                       {}
func (sentMarker) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if _, ok := event.(*stats.OutHeader); ok {
		ctx.Value(sentKey{}).(*atomic.Bool).Store(true)
	}
}

// request is the call's message; its timeout is set when it is sent.
func (c *Client) request(call *call) (*dirtyv1.ExecuteRequest, *Error) {
	request := &dirtyv1.ExecuteRequest{App: call.app, Action: call.action, RequestId: call.requestID}
	var encoder encoder
	var err error
	if len(call.args) > 0 {
		request.Args, err = encoder.encode("args", call.args)
	}
	if err == nil && len(call.kwargs) > 0 {
		request.Kwargs, err = encoder.encode("kwargs", call.kwargs)
	}
	if err != nil {
		return nil, &Error{Reason: InvalidRequest, Message: err.Error(), cause: err}
	}
	request.Attachments = encoder.attachments
	return c.checked(request)
}

// checked refuses what would fail on the way.
func (c *Client) checked(request *dirtyv1.ExecuteRequest) (*dirtyv1.ExecuteRequest, *Error) {
	for _, text := range []struct{ name, value string }{{"app", request.GetApp()}, {"action", request.GetAction()},
		{"request_id", request.GetRequestId()}, {"args", request.GetArgs()}, {"kwargs", request.GetKwargs()}} {
		if !utf8.ValidString(text.value) {
			return nil, &Error{Reason: InvalidRequest, Message: text.name + " is not valid UTF-8"}
		}
	}
	if size, limit := proto.Size(request), c.options.maxMessageSize; limit > 0 && size > limit {
		return nil, &Error{Reason: TooLarge,
			Message: fmt.Sprintf("the request has %d bytes, max_message_size is %d", size, limit)}
	}
	return request, nil
}

// trace gives the call its trace context, if it has none. One that no header can hold would break the RPC.
func (c *Client) trace(ctx context.Context, call *call) *Error {
	if call.traceparent == "" && c.options.traceparent != nil {
		call.traceparent = c.options.traceparent(ctx)
	}
	if strings.ContainsFunc(call.traceparent, func(r rune) bool { return r < ' ' || r > '~' }) {
		return &Error{Reason: InvalidRequest, Message: "traceparent is not ASCII text"}
	}
	return nil
}

// rpcContext is the context for sending request, with the call's metadata. A deadline goes into the request, and into
// the RPC a little later, so that dirtyd's answer comes first.
func (c *Client) rpcContext(ctx context.Context, call *call, request *dirtyv1.ExecuteRequest) (context.Context, func()) {
	rpc := context.WithoutCancel(ctx)
	if call.traceparent != "" {
		rpc = metadata.AppendToOutgoingContext(rpc, "traceparent", call.traceparent)
	}
	var cancel context.CancelFunc
	if deadline, ok := ctx.Deadline(); ok {
		call.timeout = max(time.Until(deadline), time.Nanosecond)
		request.Timeout = durationpb.New(call.timeout)
		rpc, cancel = context.WithDeadline(rpc, deadline.Add(answerTime))
	} else {
		rpc, cancel = context.WithCancel(rpc)
	}
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			cancel()
		}
	})
	return rpc, func() {
		stop()
		cancel()
	}
}

// failure is what became of an RPC.
func (c *Client) failure(ctx context.Context, call *call, err error) *Error {
	failure := fromRPC(err, c.dialer.path())
	if failure.Reason == Timeout && failure.Timeout == 0 { // nobody answered
		failure.Timeout = call.timeout
	}
	return call.named(failure.because(ctx))
}

// named adds what an error that was made on the way does not know.
func (c *call) named(failure *Error) *Error {
	if failure.App == "" {
		failure.App = c.app
	}
	if failure.Action == "" {
		failure.Action = c.action
	}
	return failure
}
