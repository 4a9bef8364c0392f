// The worker in JavaScript (examples/node_worker), run by a real dirtyd.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import * as dirty from "dirty-client";
import { Dirtyd, eventually } from "./dirtyd.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const EXAMPLE = path.resolve(HERE, "../../examples/node_worker");
const FAULTS = "faults.mjs:Faults";

/** A configuration with one pool of workers in JavaScript. */
function pool(apps, settings = {}) {
  const command = [process.execPath, path.join(EXAMPLE, "dirty-worker.mjs")];
  return {
    restart: { initial_backoff: "10ms", max_backoff: "50ms", give_up_after: 1 },
    pools: [{ name: "js", runtime: "exec", command, chdir: path.join(HERE, "apps"), apps, ...settings.pool }],
    ...settings.top,
  };
}

/** Runs `body` with a dirtyd and a client of its own. */
async function withDirtyd(config, body) {
  const dirtyd = await new Dirtyd().ready(config);
  const client = new dirty.Client({ socket: dirtyd.socket });
  try {
    await body(client, dirtyd);
  } finally {
    client.close();
    await dirtyd.stop();
  }
}

const failureOf = (promise) => promise.then(() => assert.fail("it did not fail"), (error) => error); // prettier-ignore

/** The worker that is ready and has not this id. */
const another = (dirtyd, id) =>
  dirtyd.statusWith((status) => status.workers.find((worker) => worker.state === "READY" && worker.id !== id));

