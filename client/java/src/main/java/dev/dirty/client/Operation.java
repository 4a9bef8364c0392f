package dev.dirty.client;

import dev.dirty.v1.ExecuteRequest;
import io.grpc.Attributes;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ClientStreamTracer;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * One call on its way: connects, sends, and is told of what comes. It ends exactly once, with {@link #ended}. A call of
 * which nothing was sent because the connection ended is sent on the next one; what may have been sent never is.
 * Thread-safe.
 *
 * @param <T> what comes back
 */
abstract class Operation<T> {
  private static final Metadata.Key<String> TRACEPARENT =
      Metadata.Key.of("traceparent", Metadata.ASCII_STRING_MARSHALLER);
  // dirtyd answers when the time is over. If it does not, the call ends this much later.
  private static final Duration ANSWER_TIME = Duration.ofSeconds(1);

  /** As good as for ever, and safe to add to a clock: a longer timeout is none. */
  static final Duration LONGEST = Duration.ofDays(3650);

  private final MethodDescriptor<ExecuteRequest, T> method;
  private final Connector connector;
  private final Call call;
  private final ExecuteRequest request;
  private final int ahead;
  private final Duration timeout; // null: none
  private final long started = System.nanoTime();
  private final long connectBy;

  // Guarded by this:
  private CompletableFuture<Connector.Place> connecting;
  private ClientCall<ExecuteRequest, T> sent;
  private String cancelled;
  private boolean over;

  /**
   * @param ahead how many messages are asked for at once
   */
  Operation(
      MethodDescriptor<ExecuteRequest, T> method,
      Connector connector,
      Duration connectTimeout,
      Call call,
      ExecuteRequest request,
      int ahead) {
    this.method = method;
    this.connector = connector;
    this.call = call;
    this.request = request;
    this.ahead = ahead;
    this.timeout = call.timeout == null || call.timeout.compareTo(LONGEST) > 0 ? null : call.timeout;
    Duration wait = timeout == null || timeout.compareTo(connectTimeout) > 0 ? connectTimeout : timeout;
    this.connectBy = started + wait.toNanos();
  }

  /** A message came. */
  abstract void received(T message);

  /** It is over; {@code failure} is null if it succeeded. */
  abstract void ended(DirtyException failure);

  final Call call() {
    return call;
  }

  /** Begins. Called once. */
  final void begin() {
    connect();
  }

  private void connect() {
    CompletableFuture<Connector.Place> place = connector.ready(connectBy);
    synchronized (this) {
      connecting = place;
    }
    place.whenComplete(
        (found, error) -> {
          if (error == null) {
            sendOrFail(found);
          } else {
            end(new Failure(Reason.CONNECTION, "cannot reach dirtyd: " + error.getMessage()));
          }
        });
  }

  // Nobody would hear of what is thrown here.
  private void sendOrFail(Connector.Place place) {
    try {
      send(place);
    } catch (RuntimeException unexpected) {
      end(new Failure(Reason.UNKNOWN, "it cannot be sent: " + unexpected));
    }
  }

  private void send(Connector.Place place) {
    Progress progress = new Progress();
    CallOptions options = CallOptions.DEFAULT.withStreamTracerFactory(progress);
    ExecuteRequest message = request;
    if (timeout != null) {
      Duration left = timeLeft();
      options = options.withDeadlineAfter(left.plus(ANSWER_TIME).toNanos(), TimeUnit.NANOSECONDS);
      message = request.toBuilder().setTimeout(Values.duration(left)).build();
    }
    Metadata headers = new Metadata();
    if (call.traceparent != null) {
      headers.put(TRACEPARENT, call.traceparent);
    }
    synchronized (this) {
      if (cancelled == null) {
        sent = place.channel.newCall(method, options);
        sent.start(new Listener(place, progress), headers);
        sent.request(ahead);
        sent.sendMessage(message);
        sent.halfClose();
        return;
      }
    }
    end(Failure.cancelled("cancelled before it was sent"));
  }

  // In whole milliseconds, so that a call that did not wait for its connection keeps its round number.
  private Duration timeLeft() {
    long waited = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - started);
    Duration left = timeout.minusMillis(waited);
    return left.compareTo(Duration.ofMillis(1)) < 0 ? Duration.ofMillis(1) : left;
  }

  /** Asks for another message. */
  final synchronized void more() {
    if (sent != null && !over) {
      sent.request(1);
    }
  }

  /** Ends it with {@code CANCELLED}, because of {@code why}; ignored if it has ended. */
  final void cancel(String why) {
    CompletableFuture<Connector.Place> waiting = null;
    synchronized (this) {
      if (over || cancelled != null) {
        return;
      }
      cancelled = why;
      if (sent == null) {
        waiting = connecting;
      } else {
        sent.cancel(why, null);
      }
    }
    if (waiting != null) {
      end(Failure.cancelled("cancelled before it was sent"));
      waiting.cancel(false);
    }
  }

  private void end(Failure failure) {
    synchronized (this) {
      if (over) {
        return;
      }
      over = true;
    }
    ended(failure == null ? null : failure.exception(call));
  }

  private final class Listener extends ClientCall.Listener<T> {
    private final Connector.Place place;
    private final Progress progress;

    Listener(Connector.Place place, Progress progress) {
      this.place = place;
      this.progress = progress;
    }

    @Override
    public void onMessage(T message) {
      received(message);
    }

    @Override
    public void onClose(Status status, Metadata trailers) {
      if (status.isOk()) {
        end(null);
        return;
      }
      String why;
      synchronized (Operation.this) {
        why = cancelled;
        if (why == null) {
          sent = null;
        }
      }
      if (why != null) {
        end(Failure.cancelled(why));
      } else if (status.getCode() == Status.Code.UNAVAILABLE
          && !progress.headersSent
          && System.nanoTime() - connectBy < 0) {
        connect();
      } else {
        end(Failure.of(status, trailers, place.path));
      }
    }
  }

  /** Whether anything of a call left this process. */
  private static final class Progress extends ClientStreamTracer.Factory {
    volatile boolean headersSent;

    @Override
    public ClientStreamTracer newClientStreamTracer(
        ClientStreamTracer.StreamInfo info, Metadata headers) {
      return new ClientStreamTracer() {
        @Override
        public void streamCreated(Attributes transport, Metadata sentHeaders) {}

        @Override
        public void outboundHeaders() {
          headersSent = true;
        }
      };
    }
  }
}
