package dev.dirty.client;

import dev.dirty.v1.ArbiterGrpc;
import dev.dirty.v1.ExecuteRequest;
import dev.dirty.v1.ExecuteResponse;
import io.grpc.netty.shaded.io.netty.channel.MultiThreadIoEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollIoHandler;
import io.grpc.netty.shaded.io.netty.util.concurrent.DefaultThreadFactory;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;

/**
 * Calls apps through one dirtyd.
 *
 * <pre>{@code
 * try (DirtyClient client = DirtyClient.builder().build()) {
 *   byte[] small = client.execute(
 *       Call.of("libthumbnail.so:Thumbnail", "thumbnail").arg(photo).kwarg("size", 128)).as(byte[].class);
 * }
 * }</pre>
 *
 * <p>One connection, made by the first call and again when it is gone. A call that may have started is never sent
 * again. Thread-safe: keep one for the whole application. Linux on x86_64 and aarch64.
 */
public final class DirtyClient implements AutoCloseable {
  private final EventLoopGroup group;
  private final ExecutorService pool; // null: the user's is used
  private final Connector connector;
  private final Duration connectTimeout;
  private final int maxMessageSize;

  private DirtyClient(Builder builder) {
    ThreadFactory threads = new DefaultThreadFactory("dirty-client", true);
    group = new MultiThreadIoEventLoopGroup(1, threads, EpollIoHandler.newFactory());
    pool = builder.executor == null ? Executors.newCachedThreadPool(threads) : null;
    connector = new Connector(builder.paths(), group.next(), pool == null ? builder.executor : pool);
    connectTimeout = builder.connectTimeout;
    maxMessageSize = builder.maxMessageSize;
  }

  /** A client with other than the default settings. */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Runs a call and waits for its outcome. An interrupt cancels it.
   *
   * @throws DirtyException it failed
   */
  public Result execute(Call call) {
    CompletableFuture<Result> future = executeAsync(call);
    try {
      return future.get();
    } catch (InterruptedException interrupted) {
      future.cancel(true);
      Thread.currentThread().interrupt();
      throw Failure.cancelled("the thread was interrupted").exception(call);
    } catch (ExecutionException failed) {
      if (failed.getCause() instanceof DirtyException) {
        DirtyException failure = (DirtyException) failed.getCause();
        failure.fillInStackTrace(); // of the thread that called
        throw failure;
      }
      throw new IllegalStateException(failed.getCause());
    }
  }

  /** The same, with positional arguments alone. */
  public Result execute(String app, String action, Object... args) {
    return execute(Call.of(app, action, args));
  }

  /**
   * Runs a call without waiting. The future fails with a {@link DirtyException}; completing or cancelling it, or its
   * {@code orTimeout}, cancels the call. What depends on it runs on the client's executor and may block.
   */
  public CompletableFuture<Result> executeAsync(Call call) {
    Unary unary;
    try {
      unary = new Unary(call, request(call));
    } catch (DirtyException refused) {
      return CompletableFuture.failedFuture(refused);
    }
    unary.begin();
    return unary.future;
  }

  /** The same, with positional arguments alone. */
  public CompletableFuture<Result> executeAsync(String app, String action, Object... args) {
    return executeAsync(Call.of(app, action, args));
  }

  /**
   * Starts an action that streams its result; one that does not gives one value. Does not wait: what goes wrong on the
   * way is thrown where the stream is read.
   *
   * @throws DirtyProtocolException it cannot be sent
   */
  public DirtyStream stream(Call call) {
    return new DirtyStream(connector, connectTimeout, call, request(call));
  }

  /** The same, with positional arguments alone. */
  public DirtyStream stream(String app, String action, Object... args) {
    return stream(Call.of(app, action, args));
  }

  /** Ends: calls in flight fail, and are cancelled in their workers. */
  @Override
  public void close() {
    connector.close();
    group
        .shutdownGracefully(50, 5000, TimeUnit.MILLISECONDS)
        .addListener(
            down -> {
              if (pool != null) {
                pool.shutdown();
              }
            });
  }