describe("calls", () => {
  const dirtyd = new Dirtyd();
  let client;
  const call = (action, ...args) => client.execute(FAULTS, action, args);
  before(async () => {
    const limits = { top: { max_message_size: "4MiB" }, pool: { threads: 4 } };
    await dirtyd.ready(pool([FAULTS], limits));
    client = new dirty.Client({ socket: dirtyd.socket });
  });
  after(async () => {
    client.close();
    await dirtyd.stop();
  });

  test("values both ways", async () => {
    for (const value of [null, true, "grüße 🙂", 1.5, 2n ** 63n, { a: [{ b: "c" }], __proto__x: 1 }, []]) {
      assert.deepEqual(await call("same", value), value);
    }
    const { list } = await call("same", { list: [Buffer.from("one"), Buffer.alloc(0), Buffer.alloc(1 << 20, 7)] });
    assert.deepEqual(list.map((bytes) => bytes.length), [3, 0, 1 << 20]); // prettier-ignore
    assert.equal(Buffer.from(list[0]).toString(), "one");
  });

  test("what an action knows of its call", async () => {
    const options = {
      kwargs: { a: 1 },
      requestId: "r1",
      timeout: 20_000,
      traceparent: `00-${"1".repeat(32)}-${"2".repeat(16)}-01`,
    };
    const about = await client.execute(FAULTS, "about", [], options);
    assert.deepEqual(about.kwargs, { a: 1 });
    assert.equal(about.requestId, "r1");
    assert.match(about.id, /^[0-9a-f]+-\d+$/);
    assert.ok(about.left > 15_000 && about.left <= 20_000, String(about.left));
    assert.equal(about.cwd, path.join(HERE, "apps"));
    assert.equal(about.pid, (await dirtyd.status()).workers[0].pid);
  });

  test("what an action throws", async () => {
    const error = await failureOf(call("fail", "no such model"));
    assert.ok(error instanceof dirty.DirtyAppError);
    assert.equal(error.exceptionType, "RangeError");
    assert.equal(error.message, "no such model");
    assert.match(error.traceback, /at Faults\.fail \(.*faults\.mjs:\d+/);
    assert.equal((await failureOf(call("failLater"))).message, "only a text");
  });

  test("what is no action", async () => {
    for (const action of [
      "missing",
      "init",
      "close",
      "constructor",
      "toString",
      "hasOwnProperty",
      "_private",
      "field",
      "produced",
    ]) {
      const error = await failureOf(call(action));
      assert.equal(error.reason, "APP_ERROR");
      assert.match(error.message, new RegExp(`has no action ${action}`));
    }
  });

  test("results that cannot be sent", async () => {
    assert.match((await failureOf(call("notJson"))).message, /result is a Map/);
    assert.equal((await failureOf(call("big", 5 << 20))).reason, "TOO_LARGE");
    assert.equal((await call("big", 3 << 20)).length, 3 << 20);
    assert.match((await failureOf(call("deep", 129))).message, /result is 129 levels deep; at most 128/);
    assert.ok(Array.isArray(await call("deep", 128)));
  });

  test("arguments that are not what they should be", async () => {
    const ctl = (...args) => dirtyd.ctl("--socket", dirtyd.socket, "call", FAULTS, "same", ...args);
    const deep = "[".repeat(128) + "]".repeat(128);
    await assert.rejects(ctl(deep), /INVALID_REQUEST: args is 129 levels deep/);
    await assert.rejects(ctl('{"$attachment": 2}'), /INVALID_REQUEST/);
  });

  test("a stream", async () => {
    const values = [];
    for await (const value of client.stream(FAULTS, "count", [500])) values.push(value);
    assert.deepEqual(values, [...Array(500).keys()]);
    const one = [];
    for await (const value of client.stream(FAULTS, "same", ["alone"])) one.push(value);
    assert.deepEqual(one, ["alone"]);
    assert.match((await failureOf(call("count", 3))).message, /returned a stream/);
    const some = [];
    await assert.rejects(async () => {
      for await (const value of client.stream(FAULTS, "countAndFail", [3])) some.push(value);
    }, /counted enough/);
    assert.deepEqual(some, [0, 1, 2]);
  });

  test("a stream is not ahead of its credit, and ends with its reader", async () => {
    const from = dirtyd.lines.all.length;
    const stream = client.stream(FAULTS, "count", [1e9]);
    await stream.next();
    let last = -1;
    for (let unchanged = 0; unchanged < 20; ) {
      const produced = await call("soFar");
      unchanged = produced === last ? unchanged + 1 : 0;
      last = produced;
    }
    assert.ok(last < 1e6, `${last} were produced`);
    await stream.return();
    await dirtyd.lines.waitFor(/count ended/, from);
  });

  test("a cancelled call", async () => {
    const abort = new AbortController();
    let from = dirtyd.lines.all.length;
    const held = failureOf(client.execute(FAULTS, "hold", [], { signal: abort.signal }));
    await dirtyd.lines.waitFor(/holding/, from);
    abort.abort();
    assert.ok((await held) instanceof dirty.DirtyCancelledError);
    await dirtyd.lines.waitFor(/let go: the client cancelled the call or went away/, from);

    from = dirtyd.lines.all.length;
    const error = await failureOf(client.execute(FAULTS, "hold", [], { timeout: 200 }));
    assert.equal(error.reason, "TIMEOUT");
    await dirtyd.lines.waitFor(/let go: the call ran too long/, from);

    from = dirtyd.lines.all.length;
    const operated = failureOf(call("hold"));
    const running = await dirtyd.statusWith((status) => status.workers[0].running[0]);
    await dirtyd.ctl("cancel", running.call_id);
    assert.equal((await operated).reason, "CANCELLED");
    await dirtyd.lines.waitFor(/let go: an operator/, from);
    await dirtyd.statusWith((status) => status.workers[0].running.length === 0);
  });

  test("calls of one worker run at the same time", async () => {
    const from = dirtyd.lines.all.length;
    const abort = new AbortController();
    const held = Array.from({ length: 3 }, () =>
      failureOf(client.execute(FAULTS, "hold", [], { signal: abort.signal })),
    );
    await eventually(
      () => dirtyd.lines.all.slice(from).filter((line) => /holding/.test(line)).length === 3,
      "three calls",
    );
    assert.equal(await call("same", "beside"), "beside");
    abort.abort();
    await Promise.all(held);
  });

  test("a call back to dirtyd", async () => {
    assert.equal(await call("callBack", "and back"), "and back");
  });
});

test("the example", async () => {
  const config = pool(["words.mjs:Words"], { pool: { chdir: EXAMPLE, command: ["node", "dirty-worker.mjs"] } });
  await withDirtyd(config, async (client) => {
    const words = (action, ...args) => client.execute("words.mjs:Words", action, args);
    assert.equal(await words("greet", "you"), "hello you!");
    const text = Buffer.from("abc");
    const { sha256, reversed } = await words("compress", text);
    assert.equal(sha256, createHash("sha256").update(text).digest("hex"));
    assert.equal(Buffer.from(reversed).toString(), "cba");
    const counted = [];
    for await (const value of client.stream("words.mjs:Words", "count", [2])) counted.push(value);
    assert.deepEqual(counted, [{ i: 0 }, { i: 1 }]);
    assert.equal(await words("rest", 1), "rested");
    assert.equal(
      (await failureOf(client.execute("words.mjs:Words", "rest", [1e6], { timeout: 100 }))).reason,
      "TIMEOUT",
    );
  });
});

test("a stuck call: stacks, a kill, a new worker", async () => {
  const config = pool([FAULTS], { pool: { timeout: "1s", kill_after: "200ms" } });
  await withDirtyd(config, async (client, dirtyd) => {
    const error = await failureOf(client.execute(FAULTS, "spinFor", [1e9]));
    assert.equal(error.reason, "TIMEOUT");
    await dirtyd.lines.waitFor(/the main thread is here:/);
    await dirtyd.lines.waitFor(/at spinFor \(file:.*faults\.mjs:\d+\)/);
    await another(dirtyd, 1);
    assert.equal(await client.execute(FAULTS, "same", ["alive"]), "alive");
    for (const [action, stack] of [
      ["block", /at block \(file:.*faults\.mjs:\d+\)/],
      ["park", /runs no JavaScript/],
    ]) {
      const { id } = await another(dirtyd, 0);
      assert.equal((await failureOf(client.execute(FAULTS, action))).reason, "TIMEOUT");
      await dirtyd.lines.waitFor(stack);
      await another(dirtyd, id);
    }
    const { exits } = await dirtyd.status();
    assert.deepEqual(exits.map(({ reason, signal }) => `${reason} ${signal}`), Array(3).fill("timeout SIGKILL")); // prettier-ignore
  });
});

test("an app that blocks is no dead worker", async () => {
  const config = pool([FAULTS], { top: { heartbeat_interval: "100ms", heartbeat_timeout: "2s" } });
  await withDirtyd(config, async (client, dirtyd) => {
    assert.equal(await client.execute(FAULTS, "spinFor", [5000]), "spun");
    assert.equal((await dirtyd.status()).exits.length, 0);
  });
});

test("a crash", async () => {
  await withDirtyd(pool([FAULTS]), async (client, dirtyd) => {
    const error = await failureOf(client.execute(FAULTS, "crash"));
    assert.ok(error instanceof dirty.DirtyWorkerError);
    assert.equal(error.exitCode, 1);
    assert.match(error.stderrTail.join("\n"), /nobody catches this/);
    await another(dirtyd, 1);
    assert.equal(await client.execute(FAULTS, "same", [1]), 1);
  });
});

test("a reload replaces the worker, and its calls end", async () => {
  await withDirtyd(pool(["faults.mjs:First", FAULTS], { pool: { threads: 2 } }), async (client, dirtyd) => {
    const abort = new AbortController();
    const held = failureOf(client.execute(FAULTS, "hold", [], { signal: abort.signal }));
    await dirtyd.lines.waitFor(/holding/);
    await dirtyd.ctl("reload");
    const { pid } = await client.execute(FAULTS, "about");
    const status = await dirtyd.status();
    assert.equal(Number(status.generation), 2);
    assert.equal(status.workers.find((worker) => worker.id === 2).pid, pid);
    assert.equal(status.workers.find((worker) => worker.id === 1).state, "DRAINING");
    abort.abort();
    await held;
    const exit = await dirtyd.statusWith(({ exits }) => exits[0]);
    assert.deepEqual([exit.worker_id, exit.reason, exit.exit_code], [1, "drained", 0]);
    const closed = dirtyd.lines.all
      .filter((line) => /closed worker=1/.test(line))
      .map((line) => /(\w+) closed/.exec(line)[1]);
    assert.deepEqual(closed, ["faults", "first"]);
  });
});

test("recycling after max_requests, and after max_memory", async () => {
  await withDirtyd(pool([FAULTS], { pool: { max_requests: 2 } }), async (client, dirtyd) => {
    const pidOf = async () => (await client.execute(FAULTS, "about")).pid;
    const first = await pidOf();
    await eventually(async () => (await pidOf()) !== first, "another worker");
    await dirtyd.statusWith(({ exits }) => exits.some((exit) => exit.reason === "recycled" && exit.exit_code === 0));
  });
  await withDirtyd(pool([FAULTS], { pool: { max_memory: "64MiB" } }), async (client, dirtyd) => {
    await client.execute(FAULTS, "leak", [160 << 20]);
    await another(dirtyd, 1);
    await dirtyd.statusWith(({ exits }) => exits.some((exit) => exit.reason === "recycled"));
  });
});

test("a shutdown lets calls end and closes the apps", async () => {
  const dirtyd = await new Dirtyd().ready(pool([FAULTS], { pool: { threads: 2 } }));
  const client = new dirty.Client({ socket: dirtyd.socket });
  const spun = client.execute(FAULTS, "spinFor", [300]);
  await dirtyd.lines.waitFor(/spinning/);
  await dirtyd.stop();
  assert.equal(await spun, "spun");
  await dirtyd.lines.waitFor(/faults closed/);
  assert.ok(dirtyd.lines.all.some((line) => /worker 1 .*exited with 0 reason=shutdown/.test(line)));
  client.close();
});

test("SIGTERM ends a worker when its calls have ended, a second one at once", async () => {
  await withDirtyd(pool([FAULTS], { pool: { threads: 2 } }), async (client, dirtyd) => {
    const { pid } = await client.execute(FAULTS, "about");
    const abort = new AbortController();
    const held = failureOf(client.execute(FAULTS, "hold", [], { signal: abort.signal }));
    await dirtyd.lines.waitFor(/holding/);
    process.kill(pid, "SIGINT");
    process.kill(pid, "SIGTERM");
    assert.equal((await dirtyd.status()).exits.length, 0);
    abort.abort();
    await held;
    const exit = await dirtyd.statusWith(({ exits }) => exits[0]);
    assert.equal(exit.exit_code, 0);
    assert.ok(dirtyd.lines.all.some((line) => /faults closed worker=1/.test(line)));

    const next = await another(dirtyd, 1);
    const from = dirtyd.lines.all.length;
    const parked = failureOf(client.execute(FAULTS, "park"));
    await dirtyd.lines.waitFor(/parked/, from);
    process.kill(next.pid, "SIGTERM");
    const ended = dirtyd.statusWith(({ exits }) => exits.find((each) => each.worker_id === next.id));
    const again = setInterval(() => {
      try {
        process.kill(next.pid, "SIGTERM");
      } catch {
        clearInterval(again);
      }
    }, 100);
    assert.equal((await ended).exit_code, 143);
    clearInterval(again);
    assert.equal((await parked).reason, "WORKER_LOST");
  });
});

test("apps that cannot start harm no other", async () => {
  const apps = ["faults.mjs:Broken", "faults.mjs:Missing", "absent.mjs:App", "faults.mjs:Exits", FAULTS];
  await withDirtyd(pool(apps), async (client, dirtyd) => {
    assert.equal(await client.execute(FAULTS, "same", [1]), 1);
    const reasons = await dirtyd.statusWith(({ apps }) => {
      const failed = apps.filter((app) => app.state === "FAILED");
      return failed.length === 4 && Object.fromEntries(failed.map((app) => [app.name, app.reason]));
    });
    assert.match(reasons["faults.mjs:Broken"], /Error: no model/);
    assert.match(reasons["faults.mjs:Missing"], /exports no class Missing, but Broken,Exits/);
    assert.match(reasons["absent.mjs:App"], /Cannot find module .*absent\.mjs/);
    assert.match(reasons["faults.mjs:Exits"], /7/);
  });
});

test("an app that wants fewer workers", async () => {
  const config = pool(["faults.mjs:Few", FAULTS], { pool: { workers: 2 } });
  await withDirtyd(config, async (client, dirtyd) => {
    const status = await dirtyd.status();
    const ready = Object.fromEntries(status.apps.map((app) => [app.name, app.ready_workers]));
    assert.deepEqual(ready, { "faults.mjs:Few": 1, [FAULTS]: 2 });
    assert.equal(
      await client.execute("faults.mjs:Few", "pid"),
      status.workers.find((worker) => worker.index === 0).pid,
    );
  });
});
