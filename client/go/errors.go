package dirty

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dirty.dev/client/go/dirtyv1"
)

// Reason is why a call failed. Each is an error to compare with: errors.Is(err, dirty.QueueFull).
type Reason string

// Reasons that dirtyd decides.
const (
	// InvalidRequest: arguments that cannot be sent, or that dirtyd refuses. Fix the request.
	InvalidRequest Reason = "INVALID_REQUEST"
	// AppNotFound: no such app is configured; the message names the nearest.
	AppNotFound Reason = "APP_NOT_FOUND"
	// NoWorkers: the app is configured, but nothing can serve it.
	NoWorkers Reason = "NO_WORKERS"
	// QueueFull: too many calls wait already. It never started: try again after RetryDelay.
	QueueFull Reason = "QUEUE_FULL"
	// QueueTimeout: it waited too long and never started.
	QueueTimeout Reason = "QUEUE_TIMEOUT"
	// Timeout: it ran too long. It may have had effects.
	Timeout Reason = "TIMEOUT"
	// Cancelled: by the context or an operator.
	Cancelled Reason = "CANCELLED"
	// AppError: the app raised; ExceptionType, Message and Traceback are the app's.
	AppError Reason = "APP_ERROR"
	// WorkerLost: the worker died while it ran the call. The outcome is unknown.
	WorkerLost Reason = "WORKER_LOST"
	// TooLarge: a message or result above max_message_size.
	TooLarge Reason = "TOO_LARGE"
	// ShuttingDown: dirtyd takes no new calls. It never started.
	ShuttingDown Reason = "SHUTTING_DOWN"
	// PermissionDenied: not on this socket.
	PermissionDenied Reason = "PERMISSION_DENIED"
)

// Reasons that the client decides.
const (
	// Connection: dirtyd cannot be reached; the message has each path that was tried, and why not. It never started.
	Connection Reason = "CONNECTION"
	// OutcomeUnknown: the connection broke during the call. It may have run, may be running, or never started.
	OutcomeUnknown Reason = "OUTCOME_UNKNOWN"
	// Unknown: something that this version has no name for; see the message.
	Unknown Reason = "UNKNOWN"
)

// Error makes reasons errors.
func (r Reason) Error() string { return string(r) }

// Error is a failed call. What does not apply to its reason is zero.
type Error struct {
	// Reason is what happened, for programs.
	Reason Reason
	// Message is what happened, where, and what to do, for people.
	Message string
	// App and Action are what was called.
	App, Action string
	// CallID is dirtyd's id of the call, as in its logs; empty if it never got one.
	CallID string
	// WorkerID is the worker that ran it; 0 if none did.
	WorkerID uint32
	// ExceptionType is the type of what the app raised, such as ValueError.
	ExceptionType string
	// Traceback is the app's own, as text.
	Traceback string
	// RetryDelay is after how long another attempt is likely to find a place (QueueFull).
	RetryDelay time.Duration
	// Timeout is the limit that was overrun (Timeout, QueueTimeout).
	Timeout time.Duration
	// ExitCode is that of the worker's process, if it exited by itself (WorkerLost).
	ExitCode *int
	// Signal is what killed it, such as SIGKILL (WorkerLost).
	Signal string
	// StderrTail is the last lines of the worker's standard error, oldest first (WorkerLost).
	StderrTail []string

	// Why, if it was the context or something else on this side.
	cause error
}

// Error is one line: the call, the reason and the message.
func (e *Error) Error() string {
	message := e.Message
	if e.ExceptionType != "" {
		message = e.ExceptionType + ": " + message
	}
	return fmt.Sprintf("dirty: %s %s: %s: %s", e.App, e.Action, e.Reason, message)
}

// Unwrap gives the reason, and context.Canceled or context.DeadlineExceeded if the context ended the call.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.cause}
}

var reasons = map[dirtyv1.Reason]Reason{
	dirtyv1.Reason_REASON_INVALID_REQUEST:   InvalidRequest,
	dirtyv1.Reason_REASON_APP_NOT_FOUND:     AppNotFound,
	dirtyv1.Reason_REASON_NO_WORKERS:        NoWorkers,
	dirtyv1.Reason_REASON_QUEUE_FULL:        QueueFull,
	dirtyv1.Reason_REASON_QUEUE_TIMEOUT:     QueueTimeout,
	dirtyv1.Reason_REASON_TIMEOUT:           Timeout,
	dirtyv1.Reason_REASON_CANCELLED:         Cancelled,
	dirtyv1.Reason_REASON_APP_ERROR:         AppError,
	dirtyv1.Reason_REASON_WORKER_LOST:       WorkerLost,
	dirtyv1.Reason_REASON_TOO_LARGE:         TooLarge,
	dirtyv1.Reason_REASON_SHUTTING_DOWN:     ShuttingDown,
	dirtyv1.Reason_REASON_PERMISSION_DENIED: PermissionDenied,
}

func fromProto(from *dirtyv1.Error) *Error {
	reason, known := reasons[from.GetReason()]
	if !known {
		reason = Unknown
	}
	e := &Error{
		Reason:        reason,
		Message:       from.GetMessage(),
		App:           from.GetApp(),
		Action:        from.GetAction(),
		CallID:        from.GetCallId(),
		WorkerID:      from.GetWorkerId(),
		ExceptionType: from.GetExceptionType(),
		Traceback:     from.GetTraceback(),
		RetryDelay:    from.GetRetryDelay().AsDuration(),
		Timeout:       from.GetTimeout().AsDuration(),
		Signal:        from.GetSignal(),
		StderrTail:    from.GetStderrTail(),
	}
	if from.ExitCode != nil {
		code := int(from.GetExitCode())
		e.ExitCode = &code
	}
	return e
}

// fromRPC is the failure of an RPC that was sent to path. What dirtyd decided is in its details; what the transport
// decided is not.
func fromRPC(err error, path string) *Error {
	failed := status.Convert(err)
	for _, detail := range failed.Details() {
		if decided, ok := detail.(*dirtyv1.Error); ok {
			return fromProto(decided)
		}
	}
	message := failed.Message()
	switch failed.Code() {
	case codes.ResourceExhausted:
		return &Error{Reason: TooLarge, Message: "refused by the transport: " + message}
	case codes.DeadlineExceeded:
		return &Error{Reason: Timeout, Message: fmt.Sprintf("no answer from %s in time: outcome unknown", path)}
	case codes.Canceled:
		return &Error{Reason: Cancelled, Message: "cancelled"}
	case codes.PermissionDenied:
		return &Error{Reason: PermissionDenied, Message: message}
	case codes.Unavailable, codes.Internal, codes.Unknown:
		return &Error{Reason: OutcomeUnknown,
			Message: fmt.Sprintf("outcome unknown: the connection to %s broke during the call (%s)", path, message)}
	default:
		return &Error{Reason: Unknown, Message: fmt.Sprintf("%s (gRPC code %s, %s)", message, failed.Code(), path)}
	}
}

// because adds the context's own error, if that is what ended the call. dirtyd was told how much time the context left,
// and its answer may be here a moment before that is over.
func (e *Error) because(ctx context.Context) *Error {
	switch {
	case e.Reason == Cancelled && errors.Is(ctx.Err(), context.Canceled):
		e.cause = context.Canceled
	case e.Reason == Timeout || e.Reason == QueueTimeout:
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < 50*time.Millisecond {
			e.cause = context.DeadlineExceeded
		}
	}
	return e
}
