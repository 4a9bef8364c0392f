import type { ClientReadableStream, ServiceError } from "@grpc/grpc-js";
import type { DirtyError } from "./errors.js";
import type { Value } from "./values.js";

/** A streaming RPC that has been sent. */
export interface Opened {
  rpc: ClientReadableStream<unknown>;
  valueOf(chunk: unknown): Value;
  errorOf(error: ServiceError): DirtyError;
}

/** The values of a streaming call, as they come. An error comes after the values before it. */
export class DirtyStream implements AsyncIterableIterator<Value> {
  readonly #opened: Promise<Opened>;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => this.#cancelRpc();
  #rpc: ClientReadableStream<unknown> | undefined;
  #failure: ServiceError | undefined;
  #ended = false;
  #left = false;
  #wake: () => void = () => {};
  #last: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor(opened: Promise<Opened>, signal: AbortSignal | undefined) {
    this.#signal = signal;
    this.#opened = opened.then((call) => this.#listen(call));
    this.#opened.catch(() => {}); // next() tells
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next value. */
  next(): Promise<IteratorResult<Value, undefined>> {
    const next = this.#last.then(() => this.#next());
    this.#last = next.catch(() => {});
    return next;
  }

  /** Leaves the stream: the call is cancelled if it has not ended. What `for await` does when the loop is left. */
  return(): Promise<IteratorResult<Value, undefined>> {
    this.#left = true;
    this.cancel();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Cancels the call if it has not ended: after the values that are here already, `next` rejects. */
  cancel(): void {
    this.#opened.then(
      () => this.#cancelRpc(),
      () => {},
    );
  }

  #cancelRpc(): void {
    if (!this.#ended) this.#rpc?.cancel();
  }

  #listen(call: Opened): Opened {
    const { rpc } = call;
    this.#rpc = rpc;
    rpc.on("readable", () => this.#wake());
    rpc.on("end", () => this.#end());
    rpc.on("error", (error: ServiceError) => {
      this.#failure = error;
      this.#end();
    });
    this.#signal?.addEventListener("abort", this.#onAbort);
    if (this.#signal?.aborted) rpc.cancel();
    return call;
  }

  #end(): void {
    this.#ended = true;
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#wake();
  }

  async #next(): Promise<IteratorResult<Value, undefined>> {
    const { rpc, valueOf, errorOf } = await this.#opened;
    for (;;) {
      if (this.#left) return { done: true, value: undefined };
      const chunk: unknown = rpc.read();
      if (chunk !== null) {
        try {
          return { done: false, value: valueOf(chunk) };
        } catch (error) {
          void this.return();
          throw error;
        }
      }
      if (this.#ended) break;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const failure = this.#failure;
    this.#left = true; // it fails once
    if (failure) throw errorOf(failure);
    return { done: true, value: undefined };
  }
}
