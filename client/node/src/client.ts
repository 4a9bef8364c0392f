import { Metadata, type ServiceError } from "@grpc/grpc-js";
import { cancelledUnsent, Connector, type Connection } from "./connector.js";
import { DirtyError, type ErrorDetails, makeError } from "./errors.js";
import { type Chunk, ExecuteRequest, type ExecuteResponse } from "./generated/dirty/v1/call.js";
import { ArbiterService, asBuffer } from "./protocol.js";
import { errorOf, toDuration } from "./status.js";
import { DirtyStream, type Opened } from "./stream.js";
import { decodeValue, encodeValue, isText, UnsendableError, type Value } from "./values.js";

/** How a client reaches dirtyd. */
export interface ClientOptions {
  /** dirtyd's client socket. Default: `$DIRTY_SOCKET`, then `/run/dirty/dirty.sock` and
   * `$XDG_RUNTIME_DIR/dirty/dirty.sock`; the first that answers, which the client then stays with. */
  socket?: string | undefined;
  /** How many milliseconds a call waits for the socket. Default 5000; 0: one attempt. */
  connectTimeout?: number | undefined;
  /** Larger requests are not sent, in bytes. As dirtyd's `max_message_size`; default 64 MiB, 0: no limit. */
  maxMessageSize?: number | undefined;
}

/** What one call may set. */
export interface CallOptions {
  /** Named arguments. */
  kwargs?: Record<string, unknown> | undefined;
  /** Milliseconds for connecting, waiting and running together. It only shortens dirtyd's own limits. */
  timeout?: number | undefined;
  /** Cancels the call. */
  signal?: AbortSignal | undefined;
  /** The caller's own name for the call, for logs and traces. */
  requestId?: string | undefined;
  /** W3C trace context. */
  traceparent?: string | undefined;
}

/** Milliseconds that dirtyd's own answer to a timeout has, before the transport gives up. */
const ANSWER_MS = 1000;
/** As good as for ever: a longer timeout is none. Ten years; gRPC cannot tell more than eight digits of hours. */
const LONGEST_MS = 10 * 365 * 24 * 3600 * 1000;

/** A call that can be sent. */
interface Outgoing {
  request: ExecuteRequest;
  /** The request as it is written. */
  bytes: Uint8Array;
  options: CallOptions;
  /** When the caller's time is over (performance.now()). */
  deadline: number;
  known: ErrorDetails;
}

/**
 * Calls apps through dirtyd. One client serves a whole process; it connects when it is first used, and again when it
 * must. An idle client does not keep the process alive.
 *
 *     const client = new Client();
 *     const thumbnail = await client.execute("images:ImageApp", "thumbnail", [photo], { kwargs: { size: 256 } });
 *
 * Everything that goes wrong is a DirtyError. A call that may have started is never sent again.
 */
export class Client {
  readonly #connector: Connector;
  readonly #connectTimeout: number;
  readonly #maxMessageSize: number;

  constructor(options: ClientOptions = {}) {
    this.#connector = new Connector(options.socket);
    this.#connectTimeout = options.connectTimeout ?? 5000;
    this.#maxMessageSize = options.maxMessageSize ?? 64 << 20;
  }

  /** Runs `action` of `app` with positional arguments; its result. */
  async execute(app: string, action: string, args: readonly unknown[] = [], options: CallOptions = {}): Promise<Value> {
    const call = this.#prepare(app, action, args, options);
    const connection = await this.#connect(call);
    const { path, responseDeserialize } = ArbiterService["execute"]!;
    const response = await new Promise<ExecuteResponse>((resolve, reject) => {
      const { signal } = options;
      const cancel = (): void => rpc.cancel();
      const rpc = connection.channel.makeUnaryRequest(
        path,
        asBuffer,
        responseDeserialize,
        call.bytes,
        metadataOf(options),
        limitsOf(call),
        (error: ServiceError | null, response?: unknown) => {
          signal?.removeEventListener("abort", cancel);
          if (error) return reject(failed(error, connection.path, call));
          resolve(response as ExecuteResponse);
        },
      );
      signal?.addEventListener("abort", cancel);
      if (signal?.aborted) cancel(); // since the connection was there
    });
    return read(response.result, response.attachments, call.known);
  }

