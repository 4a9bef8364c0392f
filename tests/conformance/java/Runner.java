import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.dirty.client.Call;
import dev.dirty.client.DirtyAppException;
import dev.dirty.client.DirtyClient;
import dev.dirty.client.DirtyException;
import dev.dirty.client.DirtyStream;
import dev.dirty.client.DirtyWorkerException;
import dev.dirty.client.Result;
import java.io.PrintStream;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;

/** The Java client's runner: see tests/conformance/README.md. */
public final class Runner {
  private static final ObjectMapper JSON =
      new ObjectMapper(
          JsonFactory.builder()
              .streamReadConstraints(
                  StreamReadConstraints.builder().maxStringLength(Integer.MAX_VALUE).build())
              .build());

  private final DirtyClient client;
  private final String prefix;

  private Runner(DirtyClient client, String prefix) {
    this.client = client;
    this.prefix = prefix;
  }

  public static void main(String[] args) throws Exception {
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    try (DirtyClient client = DirtyClient.builder().socket(args[1]).build()) {
      Runner runner = new Runner(client, args[2]);
      for (JsonNode vector : JSON.readTree(Files.readString(Path.of(args[0])))) {
        ObjectNode line = JSON.createObjectNode().set("vector", vector.get("name"));
        try {
          line.set("outcomes", runner.run(vector.get("steps")));
        } catch (RuntimeException broken) {
          line.put("broken", broken.toString());
        }
        out.println(line);
      }
    }
  }

  /** A stream that was started, and what was read of it. */
  private static final class Reading {
    final ArrayNode chunks = JSON.createArrayNode();
    final DirtyStream stream;
    boolean left;

    Reading(DirtyStream stream) {
      this.stream = stream;
    }
  }

  private ArrayNode run(JsonNode steps) {
    ArrayNode outcomes = JSON.createArrayNode();
    Map<String, CompletableFuture<Result>> calls = new HashMap<>();
    Map<String, Reading> streams = new HashMap<>();
    for (JsonNode step : steps) {
      String id = step.path("id").asText();
      boolean stream = step.path("stream").asBoolean();
      switch (step.get("do").asText()) {
        case "call":
          outcomes.add(stream ? read(call(step)) : outcome(call(step)));
          break;
        case "start":
          if (stream) {
            Reading reading = new Reading(client.stream(call(step)));
            streams.put(id, reading);
            for (int i = step.path("read").asInt(); i > 0; i--) {
              reading.chunks.add(shown(reading.stream.next()));
            }
          } else {
            calls.put(id, client.executeAsync(call(step)));
          }
          break;
        case "cancel":
          if (streams.containsKey(id)) {
            streams.get(id).stream.close();
            streams.get(id).left = true;
          } else {
            calls.get(id).cancel(true);
          }
          break;
        case "finish":
          outcomes.add(streams.containsKey(id) ? rest(streams.get(id)) : outcome(calls.get(id)));
          break;
        default:
          throw new IllegalArgumentException("no step " + step.get("do"));
      }
    }
    return outcomes;
  }

  private JsonNode outcome(Call call) {
    try {
      return result(client.execute(call));
    } catch (DirtyException error) {
      return JSON.createObjectNode().set("error", shown(error));
    }
  }

  private static JsonNode outcome(CompletableFuture<Result> call) {
    try {
      return result(call.join());
    } catch (CancellationException cancelled) {
      return JSON.createObjectNode().set("error", JSON.createObjectNode().put("reason", "CANCELLED"));
    } catch (CompletionException failed) {
      return JSON.createObjectNode().set("error", shown((DirtyException) failed.getCause()));
    }
  }

  private static JsonNode result(Result result) {
    return JSON.createObjectNode().set("result", shown(result.value()));
  }

  private JsonNode read(Call call) {
    try {
      return rest(new Reading(client.stream(call)));
    } catch (DirtyException refused) {
      ObjectNode outcome = JSON.createObjectNode().set("chunks", JSON.createArrayNode());
      return outcome.set("error", shown(refused));
    }
  }

  private static JsonNode rest(Reading reading) {
    ObjectNode outcome = JSON.createObjectNode().set("chunks", reading.chunks);
    if (reading.left) {
      return outcome.set("error", JSON.createObjectNode().put("reason", "CANCELLED"));
    }
    try (DirtyStream stream = reading.stream) {
      stream.forEachRemaining(chunk -> reading.chunks.add(shown(chunk)));
    } catch (DirtyException error) {
      outcome.set("error", shown(error));
    }
    return outcome;
  }

