package dev.dirty.client;

/** Why a call failed, for programs. */
public enum Reason {
  /** Something that this version of the client has no name for; see the message. */
  UNKNOWN,
  /** Fix the request. Also decided here, before anything is sent. */
  INVALID_REQUEST,
  /** No such app is configured; the message names the nearest. */
  APP_NOT_FOUND,
  /** The app is configured, but nothing can serve it. */
  NO_WORKERS,
  /** It never started: try again after the retry delay. */
  QUEUE_FULL,
  /** It waited too long and never started. */
  QUEUE_TIMEOUT,
  /** It ran too long. It may have had effects. */
  TIMEOUT,
  /** By the caller or an operator. */
  CANCELLED,
  /** The app raised. */
  APP_ERROR,
  /** The worker died while it ran the call: the outcome is unknown. */
  WORKER_LOST,
  /** A message above {@code max_message_size}. Also decided here, before anything is sent. */
  TOO_LARGE,
  /** dirtyd is shutting down; the call never started. */
  SHUTTING_DOWN,
  /** Not on this socket. */
  PERMISSION_DENIED,
  /** No connection in time: the call never started. The message lists each path that was tried, and why not. */
  CONNECTION,
  /** The connection broke while the call was on its way: it may have run, may be running, or never started. */
  OUTCOME_UNKNOWN;

  static Reason of(dev.dirty.v1.Reason reason) {
    switch (reason) {
      case REASON_INVALID_REQUEST:
        return INVALID_REQUEST;
      case REASON_APP_NOT_FOUND:
        return APP_NOT_FOUND;
      case REASON_NO_WORKERS:
        return NO_WORKERS;
      case REASON_QUEUE_FULL:
        return QUEUE_FULL;
      case REASON_QUEUE_TIMEOUT:
        return QUEUE_TIMEOUT;
      case REASON_TIMEOUT:
        return TIMEOUT;
      case REASON_CANCELLED:
        return CANCELLED;
      case REASON_APP_ERROR:
        return APP_ERROR;
      case REASON_WORKER_LOST:
        return WORKER_LOST;
      case REASON_TOO_LARGE:
        return TOO_LARGE;
      case REASON_SHUTTING_DOWN:
        return SHUTTING_DOWN;
      case REASON_PERMISSION_DENIED:
        return PERMISSION_DENIED;
      default:
        return UNKNOWN;
    }
  }
}
