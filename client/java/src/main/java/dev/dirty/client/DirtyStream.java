package dev.dirty.client;

import com.fasterxml.jackson.databind.JsonNode;
import dev.dirty.v1.ArbiterGrpc;
import dev.dirty.v1.Chunk;
import dev.dirty.v1.ExecuteRequest;
import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * The values of a streaming call, as they come; bytes, anywhere in them, are binary nodes.
 *
 * <pre>{@code
 * try (DirtyStream chunks = client.stream(Call.of("myapp.ml:MLApp", "generate", "a prompt"))) {
 *   for (JsonNode chunk : chunks) {
 *     ...
 *   }
 * }
 * }</pre>
 *
 * <p>It reads little ahead: who does not read holds up the action. An error comes after the values before it. One
 * thread reads; any may close. A stream that was not read to its end must be closed, which cancels the call.
 */
public final class DirtyStream implements Iterator<JsonNode>, Iterable<JsonNode>, AutoCloseable {
  private static final int AHEAD = 2;

  // A Chunk, a DirtyException, or END. Bounded by what is asked for.
  private final BlockingQueue<Object> arrived = new LinkedBlockingQueue<>();
  private static final Object END = new Object();

  private final Operation<Chunk> operation;
  private Object next;

  DirtyStream(Connector connector, Duration connectTimeout, Call call, ExecuteRequest request) {
    operation =
        new Operation<>(
            ArbiterGrpc.getExecuteStreamMethod(), connector, connectTimeout, call, request, AHEAD) {
          @Override
          void received(Chunk chunk) {
            arrived.add(chunk);
          }

          @Override
          void ended(DirtyException failure) {
            arrived.add(failure == null ? END : failure);
          }
        };
    operation.begin();
  }

  /**
   * Waits for the next value, or the end.
   *
   * @throws DirtyException the call failed; afterwards the stream is at its end
   */
  @Override
  public boolean hasNext() {
    if (next == null) {
      try {
        next = arrived.take();
      } catch (InterruptedException interrupted) {
        close();
        Thread.currentThread().interrupt();
        throw Failure.cancelled("the thread was interrupted").exception(operation.call());
      }
    }
    if (next instanceof DirtyException) {
      DirtyException failure = (DirtyException) next;
      next = END;
      failure.fillInStackTrace(); // of the thread that reads
      throw failure;
    }
    return next != END;
  }

  @Override
  public JsonNode next() {
    if (!hasNext()) {
      throw new NoSuchElementException("the stream has ended");
    }
    Chunk chunk = (Chunk) next;
    next = null;
    operation.more();
    try {
      return Values.decode(chunk.getValue(), chunk.getAttachmentsList());
    } catch (IllegalStateException unreadable) {
      close();
      next = END;
      String message = "the worker's result cannot be read: " + unreadable.getMessage();
      throw new Failure(Reason.UNKNOWN, message).exception(operation.call());
    }
  }

  /** Itself: it can be iterated once. */
  @Override
  public Iterator<JsonNode> iterator() {
    return this;
  }

  /** Cancels the call if it has not ended. */
  @Override
  public void close() {
    operation.cancel("cancelled");
  }
}