  private ExecuteRequest request(Call call) {
    if (call.timeout != null && (call.timeout.isNegative() || call.timeout.isZero())) {
      throw Failure.invalid("timeout must be positive").exception(call);
    }
    if (call.traceparent != null && !call.traceparent.matches("[ -~]*")) {
      throw Failure.invalid("traceparent is not ASCII text").exception(call);
    }
    ExecuteRequest.Builder builder = ExecuteRequest.newBuilder();
    try {
      builder.setApp(Values.paired(call.app)).setAction(Values.paired(call.action));
      builder.setRequestId(Values.paired(call.requestId));
      Values.encode(call, builder);
    } catch (Values.Refused refused) {
      throw Failure.invalid(refused.getMessage()).exception(call);
    }
    ExecuteRequest request = builder.build();
    int size = request.getSerializedSize();
    if (maxMessageSize != 0 && (size > maxMessageSize || size < 0)) {
      String message = "the request has " + size + " bytes, max_message_size is " + maxMessageSize;
      throw new Failure(Reason.TOO_LARGE, message).exception(call);
    }
    return request;
  }

  private final class Unary extends Operation<ExecuteResponse> {
    final CompletableFuture<Result> future = new CompletableFuture<>();
    private volatile ExecuteResponse response;

    Unary(Call call, ExecuteRequest request) {
      super(ArbiterGrpc.getExecuteMethod(), connector, connectTimeout, call, request, 2);
      future.whenComplete((result, error) -> cancel("cancelled"));
    }

    @Override
    void received(ExecuteResponse message) {
      response = message;
    }

    @Override
    void ended(DirtyException failure) {
      if (failure != null) {
        future.completeExceptionally(failure);
        return;
      }
      try {
        future.complete(new Result(response));
      } catch (RuntimeException unreadable) {
        String message = "the worker's result cannot be read: " + unreadable.getMessage();
        future.completeExceptionally(new Failure(Reason.UNKNOWN, message).exception(call()));
      }
    }
  }

  /** The settings of a client. The defaults suit a dirtyd with its own defaults. */
  public static final class Builder {
    private String socket;
    private Duration connectTimeout = Duration.ofSeconds(5);
    private int maxMessageSize = 64 << 20;
    private Executor executor;

    private Builder() {}

    /**
     * dirtyd's client socket. If not given: {@code $DIRTY_SOCKET}, {@code /run/dirty/dirty.sock}, {@code
     * $XDG_RUNTIME_DIR/dirty/dirty.sock}; the first that answers, with which the client then stays.
     */
    public Builder socket(String path) {
      socket = Objects.requireNonNull(path, "path");
      return this;
    }

    /** The same. */
    public Builder socket(Path path) {
      return socket(path.toString());
    }

    /**
     * How long a call waits for the socket, whatever the obstacle, before it fails with {@code CONNECTION}; 5 s if not
     * given. 0: one attempt.
     */
    public Builder connectTimeout(Duration time) {
      connectTimeout = time.compareTo(Operation.LONGEST) < 0 ? time : Operation.LONGEST;
      return this;
    }

    /**
     * Requests above this many bytes fail with {@code TOO_LARGE} before anything is sent. As dirtyd's; 64 MiB if not
     * given. 0: no limit.
     */
    public Builder maxMessageSize(int bytes) {
      maxMessageSize = bytes;
      return this;
    }

    /** Where results are parsed, and what depends on futures runs; if not given, a pool of the client's. */
    public Builder executor(Executor where) {
      executor = Objects.requireNonNull(where, "where");
      return this;
    }

    /** A client with these settings. Nothing is connected yet. */
    public DirtyClient build() {
      return new DirtyClient(this);
    }

    private List<String> paths() {
      if (socket != null) {
        return List.of(socket);
      }
      Set<String> paths = new LinkedHashSet<>();
      String own = System.getenv("DIRTY_SOCKET");
      if (own != null && !own.isEmpty()) {
        paths.add(own);
      }
      paths.add("/run/dirty/dirty.sock");
      String runtime = System.getenv("XDG_RUNTIME_DIR");
      if (runtime != null && !runtime.isEmpty()) {
        paths.add(runtime + "/dirty/dirty.sock");
      }
      return new ArrayList<>(paths);
    }
  }
}
