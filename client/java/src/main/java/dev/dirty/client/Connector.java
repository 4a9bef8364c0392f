package dev.dirty.client;

import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.ChannelOption;
import io.grpc.netty.shaded.io.netty.channel.EventLoop;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.unix.DomainSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * Finds dirtyd, and finds it again. Owns a channel for each socket that may be the one; once one has answered, the
 * client stays with it. {@link #ready} may be called from any thread; all else happens on the event loop, but who waits is
 * told on the executor, where it may block.
 */
final class Connector {
  private static final int MAX_METADATA_SIZE = 64 << 10; // details of errors
  private static final long FIRST_PAUSE_MS = 5;
  private static final long LONGEST_PAUSE_MS = 500;
  // How long a socket that is tried first may take before a later one is as good.
  private static final long HESITATION_NANOS = TimeUnit.MILLISECONDS.toNanos(50);

  /** A socket, and the channel to it; none if its path is too long. */
  static final class Place {
    final String path;
    final ManagedChannel channel;
    private boolean watched;

    private Place(String path, ManagedChannel channel) {
      this.path = path;
      this.channel = channel;
    }
  }

  private static final class Waiter {
    final CompletableFuture<Place> future = new CompletableFuture<>();
    final long until;

    // Even who has no time gets one attempt.
    Waiter(long until) {
      long now = System.nanoTime();
      this.until = now + Math.max(until - now, HESITATION_NANOS);
    }
  }

  private final EventLoop loop;
  private final Executor executor;
  private volatile Place chosen;
  private volatile boolean closed;
  // On the loop only:
  private final List<Place> places = new ArrayList<>();
  private final List<Waiter> waiters = new ArrayList<>();
  private long searchingSince;
  private long pauseMs;

  Connector(List<String> paths, EventLoop loop, Executor executor) {
    this.loop = loop;
    this.executor = executor;
    for (String path : paths) {
      places.add(new Place(path, bytes(path) > Obstacles.LONGEST_PATH ? null : channel(path)));
    }
  }

  private static int bytes(String path) {
    return path.getBytes(StandardCharsets.UTF_8).length;
  }

  private ManagedChannel channel(String path) {
    return NettyChannelBuilder.forAddress(new DomainSocketAddress(path))
            .executor(executor)
            .eventLoopGroup(loop)
            .channelType(EpollDomainSocketChannel.class, DomainSocketAddress.class)
            .withOption(ChannelOption.SO_KEEPALIVE, null) // gRPC sets it, Netty warns that a Unix socket has none
            .usePlaintext()
            .overrideAuthority("localhost")
            .disableRetry() // what may have started is never sent again; what has not, Operation sends
            .maxInboundMessageSize(Integer.MAX_VALUE) // dirtyd limits results
            .maxInboundMetadataSize(MAX_METADATA_SIZE)
            .build();
  }

  /**
   * A place that is connected; fails with a {@link Failed} if there is none until {@code until} (of {@link
   * System#nanoTime}). Tries at least once.
   */
  CompletableFuture<Place> ready(long until) {
    Place place = chosen;
    if (place != null && !closed && place.channel.getState(false) == ConnectivityState.READY) {
      return CompletableFuture.completedFuture(place);
    }
    Waiter waiter = new Waiter(until);
    try {
      loop.execute(() -> add(waiter));
    } catch (RejectedExecutionException over) {
      waiter.future.completeExceptionally(new Failed("the client is closed"));
    }
    return waiter.future;
  }

  /** Nothing could be connected to; the message says why, for each path. */
  static final class Failed extends Exception {
    private static final long serialVersionUID = 1;

    Failed(String message) {
      super(message);
    }
  }

  private void add(Waiter waiter) {
    waiters.add(waiter);
    if (waiters.size() == 1) {
      searchingSince = System.nanoTime();
      pauseMs = FIRST_PAUSE_MS;
      tick();
    } else {
      look();
    }
  }

  // While somebody waits: gRPC's own pause between attempts is seconds long.
  private void tick() {
    look();
    if (waiters.isEmpty()) {
      return;
    }
    long untilMs = TimeUnit.NANOSECONDS.toMillis(earliest() - System.nanoTime()) + 1;
    loop.schedule(
        () -> {
          places.stream().filter(place -> place.channel != null).forEach(place -> place.channel.resetConnectBackoff());
          tick();
        },
        Math.max(1, Math.min(pauseMs, untilMs)),
        TimeUnit.MILLISECONDS);
    pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
  }

  private long earliest() {
    long now = System.nanoTime();
    return now + waiters.stream().mapToLong(waiter -> waiter.until - now).min().orElse(0);
  }

  private void look() {
    Place found = closed ? null : connected();
    if (found != null) {
      choose(found);
    }
    waiters.removeIf(waiter -> waiter.future.isDone());
    long now = System.nanoTime();
    List<Waiter> late =
        waiters.stream()
            .filter(waiter -> closed || waiter.until - now <= 0)
            .collect(Collectors.toList());
    if (late.isEmpty()) {
      return;
    }
    waiters.removeAll(late);
    explain()
        .thenAcceptAsync(
            why -> late.forEach(waiter -> waiter.future.completeExceptionally(new Failed(why))), executor);
  }

  /** The first place that is connected, unless an earlier one is still trying and has not taken long. */
  private Place connected() {
    for (Place place : places) {
      if (place.channel == null) {
        continue;
      }
      ConnectivityState state = place.channel.getState(true);
      if (state == ConnectivityState.READY) {
        return place;
      }
      if (!place.watched) {
        place.watched = true;
        place.channel.notifyWhenStateChanged(state, () -> onLoop(() -> changed(place)));
      }
      boolean failed = state == ConnectivityState.TRANSIENT_FAILURE;
      if (!failed && System.nanoTime() - searchingSince < HESITATION_NANOS) {
        return null;
      }
    }
    return null;
  }

  private void changed(Place place) {
    place.watched = false;
    if (!waiters.isEmpty()) {
      look();
    }
  }

  private void choose(Place found) {
    for (Place place : places) {
      if (place != found && place.channel != null) {
        place.channel.shutdownNow();
      }
    }
    places.retainAll(List.of(found));
    chosen = found;
    List<Waiter> all = List.copyOf(waiters);
    waiters.clear();
    executor.execute(() -> all.forEach(waiter -> waiter.future.complete(found)));
  }

  private CompletableFuture<String> explain() {
    if (closed) {
      return CompletableFuture.completedFuture("the client is closed");
    }
    CompletableFuture<String> all = CompletableFuture.completedFuture("");
    for (Place place : places) {
      CompletableFuture<String> why =
          place.channel == null
              ? CompletableFuture.completedFuture(Obstacles.tooLong(bytes(place.path)))
              : Probe.of(place.path, loop);
      all = all.thenCombine(why, (text, next) -> text + (text.isEmpty() ? "" : "; ") + place.path + ": " + next);
    }
    return all;
  }

  private void onLoop(Runnable task) {
    if (!loop.isShuttingDown()) {
      loop.execute(task);
    }
  }

  /** Ends every call. Nothing is connected afterwards. */
  void close() {
    closed = true;
    onLoop(
        () -> {
          places.stream().filter(place -> place.channel != null).forEach(place -> place.channel.shutdownNow());
          look();
        });
  }
}
