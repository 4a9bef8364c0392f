package dev.dirty.client;

/** dirtyd cannot be reached, shuts down, or was lost during the call ({@code CONNECTION}, {@code SHUTTING_DOWN},
 * {@code PERMISSION_DENIED}, {@code OUTCOME_UNKNOWN}). */
public final class DirtyConnectionException extends DirtyException {
  private static final long serialVersionUID = 1;

  DirtyConnectionException(Failure details) {
    super(details);
  }
}
