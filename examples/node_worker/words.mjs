// An app in JavaScript: one instance in each worker. Actions get the call, then the positional arguments.
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

export class Words {
  /** Once in each worker: load what takes long here. */
  async init() {
    this.greeting = await Promise.resolve("hello");
    this.greeted = 0;
  }

  greet(call, name) {
    this.greeted += 1;
    return `${this.greeting} ${name}${call.kwargs.mark ?? "!"}`;
  }

  /** Bytes arrive as Uint8Array, and go back as such. */
  compress(call, text) {
    return { sha256: createHash("sha256").update(text).digest("hex"), reversed: Uint8Array.from(text).reverse() };
  }

  /** Values that are yielded are streamed; nothing is made before the reader wants it. */
  async *count(call, to) {
    for (let i = 0; i < to; ++i) yield { i };
  }

  /** `call.signal` says when nobody waits any more. */
  async rest(call, milliseconds) {
    await sleep(milliseconds, undefined, { signal: call.signal });
    return "rested";
  }

  /** Once, after the last call. */
  close() {
    console.log(`greeted ${this.greeted}`);
  }
}
