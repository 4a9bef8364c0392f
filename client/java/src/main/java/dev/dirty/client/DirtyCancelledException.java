package dev.dirty.client;

/** The call was cancelled ({@code CANCELLED}): by an operator, by closing its client, or by an interrupt. */
public final class DirtyCancelledException extends DirtyException {
  private static final long serialVersionUID = 1;

  DirtyCancelledException(Failure details) {
    super(details);
  }
}
