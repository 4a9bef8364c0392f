// Calls and streams of the Node client on a real dirtyd.
import assert from "node:assert/strict";
import path from "node:path";
import { after, before, test } from "node:test";
import * as dirty from "dirty-client";
import { Dirtyd, ROOT } from "./dirtyd.mjs";

const dirtyd = new Dirtyd();
let client;
before(async () => {
  await dirtyd.ready({
    threads: 4,
    kill_after: "200ms",
    pythonpath: [path.join(ROOT, "tests/node/apps")],
    apps: ["calls:Calls", "flow:Flow"],
  });
  client = new dirty.Client({ socket: dirtyd.socket });
});
after(async () => {
  client.close();
  await dirtyd.stop();
});

const same = (value) => client.execute("calls:Calls", "same", [value]);

test("values come back as they were", async () => {
  const bytes = Uint8Array.from([0, 1, 254, 255]);
  for (const value of [
    null,
    true,
    "grüße 🙂\u0000",
    1,
    -0.5,
    1e300,
    5e-324,
    2 ** 53 - 1,
    9007199254740993n,
    -(2n ** 63n),
    2n ** 80n,
    [],
    {},
    [[{ a: [1, { b: "c" }] }]],
    { constructor: 1, toString: 2 },
    "9007199254740993",
  ]) {
    assert.deepEqual(await same(value), value);
  }
  const nested = await same({ list: [bytes, { deep: Buffer.from("hi") }], big: 2n ** 64n, empty: new Uint8Array() });
  assert.deepEqual(Buffer.from(nested.list[0]), Buffer.from(bytes));
  assert.equal(Buffer.from(nested.list[1].deep).toString(), "hi");
  assert.equal(nested.big, 2n ** 64n);
  assert.equal(nested.empty.length, 0);
  assert.ok(nested.list[0] instanceof Uint8Array);
});

test("JSON's own rules hold for what JSON does not have", async () => {
  const date = new Date(0);
  assert.deepEqual(await same({ date, none: undefined, list: [undefined] }), { date: date.toJSON(), list: [null] });
  assert.equal(await same(2 ** 60), 2n ** 60n);
  const key = await same(JSON.parse('{"__proto__": [12345678901234567890]}').__proto__);
  assert.equal(typeof key[0], "bigint");
});

test("positional and named arguments", async () => {
  const got = await client.execute("calls:Calls", "echo", [1, "two"], { kwargs: { size: 3, data: Buffer.from("x") } });
  assert.deepEqual(got[0], [1, "two"]);
  assert.equal(got[1].size, 3);
  assert.equal(Buffer.from(got[1].data).toString(), "x");
});

test("a large payload", async () => {
  const bytes = Buffer.alloc(20 << 20, "dirty");
  assert.ok(bytes.equals(Buffer.from(await same(bytes))));
});

test("many calls at once", async () => {
  const results = await Promise.all(Array.from({ length: 200 }, (_, i) => same(i)));
  assert.deepEqual(
    results,
    Array.from({ length: 200 }, (_, i) => i),
  );
});

test("what cannot be sent is refused, and says where it is", async () => {
  const loop = [];
  loop.push(loop);
  for (const [value, message] of [
    [{ a: [NaN] }, /args\[0\]\.a\[0\] is NaN/],
    [-Infinity, /-Infinity/],
    [{ x: { $attachment: 0 } }, /args\[0\]\.x is an object whose only key is \$attachment/],
    ["\ud800", /unpaired surrogate/],
    [{ "\udc00": 1 }, /key with an unpaired surrogate/],
    [() => 1, /function/],
    [new Map(), /Map/],
    [new Float32Array(1), /Float32Array/],
    [loop, /does it hold itself/],
  ]) {
    await assert.rejects(same(value), (error) => {
      assert.ok(error instanceof dirty.DirtyProtocolError, String(error));
      assert.equal(error.reason, "INVALID_REQUEST");
      assert.match(error.message, message);
      assert.equal(error.app, "calls:Calls");
      return true;
    });
  }
  for (const timeout of [0, -1, NaN]) {
    await assert.rejects(client.execute("calls:Calls", "same", [1], { timeout }), /timeout must be positive/);
  }
  await assert.rejects(client.execute("calls:Calls", "same", "no array"), /args must be an array/);
  await assert.rejects(client.execute("calls:Calls", "same", [], { kwargs: [1] }), /kwargs must be an object/);
});

test("an exception in the app", async () => {
  await assert.rejects(client.execute("calls:Calls", "fail", ["no such model"]), (error) => {
    assert.ok(error instanceof dirty.DirtyAppError && error instanceof dirty.DirtyError);
    assert.equal(error.name, "DirtyAppError");
    assert.equal(error.reason, "APP_ERROR");
    assert.equal(error.message, "no such model");
    assert.equal(error.exceptionType, "ValueError");
    assert.match(error.traceback, /in fail/);
    assert.ok(error.callId && error.workerId === 1);
    assert.equal(error.action, "fail");
    return true;
  });
});

