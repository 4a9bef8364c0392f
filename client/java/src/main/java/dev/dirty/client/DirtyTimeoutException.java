package dev.dirty.client;

/** The call waited too long and never started ({@code QUEUE_TIMEOUT}), or ran too long ({@code TIMEOUT}). */
public final class DirtyTimeoutException extends DirtyException {
  private static final long serialVersionUID = 1;

  DirtyTimeoutException(Failure details) {
    super(details);
  }
}