  private Call call(JsonNode step) {
    Call call = Call.of(prefix + "-" + step.get("app").asText(), step.get("action").asText());
    step.path("args").forEach(value -> call.arg(made(value)));
    step.path("kwargs").properties().forEach(named -> call.kwarg(named.getKey(), made(named.getValue())));
    if (step.has("raw_args")) {
      call.argsJson(step.get("raw_args").asText());
    }
    if (step.has("raw_kwargs")) {
      call.kwargsJson(step.get("raw_kwargs").asText());
    }
    if (step.has("timeout")) {
      call.timeout(Duration.ofNanos(Math.round(step.get("timeout").asDouble() * 1e9)));
    }
    return call;
  }

  /** What a value of the vectors stands for. */
  private static Object made(JsonNode value) {
    if (value.isArray()) {
      List<Object> list = new ArrayList<>();
      value.forEach(element -> list.add(made(element)));
      return list;
    }
    if (!value.isObject()) {
      return value;
    }
    String key = value.size() == 1 ? value.fieldNames().next() : "";
    JsonNode held = value.path(key);
    switch (key) {
      case "$bytes":
        return Base64.getDecoder().decode(held.asText());
      case "$bytes_of":
        byte[] bytes = new byte[held.get(1).asInt()];
        Arrays.fill(bytes, (byte) held.get(0).asInt());
        return bytes;
      case "$text_of":
        return held.get(0).asText().repeat(held.get(1).asInt());
      case "$int":
        return new BigInteger(held.asText());
      case "$double":
        return Double.valueOf(held.asText());
      case "$levels":
        Object inner = made(held.get(1));
        for (int i = held.get(0).asInt(); i > 0; i--) {
          inner = Arrays.asList(inner);
        }
        return inner;
      case "$utf16":
        StringBuilder text = new StringBuilder();
        held.forEach(unit -> text.append((char) unit.asInt()));
        return text.toString();
      default:
        Map<String, Object> map = new LinkedHashMap<>();
        value.properties().forEach(named -> map.put(named.getKey(), made(named.getValue())));
        return map;
    }
  }

  /** A value as outcomes have it. */
  private static JsonNode shown(JsonNode value) {
    if (value.isBinary()) {
      try {
        String text = Base64.getEncoder().encodeToString(value.binaryValue());
        return JSON.createObjectNode().put("$bytes", text);
      } catch (java.io.IOException impossible) {
        throw new IllegalStateException(impossible);
      }
    }
    if (value.isArray()) {
      ArrayNode array = JSON.createArrayNode();
      value.forEach(element -> array.add(shown(element)));
      return array;
    }
    if (value.isObject()) {
      ObjectNode object = JSON.createObjectNode();
      value.properties().forEach(named -> object.set(named.getKey(), shown(named.getValue())));
      return object;
    }
    return value;
  }

  private static JsonNode shown(DirtyException error) {
    ObjectNode all = JSON.createObjectNode().put("reason", error.reason().name());
    text(all, "message", error.getMessage());
    text(all, "app", error.app());
    text(all, "action", error.action());
    text(all, "call_id", error.callId());
    if (error.workerId() != 0) {
      all.put("worker_id", error.workerId());
    }
    error.retryDelay().ifPresent(time -> all.put("retry_delay", time.toNanos() / 1e9));
    error.timeout().ifPresent(time -> all.put("timeout", time.toNanos() / 1e9));
    if (error instanceof DirtyAppException) {
      text(all, "exception_type", ((DirtyAppException) error).exceptionType());
      text(all, "traceback", ((DirtyAppException) error).traceback());
    }
    if (error instanceof DirtyWorkerException) {
      DirtyWorkerException lost = (DirtyWorkerException) error;
      lost.exitCode().ifPresent(code -> all.put("exit_code", code));
      text(all, "signal", lost.signal());
      if (!lost.stderrTail().isEmpty()) {
        lost.stderrTail().forEach(all.withArray("stderr_tail")::add);
      }
    }
    return all;
  }

  private static void text(ObjectNode object, String name, String value) {
    if (!value.isEmpty()) {
      object.put(name, value);
    }
  }
}