test("an app that is not there", async () => {
  await assert.rejects(client.execute("calls:Cals", "same", [1]), (error) => {
    assert.ok(error instanceof dirty.DirtyAppNotFoundError);
    assert.match(error.message, /calls:Calls/);
    return true;
  });
});

test("a timeout", async () => {
  const from = dirtyd.lines.all.length;
  await assert.rejects(client.execute("calls:Calls", "wait", [1000], { timeout: 300 }), (error) => {
    assert.ok(error instanceof dirty.DirtyTimeoutError);
    assert.equal(error.reason, "TIMEOUT");
    assert.ok(error.timeout > 200 && error.timeout <= 300, String(error.timeout)); // what was left when it was sent
    return true;
  });
  await dirtyd.lines.waitFor(/action=wait .*reason=timeout/, from);
});

test("a signal cancels a call", async () => {
  const abort = new AbortController();
  const from = dirtyd.lines.all.length;
  const call = client.execute("calls:Calls", "wait", [1000], { signal: abort.signal });
  await dirtyd.lines.waitFor(/waiting/, from);
  const why = new Error("the user left");
  abort.abort(why);
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof dirty.DirtyCancelledError);
    assert.equal(error.cause, why);
    return true;
  });
  await assert.rejects(same.call(null, 1).then(() => client.execute("calls:Calls", "same", [1], { signal: abort.signal })),
    dirty.DirtyCancelledError); // prettier-ignore
});

test("an operator cancels a call", async () => {
  const call = client.execute("calls:Calls", "wait", [1000]);
  call.catch(() => {});
  const running = await dirtyd.statusWith((status) => status.workers[0].running.find((each) => each.action === "wait"));
  await dirtyd.ctl("cancel", running.call_id);
  await assert.rejects(call, dirty.DirtyCancelledError);
});

test("a stream", async () => {
  const values = [];
  for await (const value of client.stream("calls:Calls", "count", [1000])) values.push(value);
  assert.deepEqual(
    values,
    Array.from({ length: 1000 }, (_, i) => i),
  );
  const blobs = [];
  for await (const { i, data } of client.stream("calls:Calls", "blobs", [3, 100_000])) blobs.push([i, data.length]);
  assert.deepEqual(blobs, [[0, 100_000], [1, 100_000], [2, 100_000]]); // prettier-ignore
});

test("an error comes after the values before it", async () => {
  const values = [];
  const read = async () => {
    for await (const value of client.stream("calls:Calls", "count_and_raise", [40])) values.push(value);
  };
  await assert.rejects(read, dirty.DirtyAppError);
  assert.equal(values.length, 40);
});

test("a stream that fails while nobody reads it fails its reader, and nobody else", async () => {
  const stream = client.stream("calls:Calls", "count_and_raise", [3]);
  await same(1);
  const values = [];
  await assert.rejects(async () => {
    for await (const value of stream) values.push(value);
  }, dirty.DirtyAppError);
  assert.deepEqual(values, [0, 1, 2]);
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
});

test("leaving the loop cancels the call", async () => {
  const from = dirtyd.lines.all.length;
  for await (const value of client.stream("calls:Calls", "count", [1e9])) {
    if (value === 5) break;
  }
  await dirtyd.lines.waitFor(/count ended/, from);
});

test("a signal cancels a stream that waits", async () => {
  const abort = new AbortController();
  const stream = client.stream("calls:Calls", "count_then_wait", [2], { signal: abort.signal });
  await stream.next();
  await stream.next();
  const third = stream.next();
  abort.abort();
  await assert.rejects(third, dirty.DirtyCancelledError);
});

test("cancel() ends a stream that nobody reads", async () => {
  const from = dirtyd.lines.all.length;
  const stream = client.stream("calls:Calls", "count", [1e9]);
  stream.cancel();
  await assert.rejects(async () => {
    for await (const _ of stream);
  }, dirty.DirtyCancelledError);
  await dirtyd.statusWith((status) => status.workers[0].running.length === 0);
  assert.ok(!dirtyd.lines.all.slice(from).some((line) => /ERROR/.test(line)));
});

test("a slow reader holds its producer", async () => {
  const count = 200;
  const stream = client.stream("flow:Flow", "blobs", [count, 1 << 20]);
  await stream.next();
  let last = -1;
  for (let unchanged = 0; unchanged < 20; ) {
    const produced = await client.execute("flow:Flow", "so_far");
    unchanged = produced === last ? unchanged + 1 : 0;
    last = produced;
  }
  assert.ok(last < 80, `${last} of ${count} were produced for one that was read`);
  let rest = 0;
  for await (const blob of stream) rest += blob.length;
  assert.equal(rest, (count - 1) << 20);
});

test("a worker that dies", async () => {
  const call = client.execute("calls:Calls", "wait", [1000]);
  call.catch(() => {});
  const status = await dirtyd.statusWith((status) => status.workers.find((worker) => worker.running.length > 0));
  process.kill(status.pid, "SIGKILL");
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof dirty.DirtyWorkerError);
    assert.equal(error.signal, "SIGKILL");
    assert.equal(error.exitCode, undefined);
    assert.equal(error.workerId, status.id);
    return true;
  });
  assert.equal(await same("again"), "again");
});
