// One call on an app: from its arguments to its answer, with cancellation and credit.
import { CancelReason, Chunk, ExecuteResponse, ReasonNumber as Reason } from "dirty-client/protocol";
import { decodeValue, encodeValue, UnsendableError } from "dirty-client/values";

const WHY_CANCELLED = {
  [CancelReason.CANCEL_REASON_CLIENT]: "the client cancelled the call or went away",
  [CancelReason.CANCEL_REASON_OPERATOR]: "an operator cancelled the call",
  [CancelReason.CANCEL_REASON_TIMEOUT]: "the call ran too long and was cancelled",
  [CancelReason.CANCEL_REASON_SHUTDOWN]: "the call was cancelled by a shutdown",
};

/** Why a call ends other than by what its app raised. */
class Refusal extends Error {
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}

/** A dirty.v1.Error. `cause`: a text, or what was thrown. */
export function failure(reason, cause, more = {}) {
  const thrown = typeof cause === "string" ? undefined : cause;
  return {
    reason,
    message: thrown === undefined ? cause : String(thrown?.message ?? thrown),
    app: "", action: "", callId: "", workerId: 0,
    exceptionType: thrown === undefined ? "" : String(thrown?.name ?? typeof thrown),
    traceback: String(thrown?.stack ?? ""),
    retryDelay: undefined, timeout: undefined, exitCode: undefined, signal: "", stderrTail: [],
    ...more,
  }; // prettier-ignore
}

/** How many levels of arrays and objects a JSON text has. */
function depthOf(text) {
  let depth = 0;
  let deepest = 0;
  for (const [token] of text.matchAll(/[[{\]}]|"(?:[^"\\]|\\.)*"/g)) {
    if (token === "[" || token === "{") deepest = Math.max(deepest, ++depth);
    else if (token === "]" || token === "}") --depth;
  }
  return deepest;
}

export class Call {
  #start;
  #config;
  #send;
  #abort = new AbortController();
  #credits;
  #wake = () => {};

  /** `start`: dirtyd's StartCall. `config`: its WorkerConfig. */
  constructor(start, config, send) {
    this.#start = start;
    this.#config = config;
    this.#send = send;
    this.#credits = start.credits;
  }

  cancel(reason = CancelReason.CANCEL_REASON_SHUTDOWN) {
    this.#abort.abort(new Refusal(Reason.REASON_CANCELLED, WHY_CANCELLED[reason] ?? "the call was cancelled"));
    this.#wake();
  }

  addCredit(chunks) {
    this.#credits += chunks;
    this.#wake();
  }

  /** Runs the action, and answers exactly once. */
  async run(app) {
    let outcome;
    try {
      const result = await this.#execute(app);
      if (isStream(result)) {
        await this.#stream(result);
      } else if (this.#start.stream) {
        await this.#emit(result);
      } else {
        outcome = this.#encode("result", result, ExecuteResponse, "result");
      }
      outcome ??= { result: "", attachments: [], callId: "", workerId: 0 };
      outcome = { $case: "response", value: outcome };
    } catch (error) {
      outcome = { $case: "error", value: this.#failure(error) };
    }
    this.#send({ $case: "done", value: { call: this.#start.call, outcome } });
  }

  async #execute(app) {
    const { request, callId, timeLeft, traceparent, stream } = this.#start;
    const args = this.#decode("args", request.args || "[]");
    const kwargs = this.#decode("kwargs", request.kwargs || "{}");
    this.#abort.signal.throwIfAborted();
    const method = actionOf(app, request.action);
    if (!method) throw new ReferenceError(`${request.app} has no action ${request.action}`);
    const milliseconds = timeLeft && Number(timeLeft.seconds) * 1000 + timeLeft.nanos / 1e6;
    const call = {
      id: callId,
      kwargs,
      signal: this.#abort.signal,
      deadline: timeLeft && Date.now() + milliseconds,
      requestId: request.requestId,
      traceparent,
    };
    const result = await method.call(app, call, ...args);
    if (isStream(result) && !stream) {
      await result.return?.();
      throw new TypeError(
        "the action returned a stream, and the caller did not ask for one: call it with client.stream",
      );
    }
    return result;
  }

