package dev.dirty.client;

/** The app raised ({@code APP_ERROR}). */
public final class DirtyAppException extends DirtyException {
  private static final long serialVersionUID = 1;

  DirtyAppException(Failure details) {
    super(details);
  }

  /** The type of what was raised, such as {@code ValueError}. */
  public String exceptionType() {
    return details.exceptionType;
  }

  /** The app's stack where it raised; empty if its language has none. */
  public String traceback() {
    return details.traceback;
  }
}
