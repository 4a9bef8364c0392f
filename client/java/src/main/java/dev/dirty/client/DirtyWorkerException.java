package dev.dirty.client;

import java.util.List;
import java.util.OptionalInt;

/** The worker died, or was shut down, while it ran the call ({@code WORKER_LOST}): the outcome is unknown. */
public final class DirtyWorkerException extends DirtyException {
  private static final long serialVersionUID = 1;

  DirtyWorkerException(Failure details) {
    super(details);
  }

  /** The exit code of its process, if it exited by itself. */
  public OptionalInt exitCode() {
    return details.exitCode == null ? OptionalInt.empty() : OptionalInt.of(details.exitCode);
  }

  /** The name of the signal that ended it, such as {@code SIGKILL}; empty if none did. */
  public String signal() {
    return details.signal;
  }

  /** The last lines of its standard error, the oldest first. */
  public List<String> stderrTail() {
    return List.of(details.stderrTail);
  }
}
