package dev.dirty.client;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * A call: an action of an app, with arguments and limits.
 *
 * <pre>{@code
 * Call.of("libthumbnail.so:Thumbnail", "thumbnail").arg(photo).kwarg("size", 128)
 * }</pre>
 *
 * <p>Arguments are anything that Jackson can turn into JSON: {@code null}, strings, numbers, lists, maps, {@code
 * JsonNode}, classes of yours. {@code byte[]}, anywhere in them, passes as bytes. An object whose only key is {@code
 * $attachment} is refused, as are NaN, infinities and strings with unpaired surrogates. Not thread-safe; sending it
 * does not change it.
 */
public final class Call {
  final String app;
  final String action;
  final List<Object> args = new ArrayList<>();
  final Map<String, Object> kwargs = new LinkedHashMap<>();
  String argsJson = "";
  String kwargsJson = "";
  Duration timeout;
  String requestId = "";
  String traceparent;

  private Call(String app, String action) {
    this.app = Objects.requireNonNull(app, "app");
    this.action = Objects.requireNonNull(action, "action");
  }

  /** A call of {@code action} of {@code app}, with positional arguments. */
  public static Call of(String app, String action, Object... args) {
    Call call = new Call(app, action);
    Collections.addAll(call.args, args);
    return call;
  }

  /** Adds a positional argument. */
  public Call arg(Object value) {
    args.add(value);
    return this;
  }

  /** Adds a named argument. */
  public Call kwarg(String name, Object value) {
    kwargs.put(Objects.requireNonNull(name, "name"), value);
    return this;
  }

  /** All positional arguments, as the text of a JSON array that goes through as it is. The worker checks it. */
  public Call argsJson(String text) {
    argsJson = Objects.requireNonNull(text, "text");
    return this;
  }

  /** All named arguments, as the text of a JSON object that goes through as it is. The worker checks it. */
  public Call kwargsJson(String text) {
    kwargsJson = Objects.requireNonNull(text, "text");
    return this;
  }

  /**
   * How long the caller waits: to connect, queued and running together, of a stream until its end. It only shortens
   * dirtyd's own limits.
   */
  public Call timeout(Duration time) {
    timeout = Objects.requireNonNull(time, "time");
    return this;
  }

  /** The caller's own name for the call, for logs and traces; the first 128 bytes are kept. */
  public Call requestId(String id) {
    requestId = Objects.requireNonNull(id, "id");
    return this;
  }

  /** The W3C trace context of the caller, which the app gets. */
  public Call traceparent(String context) {
    traceparent = Objects.requireNonNull(context, "context");
    return this;
  }
}
