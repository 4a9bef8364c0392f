// The worker in JavaScript seen from the other end of its link: this test is the arbiter.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { WorkerService } from "dirty-client/protocol";
import { Lines, makeFolder } from "./dirtyd.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const WORKER = path.resolve(HERE, "../../examples/node_worker/dirty-worker.mjs");

/** A worker, and the link to it. */
class Link {
  frames = [];
  #wake = () => {};

  async open() {
    const socket = `${makeFolder()}/worker.sock`;
    this.process = spawn(process.execPath, [WORKER], {
      cwd: path.join(HERE, "apps"),
      env: { ...process.env, DIRTY_WORKER_SOCKET: socket, DIRTY_WORKER_ID: "1", DIRTY_READY_FD: "3" },
      stdio: ["ignore", "pipe", "pipe", "pipe"],
    });
    this.out = new Lines(this.process.stdout);
    this.errors = new Lines(this.process.stderr);
    this.exit = once(this.process, "exit");
    const [ready] = await once(this.process.stdio[3], "data");
    assert.equal(String(ready), "\n");
    this.client = new grpc.Client(`unix:${socket}`, grpc.credentials.createInsecure());
    this.stream = this.attach();
    this.stream.on("data", ({ frame }) => {
      this.frames.push(frame);
      this.#wake();
    });
    this.ended = new Promise((resolve) => this.stream.on("status", resolve));
    this.stream.on("error", () => {});
    return this;
  }

  attach() {
    const { path, requestSerialize, responseDeserialize } = WorkerService.attach;
    return this.client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
  }

  send($case, value) {
    this.stream.write({ frame: { $case, value } });
  }

