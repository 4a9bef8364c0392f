package dev.dirty.client;

/** Too many calls of this app wait already ({@code QUEUE_FULL}): try again after {@link #retryDelay}. */
public final class DirtyQueueFullException extends DirtyException {
  private static final long serialVersionUID = 1;

  DirtyQueueFullException(Failure details) {
    super(details);
  }
}
