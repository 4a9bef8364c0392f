package dev.dirty.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import dev.dirty.v1.Error;
import dev.dirty.v1.RetryInfo;
import dev.dirty.v1.RpcStatus;
import io.grpc.Metadata;
import io.grpc.Status;
import java.io.Serializable;
import java.time.Duration;

/** What is known of a failed call, and which exception it is. Immutable once it is an exception. */
final class Failure implements Serializable {
  private static final long serialVersionUID = 1;
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  final Reason reason;
  final String message;
  String app = "";
  String action = "";
  String callId = "";
  int workerId;
  String exceptionType = "";
  String traceback = "";
  Duration retryDelay;
  Duration timeout;
  Integer exitCode;
  String signal = "";
  String[] stderrTail = {};

  Failure(Reason reason, String message) {
    this.reason = reason;
    this.message = message;
  }

  static Failure invalid(String message) {
    return new Failure(Reason.INVALID_REQUEST, message);
  }

  static Failure cancelled(String message) {
    return new Failure(Reason.CANCELLED, message);
  }

  /** Of a call that ended with {@code status} on a connection to {@code path}. */
  static Failure of(Status status, Metadata trailers, String path) {
    Failure result = null;
    Duration retryDelay = null;
    byte[] details = trailers == null ? null : trailers.get(DETAILS);
    if (details != null) {
      try {
        for (Any detail : RpcStatus.parseFrom(details).getDetailsList()) {
          if (detail.is(Error.class)) {
            result = of(detail.unpack(Error.class));
          } else if (detail.getTypeUrl().endsWith("/google.rpc.RetryInfo")) {
            retryDelay = Values.duration(RetryInfo.parseFrom(detail.getValue()).getRetryDelay());
          }
        }
      } catch (InvalidProtocolBufferException notOurs) {
        // Then the status is all there is.
      }
    }
    if (result == null) {
      result = ofTransport(status, path);
    }
    if (result.retryDelay == null) {
      result.retryDelay = retryDelay;
    }
    return result;
  }

  private static Failure of(Error error) {
    Failure failure = new Failure(Reason.of(error.getReason()), error.getMessage());
    failure.app = error.getApp();
    failure.action = error.getAction();
    failure.callId = error.getCallId();
    failure.workerId = error.getWorkerId();
    failure.exceptionType = error.getExceptionType();
    failure.traceback = error.getTraceback();
    failure.retryDelay = error.hasRetryDelay() ? Values.duration(error.getRetryDelay()) : null;
    failure.timeout = error.hasTimeout() ? Values.duration(error.getTimeout()) : null;
    failure.exitCode = error.hasExitCode() ? error.getExitCode() : null;
    failure.signal = error.getSignal();
    failure.stderrTail = error.getStderrTailList().toArray(new String[0]);
    return failure;
  }

  /** The transport said no: dirtyd never saw the call, or its answer was lost. */
  private static Failure ofTransport(Status status, String path) {
    String text = status.getDescription() == null ? "" : status.getDescription();
    switch (status.getCode()) {
      case RESOURCE_EXHAUSTED:
        return new Failure(Reason.TOO_LARGE, "refused by the transport: " + text);
      case DEADLINE_EXCEEDED:
        return new Failure(
            Reason.TIMEOUT, "no answer from " + path + " in time: outcome unknown");
      case CANCELLED:
        return cancelled("cancelled");
      case PERMISSION_DENIED:
        return new Failure(Reason.PERMISSION_DENIED, text);
      case UNAVAILABLE:
      case INTERNAL:
      case UNKNOWN:
        return new Failure(
            Reason.OUTCOME_UNKNOWN,
            "outcome unknown: the connection to " + path + " broke during the call (" + text + ")");
      default:
        return new Failure(
            Reason.UNKNOWN,
            text + " (gRPC code " + status.getCode().value() + ", " + path + ")");
    }
  }

  /** The exception, with what the failure itself does not know of its call. */
  DirtyException exception(Call call) {
    app = app.isEmpty() ? call.app : app;
    action = action.isEmpty() ? call.action : action;
    if (reason == Reason.TIMEOUT && timeout == null) {
      timeout = call.timeout;
    }
    switch (reason) {
      case INVALID_REQUEST:
      case TOO_LARGE:
        return new DirtyProtocolException(this);
      case APP_NOT_FOUND:
        return new DirtyAppNotFoundException(this);
      case NO_WORKERS:
        return new DirtyNoWorkersAvailableException(this);
      case QUEUE_FULL:
        return new DirtyQueueFullException(this);
      case QUEUE_TIMEOUT:
      case TIMEOUT:
        return new DirtyTimeoutException(this);
      case CANCELLED:
        return new DirtyCancelledException(this);
      case APP_ERROR:
        return new DirtyAppException(this);
      case WORKER_LOST:
        return new DirtyWorkerException(this);
      case SHUTTING_DOWN:
      case PERMISSION_DENIED:
      case CONNECTION:
      case OUTCOME_UNKNOWN:
        return new DirtyConnectionException(this);
      default:
        return new DirtyException(this);
    }
  }
}
