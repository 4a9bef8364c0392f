package dev.dirty.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.dirty.v1.ArbiterGrpc;
import dev.dirty.v1.Chunk;
import dev.dirty.v1.ExecuteRequest;
import dev.dirty.v1.ExecuteResponse;
import io.grpc.Server;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.netty.shaded.io.netty.channel.MultiThreadIoEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollIoHandler;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollServerDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.unix.DomainSocketAddress;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The Java client against a real dirtyd. */
@Timeout(120)
class DirtyClientTest {
  private static final String APP = "calls:Calls";

  /** What the tests send and get back: Jackson's business, but for the bytes. */
  static final class Photo {
    public String name = "me";
    public byte[] image = new byte[3 << 20];
    public List<byte[]> more = List.of(new byte[] {0, -1}, new byte[0]);
  }

  private static DirtyClient clientOf(Dirtyd dirtyd) {
    return DirtyClient.builder().socket(dirtyd.socket()).build();
  }

  private static DirtyClient impatient(Path socket) {
    return DirtyClient.builder().socket(socket).connectTimeout(Duration.ofMillis(100)).build();
  }

  private static <E extends DirtyException> E failure(
      Class<E> type, DirtyClient client, Call call) {
    return assertThrows(type, () -> client.execute(call));
  }

