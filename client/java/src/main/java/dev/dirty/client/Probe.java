package dev.dirty.client;

import io.grpc.netty.shaded.io.netty.bootstrap.Bootstrap;
import io.grpc.netty.shaded.io.netty.channel.Channel;
import io.grpc.netty.shaded.io.netty.channel.ChannelFuture;
import io.grpc.netty.shaded.io.netty.channel.ChannelHandlerContext;
import io.grpc.netty.shaded.io.netty.channel.ChannelInboundHandlerAdapter;
import io.grpc.netty.shaded.io.netty.channel.EventLoop;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.unix.DomainSocketAddress;
import io.grpc.netty.shaded.io.netty.util.ReferenceCountUtil;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** One connection, made to say why gRPC's do not come about: dirtyd speaks first, and at once. */
final class Probe extends ChannelInboundHandlerAdapter {
  private static final long GREETING_MS = 50;

  private final CompletableFuture<String> why = new CompletableFuture<>();

  private Probe() {}

  /** Why there is no connection to {@code path}. */
  static CompletableFuture<String> of(String path, EventLoop loop) {
    Probe probe = new Probe();
    ChannelFuture connecting =
        new Bootstrap()
            .group(loop)
            .channel(EpollDomainSocketChannel.class)
            .handler(probe)
            .connect(new DomainSocketAddress(path));
    Channel channel = connecting.channel();
    connecting.addListener(
        connected -> {
          if (connected.isSuccess()) {
            loop.schedule(
                () -> probe.why.complete("connected, but no answer: is it stopped, or not dirtyd?"),
                GREETING_MS,
                TimeUnit.MILLISECONDS);
          } else {
            probe.why.complete(Obstacles.whyNot(path, connected.cause()));
          }
        });
    return probe.why.whenComplete((text, never) -> channel.close());
  }

  @Override
  public void channelRead(ChannelHandlerContext context, Object message) {
    ReferenceCountUtil.release(message);
    why.complete("it answers only now: try again");
  }

  @Override
  public void channelInactive(ChannelHandlerContext context) {
    why.complete(Obstacles.refusedAtAccept());
  }

  @Override
  public void exceptionCaught(ChannelHandlerContext context, Throwable error) {
    why.complete(String.valueOf(error.getMessage()));
  }
}