  /** Emits what an iterator gives. It is closed if the call ends before it does. */
  async #stream(iterator) {
    try {
      for (;;) {
        await this.#credit(); // nothing is made before it is wanted
        const { done, value } = await iterator.next();
        if (done) return;
        await this.#emit(value);
      }
    } catch (error) {
      await iterator.return?.();
      throw error;
    }
  }

  async #emit(value) {
    await this.#credit();
    const chunk = this.#encode("value", value, Chunk, "chunk");
    --this.#credits;
    this.#send({ $case: "chunk", value: { call: this.#start.call, chunk } });
  }

  /** Waits until a chunk may be sent. */
  async #credit() {
    while (this.#credits === 0 && !this.#abort.signal.aborted) await new Promise((resolve) => (this.#wake = resolve));
    this.#abort.signal.throwIfAborted();
  }

  #decode(field, text) {
    const [open, kind] = field === "args" ? ["[", "array"] : ["{", "object"];
    let value;
    try {
      value = decodeValue(text, this.#start.request.attachments);
    } catch (error) {
      throw new Refusal(Reason.REASON_INVALID_REQUEST, `${field} is not JSON: ${error.message}`);
    }
    if (!text.trimStart().startsWith(open) || value instanceof Uint8Array) {
      throw new Refusal(Reason.REASON_INVALID_REQUEST, `${field} must be a JSON ${kind}`);
    }
    this.#checkDepth(field, text, Reason.REASON_INVALID_REQUEST);
    return value;
  }

  #checkDepth(what, text, reason) {
    const limit = this.#config.maxJsonDepth || 1000;
    const depth = text.length > limit ? depthOf(text) : 0;
    if (depth > limit) {
      throw new Refusal(reason, `${what} is ${depth} levels deep; at most ${limit} are allowed (max_json_depth)`);
    }
  }

  /** A response or chunk with `value` in its field `name`. */
  #encode(name, value, type, what) {
    const attachments = [];
    const text = encodeValue(value, attachments, what);
    this.#checkDepth(what, text, Reason.REASON_APP_ERROR);
    const message = { [name]: text, attachments, callId: "", workerId: 0 };
    const limit = Number(this.#config.maxMessageSize);
    const size = limit > 0 ? type.encode(message).finish().length : 0;
    if (size > limit) {
      const advice = `the ${what} has ${size} bytes; max_message_size is ${limit}: return less, or a stream of parts`;
      throw new Refusal(Reason.REASON_TOO_LARGE, advice);
    }
    return message;
  }

  #failure(error) {
    const { request, callId } = this.#start;
    const more = { app: request.app, action: request.action, callId, workerId: this.#config.workerId };
    // What an action that was cancelled throws is mostly an AbortError of somebody else's.
    const { aborted, reason } = this.#abort.signal;
    if (aborted && (error === reason || error?.name === "AbortError")) error = reason;
    if (error instanceof Refusal && error.reason !== Reason.REASON_APP_ERROR) {
      return failure(error.reason, error.message, more);
    }
    if (error instanceof UnsendableError || error instanceof Refusal) more.exceptionType = "TypeError";
    return failure(Reason.REASON_APP_ERROR, error, more);
  }
}

function isStream(value) {
  return typeof value?.next === "function" && (Symbol.asyncIterator in value || Symbol.iterator in value);
}

/** The method that an action names: what the app's class defines, but its life and its private parts. */
function actionOf(app, action) {
  if (action.startsWith("_") || ["constructor", "init", "close"].includes(action)) return undefined;
  for (let type = Object.getPrototypeOf(app); type && type !== Object.prototype; type = Object.getPrototypeOf(type)) {
    if (Object.hasOwn(type, action)) return typeof app[action] === "function" ? app[action] : undefined;
  }
  return undefined;
}