  @Test
  void argumentsAndResultsAreJson() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd)) {
      Call call = Call.of(APP, "echo", 1, "two").arg(Arrays.asList(3.5, null));
      Result result = client.execute(call.kwarg("größe", Map.of("a", true)).requestId("me"));
      assertEquals("[[1,\"two\",[3.5,null]],{\"größe\":{\"a\":true}}]", result.toString());
      assertFalse(result.callId().isEmpty());
      assertEquals(1, result.workerId());
      assertTrue(result.runTime().compareTo(Duration.ZERO) > 0);
      assertEquals("[[],{}]", client.execute(APP, "echo").toString());
      BigInteger large = BigInteger.ONE.shiftLeft(80).add(BigInteger.ONE);
      assertEquals(large, client.execute(APP, "same", large).as(BigInteger.class));
      assertEquals(Long.MIN_VALUE, client.execute(APP, "same", Long.MIN_VALUE).value().longValue());
      assertTrue(client.execute(APP, "same", (Object) null).value().isNull());
    }
  }

  @Test
  void bytesPassBothWays() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd)) {
      byte[] bytes = {0, -1, 7};
      assertArrayEquals(bytes, client.execute(APP, "same", bytes).as(byte[].class));
      Photo photo = new Photo();
      photo.image[5] = 5;
      Result result = client.execute(APP, "same", photo);
      assertArrayEquals(photo.image, result.value().get("image").binaryValue());
      Photo back = result.as(Photo.class);
      assertArrayEquals(photo.image, back.image);
      assertArrayEquals(photo.more.get(0), back.more.get(0));
      assertEquals(0, back.more.get(1).length);
    }
  }

  @Test
  void streamGivesItsValuesThenItsError() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd);
        DirtyStream chunks = client.stream(APP, "count_and_raise", 300)) {
      for (int i = 0; i < 300; i++) {
        assertEquals(i, chunks.next().intValue());
      }
      DirtyAppException error = assertThrows(DirtyAppException.class, chunks::hasNext);
      assertEquals(APP, error.app());
      assertEquals("count_and_raise", error.action());
      assertFalse(chunks.hasNext());
      List<Integer> all = new ArrayList<>();
      for (JsonNode chunk : client.stream(APP, "count", 100)) {
        all.add(chunk.intValue());
      }
      assertEquals(100, all.size());
    }
  }

  @Test
  void whoDoesNotReadHoldsUpTheActionAndNobodyElse() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd);
        DirtyStream chunks = client.stream(APP, "blobs", 100, 1 << 20)) {
      assertEquals(1 << 20, chunks.next().get("data").binaryValue().length);
      assertEquals("meanwhile", client.execute(APP, "same", "meanwhile").as(String.class));
      for (int i = 1; i < 100; i++) {
        assertEquals(i, chunks.next().get("i").intValue());
      }
      assertFalse(chunks.hasNext());
    }
  }

  @Test
  void closingStreamEndsTheAction() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd)) {
      try (DirtyStream chunks = client.stream(APP, "count", 1_000_000)) {
        assertEquals(0, chunks.next().intValue());
      }
      dirtyd.waitForLine("count ended");
    }
  }

  @Test
  void cancellingFutureCancelsTheCall() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd)) {
      CompletableFuture<Result> future = client.executeAsync(APP, "wait", 1000);
      dirtyd.waitForLine("waiting");
      assertTrue(future.cancel(true));
      long asked = System.nanoTime();
      while (client.execute(APP, "what_was_seen").value().isEmpty()) {
        assertTrue(System.nanoTime() - asked < TimeUnit.SECONDS.toNanos(Dirtyd.PATIENCE_SECONDS));
      }
    }
  }

  @Test
  void interruptCancelsTheCall() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd)) {
      CompletableFuture<Boolean> interrupted = new CompletableFuture<>();
      Thread caller =
          new Thread(
              () -> {
                failure(DirtyCancelledException.class, client, Call.of(APP, "wait", 1000));
                interrupted.complete(Thread.currentThread().isInterrupted());
              });
      caller.start();
      dirtyd.waitForLine("waiting");
      caller.interrupt();
      assertTrue(interrupted.get(Dirtyd.PATIENCE_SECONDS, TimeUnit.SECONDS));
      dirtyd.waitForLine("reason=cancelled");
    }
  }

  @Test
  void errorsSayWhatTheAppRaised() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd)) {
      DirtyAppException error =
          failure(DirtyAppException.class, client, Call.of(APP, "fail", "größe"));
      assertEquals(Reason.APP_ERROR, error.reason());
      assertEquals("größe", error.getMessage());
      assertEquals("ValueError", error.exceptionType());
      assertTrue(error.traceback().contains("in fail"));
      assertFalse(error.callId().isEmpty());
      assertEquals(1, error.workerId());
      assertTrue(error.toString().endsWith("APP_ERROR: ValueError: größe"));
      assertTrue(
          Arrays.stream(error.getStackTrace())
              .anyMatch(frame -> frame.getMethodName().equals("execute")));
      assertEquals("ValueError", ((DirtyAppException) copied(error)).exceptionType());
      Call unknown = Call.of("calls:Cals", "fail");
      assertTrue(
          failure(DirtyAppNotFoundException.class, client, unknown).getMessage().contains(APP));
    }
  }

  /** As exceptions travel between processes. */
  private static Object copied(Object object) throws Exception {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
      out.writeObject(object);
    }
    ByteArrayInputStream source = new ByteArrayInputStream(bytes.toByteArray());
    try (ObjectInputStream in = new ObjectInputStream(source)) {
      return in.readObject();
    }
  }

  @Test
  void callThatRunsTooLongEndsInTime() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd)) {
      client.execute(APP, "same", 1);
      Call call = Call.of(APP, "wait", 1000).timeout(Duration.ofMillis(200));
      DirtyTimeoutException error = failure(DirtyTimeoutException.class, client, call);
      assertEquals(Reason.TIMEOUT, error.reason());
      // What was left when it was sent.
      long left = error.timeout().orElseThrow().plusNanos(500_000).toMillis();
      assertTrue(left > 100 && left <= 200, () -> left + " ms");
      assertFalse(error.callId().isEmpty());
    }
  }

  @Test
  void dirtydThatIsStoppedDoesNotHoldCallForEver() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd);
        DirtyClient other = impatient(dirtyd.socket())) {
      client.execute(APP, "same", 1);
      dirtyd.signal("STOP");
      Call call = Call.of(APP, "same", 1).timeout(Duration.ofMillis(100));
      DirtyTimeoutException error = failure(DirtyTimeoutException.class, client, call);
      assertTrue(error.getMessage().contains("outcome unknown"), error.getMessage());
      assertEquals(Optional.of(Duration.ofMillis(100)), error.timeout());
      DirtyConnectionException silent =
          failure(DirtyConnectionException.class, other, Call.of(APP, "same", 1));
      assertEquals(Reason.CONNECTION, silent.reason());
      assertTrue(
          silent.getMessage().contains("connected, but no answer"), silent.getMessage());
    }
  }

  @Test
  void whatCannotBeSentIsRefused() {
    try (DirtyClient client = impatient(Path.of("/nowhere"))) { // nothing gets that far
      List<Call> refused =
          List.of(
              Call.of(APP, "same", Map.of("$attachment", 0)),
              Call.of(APP, "same", List.of(Map.of("a", Map.of("$attachment", "x")))),
              Call.of(APP, "same").kwarg("$attachment", 1),
              Call.of(APP, "same", Double.NaN),
              Call.of(APP, "same", List.of(Float.NEGATIVE_INFINITY)),
              Call.of(APP, "same", "\ud800"),
              Call.of(APP, "same", Map.of("\udc00x", 1)),
              Call.of("\ud800", "same"),
              Call.of(APP, "same", 1).argsJson("[1]"),
              Call.of(APP, "same", new Object()),
              Call.of(APP, "same").traceparent("a\nb"),
              Call.of(APP, "same").timeout(Duration.ZERO));
      for (Call call : refused) {
        assertEquals(
            Reason.INVALID_REQUEST, failure(DirtyProtocolException.class, client, call).reason());
        assertThrows(DirtyProtocolException.class, () -> client.stream(call));
      }
    }
    try (DirtyClient small = DirtyClient.builder().maxMessageSize(1000).build()) {
      Call call = Call.of(APP, "same", new byte[1000]);
      DirtyProtocolException error = failure(DirtyProtocolException.class, small, call);
      assertEquals(Reason.TOO_LARGE, error.reason());
      assertTrue(error.getMessage().contains("max_message_size is 1000"));
    }
  }

  /** Not dirtyd: says that what it was given as a timeout, and streams what is no JSON. */
  private static final class Foreign extends ArbiterGrpc.ArbiterImplBase {
    @Override
    public void execute(ExecuteRequest request, StreamObserver<ExecuteResponse> answer) {
      answer.onNext(ExecuteResponse.newBuilder().setResult(String.valueOf(request.hasTimeout())).build());
      answer.onCompleted();
    }

    @Override
    public void executeStream(ExecuteRequest request, StreamObserver<Chunk> answer) {
      answer.onNext(Chunk.newBuilder().setValue("1").build());
      answer.onNext(Chunk.newBuilder().setValue("{").build());
    }
  }

  @Test
  void whatForeignServerSaysAndWhatItIsTold(@TempDir Path folder) throws Exception {
    Path socket = folder.resolve("foreign.sock");
    Duration forever = ChronoUnit.FOREVER.getDuration();
    MultiThreadIoEventLoopGroup loop = new MultiThreadIoEventLoopGroup(1, EpollIoHandler.newFactory());
    Server server =
        NettyServerBuilder.forAddress(new DomainSocketAddress(socket.toString()))
            .channelType(EpollServerDomainSocketChannel.class)
            .bossEventLoopGroup(loop)
            .workerEventLoopGroup(loop)
            .addService(new Foreign())
            .build()
            .start();
    try (DirtyClient client = DirtyClient.builder().socket(socket).connectTimeout(forever).build()) {
      assertTrue(client.execute(Call.of(APP, "same").timeout(Duration.ofDays(1))).value().booleanValue());
      assertFalse(client.execute(Call.of(APP, "same").timeout(forever)).value().booleanValue());
      DirtyStream chunks = client.stream(APP, "count");
      assertEquals(1, chunks.next().intValue());
      assertEquals(Reason.UNKNOWN, assertThrows(DirtyException.class, chunks::next).reason());
      assertFalse(chunks.hasNext());
    } finally {
      server.shutdownNow().awaitTermination();
      loop.shutdownGracefully();
    }
  }

  @Test
  void whyThereIsNoConnection(@TempDir Path folder) throws Exception {
    Path absent = folder.resolve("absent.sock");
    assertEquals("cannot reach dirtyd: " + absent + ": absent", whyNot(absent));
    assertTrue(whyNot(folder.resolve("x".repeat(120))).contains("a socket's path has at most 107"));
    Path file = Files.createFile(folder.resolve("file"));
    assertEquals("cannot reach dirtyd: " + file + ": nobody is listening", whyNot(file));
    Path below = file.resolve("dirty.sock");
    assertEquals("cannot reach dirtyd: " + below + ": absent", whyNot(below));
  }

  private static String whyNot(Path socket) {
    try (DirtyClient client = impatient(socket)) {
      DirtyConnectionException error =
          failure(DirtyConnectionException.class, client, Call.of(APP, "same", 1));
      assertEquals(Reason.CONNECTION, error.reason());
      return error.getMessage();
    }
  }

  @Test
  void whoIsNotAllowedLearnsIt() throws Exception {
    try (Dirtyd dirtyd = new Dirtyd()) {
      dirtyd.start("--allow_uids=4242");
      String why = whyNot(dirtyd.socket());
      for (int i = 0; i < 50 && why.contains("no answer"); ++i) { // dirtyd was slow to close it
        why = whyNot(dirtyd.socket());
      }
      assertTrue(why.contains("accepted and closed at once: check allow_uids"), why);
    }
  }

  @Test
  void callWaitsForDirtydToStart() throws Exception {
    try (Dirtyd dirtyd = new Dirtyd();
        DirtyClient client = clientOf(dirtyd)) {
      CompletableFuture<Result> early = client.executeAsync(APP, "same", "early");
      dirtyd.start();
      assertEquals("early", early.get().as(String.class));
    }
  }

  @Test
  void afterRestartTheFirstCallSucceedsSoon() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd)) {
      for (String signal : List.of("KILL", "TERM", "KILL", "TERM")) {
        assertEquals(signal, client.execute(APP, "same", signal).as(String.class));
        dirtyd.end(signal);
        dirtyd.start();
        long again = System.nanoTime();
        assertEquals(signal, client.execute(APP, "same", signal).as(String.class));
        assertTrue(System.nanoTime() - again < TimeUnit.SECONDS.toNanos(2));
      }
      dirtyd.end("KILL");
      assertEquals(
          "cannot reach dirtyd: " + dirtyd.socket() + ": nobody is listening",
          failure(
                  DirtyConnectionException.class,
                  client,
                  Call.of(APP, "same", 1).timeout(Duration.ofMillis(300)))
              .getMessage());
    }
  }

  @Test
  void callThatWasCutOffIsNotSentAgain() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd);
        DirtyStream chunks = client.stream(APP, "count_then_wait", 1)) {
      dirtyd.waitForLine("counted, waiting");
      CompletableFuture<Result> call = client.executeAsync(APP, "wait", 1000);
      dirtyd.waitForLine("INFO waiting");
      dirtyd.end("KILL");
      dirtyd.start();
      Throwable error = assertThrows(ExecutionException.class, call::get).getCause();
      assertEquals(
          Reason.OUTCOME_UNKNOWN,
          assertInstanceOf(DirtyConnectionException.class, error).reason());
      assertTrue(error.getMessage().startsWith("outcome unknown: the connection to "));
      assertEquals(0, chunks.next().intValue());
      assertEquals(
          Reason.OUTCOME_UNKNOWN,
          assertThrows(DirtyConnectionException.class, chunks::hasNext).reason());
      assertEquals(1, client.execute(APP, "same", 1).value().intValue());
      assertFalse(dirtyd.hasLine("waiting"));
    }
  }

  @Test
  void whatDependsOnFutureMayBlock() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient absent = impatient(Path.of("/nowhere"));
        DirtyClient client = clientOf(dirtyd)) {
      CompletableFuture<Result> fallback =
          absent.executeAsync(APP, "same", 1).exceptionally(error -> again(absent, client));
      assertEquals(2, fallback.get().value().intValue());
      CompletableFuture<Result> chained =
          client.executeAsync(APP, "same", 1).thenApply(result -> client.execute(APP, "same", 3));
      assertEquals(3, chained.get().value().intValue());
    }
  }

  private static Result again(DirtyClient absent, DirtyClient client) {
    failure(DirtyConnectionException.class, absent, Call.of(APP, "same", 1));
    return client.execute(APP, "same", 2);
  }

  @Test
  void closingTheClientEndsItsCalls() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready()) {
      DirtyClient client = clientOf(dirtyd);
      CompletableFuture<Result> call = client.executeAsync(APP, "wait", 1000);
      dirtyd.waitForLine("waiting");
      client.close();
      assertThrows(ExecutionException.class, call::get);
      assertEquals(
          Reason.CONNECTION,
          failure(DirtyConnectionException.class, client, Call.of(APP, "same", 1)).reason());
      dirtyd.waitForLine("reason=cancelled");
    }
  }

  @Test
  void manyCallsShareOneClient() throws Exception {
    try (Dirtyd dirtyd = Dirtyd.ready();
        DirtyClient client = clientOf(dirtyd)) {
      List<CompletableFuture<Result>> calls = new ArrayList<>();
      for (int i = 0; i < 200; i++) {
        calls.add(client.executeAsync(APP, "same", i));
      }
      for (int i = 0; i < 200; i++) {
        assertEquals(i, calls.get(i).get().value().intValue());
      }
    }
  }
}
