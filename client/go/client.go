package dirty

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"dirty.dev/client/go/dirtyv1"
)

const (
	defaultConnectTimeout = 5 * time.Second
	defaultMaxMessageSize = 64 << 20

	// How much later than the call's own deadline the RPC's is: dirtyd's answer says more than a broken RPC.
	answerTime = time.Second

	// Between attempts to connect.
	firstBackoff, longestBackoff = 5 * time.Millisecond, 250 * time.Millisecond

	// Longest attempt: all paths, each with its greeting.
	attemptTime = 5 * greetingTime

	// Details of errors travel in headers.
	maxHeaderBytes = 64 << 10
)

// ClientOption changes how a client reaches dirtyd.
type ClientOption func(*options)

type options struct {
	socket         string
	connectTimeout time.Duration
	maxMessageSize int
	traceparent    func(context.Context) string
}

// WithSocket sets dirtyd's client socket. The default: $DIRTY_SOCKET, then /run/dirty/dirty.sock and
// $XDG_RUNTIME_DIR/dirty/dirty.sock; the first that answers, which the client then stays with.
func WithSocket(path string) ClientOption { return func(o *options) { o.socket = path } }

// WithConnectTimeout sets how long a call waits for the socket, whatever the obstacle, before it fails with Connection.
// The default: 5 s. 0: one attempt.
func WithConnectTimeout(time time.Duration) ClientOption {
	return func(o *options) { o.connectTimeout = time }
}

// WithMaxMessageSize sets above how many bytes requests fail with TooLarge before anything is sent: dirtyd's
// max_message_size. The default: 64 MiB. 0: no limit.
func WithMaxMessageSize(bytes int) ClientOption { return func(o *options) { o.maxMessageSize = bytes } }

// WithTraceparent sets where a call's W3C trace context comes from: the value of the header traceparent for a context,
// or an empty text.
func WithTraceparent(from func(context.Context) string) ClientOption {
	return func(o *options) { o.traceparent = from }
}

// Client calls apps through one dirtyd. It is safe for concurrent use: make one and keep it. One connection serves all
// calls; the first makes it, and a later one makes it again when it is gone.
type Client struct {
	options options
	dialer  *dialer
	channel *grpc.ClientConn
	arbiter dirtyv1.ArbiterClient
}

// NewClient makes a client. Nothing is connected before the first call.
func NewClient(with ...ClientOption) (*Client, error) {
	chosen := options{connectTimeout: defaultConnectTimeout, maxMessageSize: defaultMaxMessageSize}
	for _, option := range with {
		option(&chosen)
	}
	if chosen.connectTimeout < 0 {
		return nil, fmt.Errorf("dirty: the connect timeout is %s, below 0", chosen.connectTimeout)
	}
	if chosen.maxMessageSize < 0 {
		return nil, fmt.Errorf("dirty: the maximal message size is %d, below 0", chosen.maxMessageSize)
	}
	dialer := &dialer{paths: socketPaths(chosen.socket)}
	channel, err := grpc.NewClient("passthrough:///dirtyd",
		grpc.WithContextDialer(dialer.dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(time.Minute), // a dirtyd that is not there is looked for no longer than that
		grpc.WithMaxHeaderListSize(maxHeaderBytes),
		grpc.WithStatsHandler(sentMarker{}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstBackoff, Multiplier: 2, Jitter: 0.2, MaxDelay: longestBackoff},
			MinConnectTimeout: attemptTime,
		}),
		// dirtyd limits results; requests are checked before.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
	)
	if err != nil {
		return nil, fmt.Errorf("dirty: %w", err)
	}
	return &Client{options: chosen, dialer: dialer, channel: channel, arbiter: dirtyv1.NewArbiterClient(channel)}, nil
}

// Close ends the connection. Calls in flight fail with OutcomeUnknown or Cancelled.
func (c *Client) Close() error { return c.channel.Close() }

// connect returns once there is a connection, or fails when patience, which patience(ctx) gave, has ended.
func (c *Client) connect(ctx, patience context.Context) *Error {
	for patience.Err() == nil {
		state := c.channel.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			c.channel.Connect()
		case connectivity.Shutdown:
			return &Error{Reason: Connection, Message: "the client is closed"}
		}
		c.channel.WaitForStateChange(patience, state)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return unsent(ctx.Err())
	}
	return c.unreachable(ctx.Err())
}

// patience is how long a call looks for a connection.
func (c *Client) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.options.connectTimeout == 0 {
		return c.oneAttempt(ctx)
	}
	return context.WithTimeout(ctx, c.options.connectTimeout)
}

// oneAttempt is a context that ends when the next attempt to connect has failed. gRPC's own states do not tell: a channel
// that failed once stays in that state until it is ready.
func (c *Client) oneAttempt(ctx context.Context) (context.Context, context.CancelFunc) {
	wait, stop := context.WithTimeout(ctx, attemptTime)
	failed := c.dialer.nextFailure()
	go func() {
		select {
		case <-failed:
			stop()
		case <-wait.Done():
		}
	}()
	return wait, stop
}

// unreachable is the failure of a call that found no connection in time.
func (c *Client) unreachable(cause error) *Error {
	failure := c.dialer.lastFailure()
	if failure == "" {
		failure = c.dialer.path() + ": no connection in time"
	}
	return &Error{Reason: Connection, Message: "cannot reach dirtyd: " + failure, cause: cause}
}

// unsent is the failure of a call whose context had ended before it was sent.
func unsent(cause error) *Error {
	if errors.Is(cause, context.Canceled) {
		return &Error{Reason: Cancelled, Message: "cancelled before it was sent", cause: cause}
	}
	return &Error{Reason: QueueTimeout, Message: "its time was over before it was sent", cause: cause}
}
