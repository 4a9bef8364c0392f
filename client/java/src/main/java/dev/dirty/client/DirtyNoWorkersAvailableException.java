package dev.dirty.client;

/** The app is configured, but nothing can serve it ({@code NO_WORKERS}). */
public final class DirtyNoWorkersAvailableException extends DirtyException {
  private static final long serialVersionUID = 1;

  DirtyNoWorkersAvailableException(Failure details) {
    super(details);
  }
}