  /** The first frame of this kind that was not taken yet. */
  async take($case) {
    for (;;) {
      const found = this.frames.findIndex((frame) => frame.$case === $case);
      if (found >= 0) return this.frames.splice(found, 1)[0].value;
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  hello(...apps) {
    this.send("hello", {
      protocolVersion: 1, features: [], workerId: 1, index: 0, pool: "js", generation: 1n, slots: 4,
      apps: apps.map((name) => ({ name, path: name, searched: [], maySkip: true })),
      maxMessageSize: 1n << 26n, maxJsonDepth: 128, workerInitHook: "", arbiterStartTime: 0,
    }); // prettier-ignore
  }

  start(call, action, args = "", more = {}) {
    const request = {
      app: "faults.mjs:Faults", action, args, kwargs: "", attachments: [], timeout: undefined, requestId: "",
    }; // prettier-ignore
    const plain = { timeLeft: undefined, stream: false, credits: 0, traceparent: "" };
    this.send("start", { call: BigInt(call), callId: `c-${call}`, request, ...plain, ...more });
  }

  async ready() {
    await this.open();
    this.hello("faults.mjs:Faults");
    await this.take("ready");
    return this;
  }

  async end() {
    const [code, signal] = await this.exit;
    this.client.close();
    return code ?? signal;
  }
}

test("from hello to a drain", async () => {
  const link = await new Link().open();
  link.hello("faults.mjs:Faults", "faults.mjs:Broken");
  await link.take("ready");
  const [hello, ...rest] = [...link.frames];
  assert.equal(hello.$case, "hello");
  assert.equal(hello.value.protocolVersion, 1);
  assert.equal(hello.value.runtime, `node/${process.versions.node}`);
  assert.deepEqual(rest.map(({ $case, value }) => [$case, value.app]), [
    ["appStarting", "faults.mjs:Faults"],
    ["appReady", "faults.mjs:Faults"],
    ["appStarting", "faults.mjs:Broken"],
    ["appFailed", "faults.mjs:Broken"],
  ]); // prettier-ignore
  link.send("reopenLogs", {});
  link.stream.write({}); // a frame that is newer than the worker
  link.start(1, "same", "[1]");
  const { outcome } = await link.take("done");
  assert.equal(outcome.value.result, "1");
  link.send("drain", {});
  assert.equal((await link.ended).code, grpc.status.OK);
  assert.equal(await link.end(), 0);
  assert.ok(link.out.all.includes("faults closed"));
  assert.deepEqual(link.errors.all, []);
});

test("a second Attach is refused", async () => {
  const link = await new Link().ready();
  const second = link.attach();
  const [error] = await once(second, "error");
  assert.equal(error.code, grpc.status.FAILED_PRECONDITION);
  assert.match(error.details, /one Attach/);
  link.start(1, "same", "[1]");
  await link.take("done");
  link.send("drain", {});
  assert.equal(await link.end(), 0);
});

test("pings are answered while an app blocks, and a drain waits for it", async () => {
  const link = await new Link().ready();
  link.start(1, "spinFor", "[1000]");
  await link.out.waitFor(/spinning/);
  link.send("ping", { sequence: 7n });
  assert.equal((await link.take("pong")).sequence, 7n);
  assert.ok(!link.frames.some((frame) => frame.$case === "done"));
  link.send("drain", {});
  assert.equal((await link.take("done")).outcome.value.result, '"spun"');
  assert.equal(await link.end(), 0);
});

test("chunks wait for credit", async () => {
  const link = await new Link().ready();
  link.start(1, "count", "[4]", { stream: true, credits: 2 });
  for (const value of ["0", "1"]) assert.equal((await link.take("chunk")).chunk.value, value);
  link.start(2, "soFar");
  assert.equal((await link.take("done")).outcome.value.result, "2");
  link.send("credit", { call: 1n, chunks: 1 });
  assert.equal((await link.take("chunk")).chunk.value, "2");
  link.send("cancel", { call: 1n, reason: 1 });
  const { call, outcome } = await link.take("done");
  assert.equal(call, 1n);
  assert.equal(outcome.$case, "error");
  assert.equal(outcome.value.reason, 7);
  await link.out.waitFor(/count ended/);
  link.send("cancel", { call: 99n, reason: 1 });
  link.send("credit", { call: 99n, chunks: 1 });
  link.send("drain", {});
  assert.equal(await link.end(), 0);
});

test("arguments that dirtyd does not look at", async () => {
  const link = await new Link().ready();
  let call = 0;
  for (const [args, message] of [
    ["[1", /args is not JSON: /],
    ['["\\ud800"]', /args is not JSON: an unpaired surrogate/],
    ["[1e400]", /args is not JSON: a number is too large for a double/],
    ["{}", /args must be a JSON array/],
    ['{"$attachment":0}', /args is not JSON: refers to attachment 0; there are 0/],
    ["[".repeat(129) + "]".repeat(129), /args is 129 levels deep; at most 128 are allowed/],
  ]) {
    link.start(++call, "same", args);
    const { outcome } = await link.take("done");
    assert.equal(outcome.value.reason, 1, args);
    assert.match(outcome.value.message, message);
    assert.equal(outcome.value.callId, `c-${call}`);
  }
  link.send("drain", {});
  assert.equal(await link.end(), 0);
});

test("a worker whose link breaks cancels its calls, closes its apps and exits with 1", async () => {
  const link = await new Link().ready();
  link.start(1, "hold");
  await link.out.waitFor(/holding/);
  link.stream.cancel();
  assert.equal(await link.end(), 1);
  assert.ok(link.out.all.some((line) => /let go: .*shutdown/.test(line)));
  assert.ok(link.out.all.includes("faults closed"));
});

test("one that is blocked then is killed a second later", async () => {
  const link = await new Link().ready();
  link.start(1, "spinFor", "[1e9]");
  await link.out.waitFor(/spinning/);
  link.stream.cancel();
  assert.equal(await link.end(), "SIGKILL");
  assert.match(link.errors.all.join("\n"), /dirtyd is gone and what runs here did not end in time/);
});

test("a SIGTERM before dirtyd has attached ends the worker", async () => {
  const link = await new Link().open();
  link.stream.cancel();
  link.process.kill("SIGTERM");
  assert.ok([0, 1].includes(await link.end()));
});
