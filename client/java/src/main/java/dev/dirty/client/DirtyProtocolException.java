package dev.dirty.client;

/** The request cannot be sent as it is: not JSON, too deep, too large ({@code INVALID_REQUEST}, {@code TOO_LARGE}). */
public final class DirtyProtocolException extends DirtyException {
  private static final long serialVersionUID = 1;

  DirtyProtocolException(Failure details) {
    super(details);
  }
}
