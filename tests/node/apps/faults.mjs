// Apps that try a worker in JavaScript.
import { Client } from "dirty-client";

const kept = [];

export class Faults {
  produced = 0;

  init() {
    this.field = () => "no action";
  }

  same(call, value) {
    return value;
  }

  about(call) {
    const { deadline, signal, ...rest } = call;
    return {
      ...rest,
      left: deadline === undefined ? null : deadline - Date.now(),
      pid: process.pid,
      cwd: process.cwd(),
    };
  }

  fail(call, text) {
    throw new RangeError(text);
  }

  async failLater() {
    await null;
    throw "only a text";
  }

  notJson() {
    return new Map();
  }

  big(call, size) {
    return new Uint8Array(size);
  }

  deep(call, levels) {
    let value = 1;
    for (let i = 0; i < levels; ++i) value = [value];
    return value;
  }

  *count(call, to) {
    try {
      for (let i = 0; i < to; ++i) {
        this.produced = i + 1;
        yield i;
      }
    } finally {
      console.log("count ended");
    }
  }

  async *countAndFail(call, to) {
    yield* [...Array(to).keys()];
    throw new Error("counted enough");
  }

  soFar() {
    return this.produced;
  }

  /** Until the call is cancelled. */
  async hold(call) {
    console.log("holding");
    await new Promise((resolve) => call.signal.addEventListener("abort", resolve));
    console.log(`let go: ${call.signal.reason.message}`);
    call.signal.throwIfAborted();
  }

  /** Until it is released. */
  async park() {
    console.log("parked");
    return new Promise((resolve) => (this.release = () => resolve("released")));
  }

  spinFor(call, milliseconds) {
    console.log("spinning");
    for (const end = Date.now() + milliseconds; Date.now() < end; );
    return "spun";
  }

  block() {
    console.log("blocking");
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  }

  crash() {
    setTimeout(() => {
      throw new Error("nobody catches this");
    });
    return new Promise(() => {});
  }

  leak(call, size) {
    kept.push(Buffer.alloc(size, 1));
    return process.pid;
  }

  async callBack(call, text) {
    const client = new Client();
    try {
      return await client.execute("faults.mjs:Faults", "same", [text]);
    } finally {
      client.close();
    }
  }

  _private() {}

  async close() {
    await null;
    console.log("faults closed");
  }
}

export class Broken {
  init() {
    throw new Error("no model");
  }
}

export class Exits {
  init() {
    process.exit(7);
  }
}

export class Few {
  static workers = 1;

  pid() {
    return process.pid;
  }
}

export class First {
  close() {
    console.log("first closed");
  }
}
