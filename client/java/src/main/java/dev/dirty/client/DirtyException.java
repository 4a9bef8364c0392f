package dev.dirty.client;

import java.time.Duration;
import java.util.Optional;

/**
 * A call that failed. The subclasses say what kind of failure it is, {@link #reason} which one. What does not apply is
 * empty. The message says what happened, where, and what to do, for people.
 */
public class DirtyException extends RuntimeException {
  private static final long serialVersionUID = 1;

  final Failure details;

  DirtyException(Failure details) {
    super(details.message);
    this.details = details;
  }

  /** Why, for programs. */
  public final Reason reason() {
    return details.reason;
  }

  /** The app that was called. */
  public final String app() {
    return details.app;
  }

  /** The action that was called. */
  public final String action() {
    return details.action;
  }

  /** dirtyd's id of the call, as in its log; empty if the call never got one. */
  public final String callId() {
    return details.callId;
  }

  /** The worker that ran it; 0 if none did. */
  public final int workerId() {
    return details.workerId;
  }

  /** When another attempt is likely to find a place, if the queue was full. */
  public final Optional<Duration> retryDelay() {
    return Optional.ofNullable(details.retryDelay);
  }

  /** The limit that was overrun, if the call was too late. */
  public final Optional<Duration> timeout() {
    return Optional.ofNullable(details.timeout);
  }

  /** As {@code dev.dirty.client.DirtyAppException: APP_ERROR: ValueError: no such model}. */
  @Override
  public final String toString() {
    String type = details.exceptionType.isEmpty() ? "" : details.exceptionType + ": ";
    return getClass().getName() + ": " + details.reason + ": " + type + getMessage();
  }
}