  /**
   * Starts an action that streams; iterate over its values with `for await`. One that does not stream gives one value.
   * The producer waits while the values are not read. Leaving the loop cancels the call; a stream that nobody will
   * read to its end needs `cancel()`.
   */
  stream(app: string, action: string, args: readonly unknown[] = [], options: CallOptions = {}): DirtyStream {
    return new DirtyStream(this.#open(app, action, args, options), options.signal);
  }

  /** Takes no more calls. Those that run go on to their end. */
  close(): void {
    this.#connector.close();
  }

  async #open(app: string, action: string, args: readonly unknown[], options: CallOptions): Promise<Opened> {
    const call = this.#prepare(app, action, args, options);
    const connection = await this.#connect(call);
    const { path, responseDeserialize } = ArbiterService["executeStream"]!;
    const rpc = connection.channel.makeServerStreamRequest(
      path,
      asBuffer,
      responseDeserialize,
      call.bytes,
      metadataOf(options),
      limitsOf(call),
    );
    return {
      rpc,
      valueOf: (chunk) => read((chunk as Chunk).value, (chunk as Chunk).attachments, call.known),
      errorOf: (error) => failed(error, connection.path, call),
    };
  }

  #prepare(app: string, action: string, args: readonly unknown[], options: CallOptions): Outgoing {
    const known = { app, action };
    const refuse = (message: string, cause?: unknown): never => {
      throw makeError("INVALID_REQUEST", message, { ...known, cause });
    };
    const { kwargs = {}, requestId = "", signal, traceparent = "" } = options;
    const timeout = options.timeout !== undefined && options.timeout > LONGEST_MS ? undefined : options.timeout;
    if (!Array.isArray(args)) refuse("args must be an array");
    if (timeout !== undefined && !(timeout > 0)) refuse("timeout must be positive");
    if (![app, action, requestId].every(isText)) refuse("app, action or requestId has an unpaired surrogate");
    if (!/^[ -~]*$/.test(traceparent)) refuse("traceparent is not ASCII text");
    if (signal?.aborted) throw named(cancelledUnsent(signal), known);
    const attachments: Uint8Array[] = [];
    const request: ExecuteRequest = {
      app,
      action,
      args: "",
      kwargs: "",
      attachments,
      timeout: timeout === undefined ? undefined : toDuration(timeout),
      requestId,
    };
    try {
      request.args = encodeValue(args, attachments, "args");
      request.kwargs = encodeValue(kwargs, attachments, "kwargs");
    } catch (error) {
      if (!(error instanceof UnsendableError)) throw error;
      refuse(error.message, error);
    }
    if (!request.kwargs.startsWith("{")) refuse("kwargs must be an object");
    const bytes = ExecuteRequest.encode(request).finish();
    if (this.#maxMessageSize > 0 && bytes.length > this.#maxMessageSize) {
      const message = `the request has ${bytes.length} bytes, max_message_size is ${this.#maxMessageSize}`;
      throw makeError("TOO_LARGE", message, known);
    }
    return { request, bytes, options, deadline: performance.now() + (timeout ?? Infinity), known };
  }

  async #connect(call: Outgoing): Promise<Connection> {
    const start = performance.now();
    try {
      const connection = await this.#connector.get(
        Math.min(start + this.#connectTimeout, call.deadline),
        call.options.signal,
      );
      const left = call.deadline - performance.now();
      // Connecting takes of the caller's time.
      if (left < Infinity && performance.now() - start > 1) {
        call.request.timeout = toDuration(Math.max(left, 1));
        call.bytes = ExecuteRequest.encode(call.request).finish();
      }
      return connection;
    } catch (error) {
      throw error instanceof DirtyError ? named(error, call.known) : error;
    }
  }
}

function limitsOf(call: Outgoing): { deadline?: number } {
  const left = call.deadline - performance.now();
  return left === Infinity ? {} : { deadline: Date.now() + left + ANSWER_MS };
}

function metadataOf(options: CallOptions): Metadata {
  const metadata = new Metadata();
  if (options.traceparent) metadata.set("traceparent", options.traceparent);
  return metadata;
}

function failed(error: ServiceError, path: string, call: Outgoing): DirtyError {
  const known = { ...call.known };
  const { signal } = call.options;
  return errorOf(error, path, signal?.aborted ? { ...known, cause: signal.reason } : known);
}

function named(error: DirtyError, known: ErrorDetails): DirtyError {
  return makeError(error.reason, error.message, { ...known, cause: error.cause });
}

function read(text: string, attachments: readonly Uint8Array[], known: ErrorDetails): Value {
  try {
    return decodeValue(text, attachments);
  } catch (error) {
    const message = `the worker's result cannot be read: ${(error as Error).message}`;
    throw makeError("UNKNOWN", message, { ...known, cause: error });
  }
}
