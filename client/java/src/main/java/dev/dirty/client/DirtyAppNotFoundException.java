package dev.dirty.client;

/** No such app is configured ({@code APP_NOT_FOUND}); the message names the nearest. */
public final class DirtyAppNotFoundException extends DirtyException {
  private static final long serialVersionUID = 1;

  DirtyAppNotFoundException(Failure details) {
    super(details);
  }
}
