package dev.dirty.client;

import com.fasterxml.jackson.databind.JsonNode;
import dev.dirty.v1.ExecuteResponse;
import java.time.Duration;

/** The outcome of a call that succeeded. Immutable, as long as nobody changes its value. */
public final class Result {
  private final JsonNode value;
  private final String callId;
  private final int workerId;
  private final Duration queuedTime;
  private final Duration runTime;

  Result(ExecuteResponse response) {
    value = Values.decode(response.getResult(), response.getAttachmentsList());
    callId = response.getCallId();
    workerId = response.getWorkerId();
    queuedTime = Values.duration(response.getQueuedTime());
    runTime = Values.duration(response.getRunTime());
  }

  /** What the action returned. Bytes, anywhere in it, are binary nodes. */
  public JsonNode value() {
    return value;
  }

  /**
   * The same as a Java type: {@code byte[].class}, {@code String.class}, a class of yours.
   *
   * @throws IllegalArgumentException the value has another shape
   */
  public <T> T as(Class<T> type) {
    return Values.MAPPER.convertValue(value, type);
  }

  /** dirtyd's id of the call, as in its log. */
  public String callId() {
    return callId;
  }

  /** The worker that ran it. */
  public int workerId() {
    return workerId;
  }

  /** How long it waited for a worker. */
  public Duration queuedTime() {
    return queuedTime;
  }

  /** How long it ran. */
  public Duration runTime() {
    return runTime;
  }

  @Override
  public String toString() {
    return value.toString();
  }
}
