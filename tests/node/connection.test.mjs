// How the Node client finds dirtyd, loses it, and finds it again.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import {
  Client,
  DirtyConnectionError,
  DirtyCancelledError,
  DirtyProtocolError,
  DirtyQueueFullError,
} from "dirty-client";
import { ArbiterService, ErrorMessage, ExecuteRequest, RetryInfo, RpcStatus } from "dirty-client/protocol";
import { Dirtyd, eventually, makeFolder } from "./dirtyd.mjs";

const CALLS = { apps: ["calls:Calls"] };

async function reasonOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  return assert.fail("it did not fail");
}

/** Runs a program that has the package; its exit code, output and errors. */
async function run(program, env = {}) {
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    cwd: import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname),
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  child.stdout.on("data", (data) => (out += data));
  child.stderr.on("data", (data) => (out += data));
  const timer = setTimeout(() => child.kill("SIGKILL"), 30_000);
  const [code, signal] = await once(child, "close");
  clearTimeout(timer);
  return { code: code ?? signal, out };
}

test("paths that were tried are listed, each with its obstacle", async () => {
  const folder = makeFolder();
  const { out } = await run(
    `import { Client } from "dirty-client";
     await new Client({ connectTimeout: 2000 }).execute("a:B", "c").catch((error) => console.log(error.name, error.reason, error.message));
`,
    { DIRTY_SOCKET: `${folder}/none.sock`, XDG_RUNTIME_DIR: folder },
  );
  assert.match(out, /DirtyConnectionError CONNECTION cannot reach dirtyd: /);
  assert.match(out, new RegExp(`${folder}/none.sock: absent; /run/dirty/dirty.sock: `));
});

test("a socket that nobody listens on, one that is silent, and one that closes", async () => {
  const folder = makeFolder();
  const refusing = createServer((socket) => socket.destroy()).listen(`${folder}/refusing`);
  const silent = createServer(() => {}).listen(`${folder}/silent`);
  await Promise.all([once(refusing, "listening"), once(silent, "listening")]);
  const dead = spawn("python3", ["-c", `import socket; socket.socket(socket.AF_UNIX).bind("${folder}/dead")`]);
  await once(dead, "exit");
  for (const [name, why] of [
    ["dead", /nobody is listening/],
    ["silent", /connected, but no answer: is it stopped, or not dirtyd\?/],
    ["refusing", /accepted and closed at once: check allow_uids/],
    ["x".repeat(120), /too long: \d+ bytes/],
  ]) {
    const client = new Client({ socket: `${folder}/${name}`, connectTimeout: 500 });
    const error = await reasonOf(client.execute("a:B", "c"));
    assert.ok(error instanceof DirtyConnectionError);
    assert.equal(error.reason, "CONNECTION");
    if (name !== "silent") assert.match(error.message, why);
  }
  const patient = new Client({ socket: `${folder}/silent`, connectTimeout: 1000 });
  assert.match((await reasonOf(patient.execute("a:B", "c"))).message, /connected, but no answer/);
  refusing.close();
  silent.close();
});

test("a socket that this user may not use", async () => {
  const folder = makeFolder();
  const server = createServer(() => {}).listen(`${folder}/private`);
  await once(server, "listening");
  chmodSync(folder, 0o755);
  chmodSync(`${folder}/private`, process.geteuid() === 0 ? 0o660 : 0o000);
  const { out } = await run(
    `import { Client } from "dirty-client";
     if (process.geteuid() === 0) { process.setgroups([]); process.setgid(65534); process.setuid(65534); }
     await new Client({ socket: "${folder}/private", connectTimeout: 2000 }).execute("a:B", "c").catch((error) => console.log(error.message));`,
  );
  assert.match(out, /permission denied: \w+:\w+ 0\d\d0, you are uid \d+; \w+/);
  server.close();
});

test("a call waits for a dirtyd that starts", async () => {
  const dirtyd = new Dirtyd();
  const client = new Client({ socket: dirtyd.socket, connectTimeout: 30_000 });
  const call = client.execute("calls:Calls", "same", ["early"]);
  const stream = client.stream("calls:Calls", "count", [2]);
  await dirtyd.ready(CALLS);
  assert.equal(await call, "early");
  assert.equal((await stream.next()).value, 0);
  client.close();
  assert.match((await reasonOf(client.execute("calls:Calls", "same", [1]))).message, /the client is closed/);
  await dirtyd.stop();
});

test("a signal, and a timeout, end the wait for a dirtyd", async () => {
  const client = new Client({ socket: `${makeFolder()}/none`, connectTimeout: 60_000 });
  const abort = new AbortController();
  const call = client.execute("a:B", "c", [], { signal: abort.signal });
  abort.abort();
  assert.ok((await reasonOf(call)) instanceof DirtyCancelledError);
  const error = await reasonOf(client.execute("a:B", "c", [], { timeout: 100 }));
  assert.match(error.message, /none: absent/);
});

test("a client without patience tries once", async () => {
  const absent = new Client({ socket: `${makeFolder()}/none`, connectTimeout: 0 });
  assert.match((await reasonOf(absent.execute("a:B", "c"))).message, /none: absent/);
  const { socket, client, end } = await fake({
    execute: (_, answer) => answer(null, { result: "1", attachments: [], callId: "", workerId: 1 }),
  });
  const present = new Client({ socket, connectTimeout: 0 });
  assert.equal(await present.execute("a:B", "c"), 1);
  present.close();
  client.close();
  end();
});

test("an abort at any moment ends the call", async () => {
  const { client, end } = await fake({
    execute: (call, answer) => call.request.action === "answer" && answer(null, { result: "1", attachments: [], callId: "", workerId: 1 }),
  }); // prettier-ignore
  await client.execute("a:B", "answer");
  for (let turns = 0; turns < 20; ++turns) {
    const abort = new AbortController();
    const call = reasonOf(client.execute("a:B", "hang", [], { signal: abort.signal }));
    for (let i = 0; i < turns; ++i) await undefined;
    abort.abort();
    assert.ok((await call) instanceof DirtyCancelledError);
  }
  client.close();
  end();
});

test("a traceparent that no header can have is refused, and a timeout beyond all is none", async () => {
  let timeout;
  const { client, end } = await fake({
    execute: (call, answer) => {
      timeout = call.request.timeout;
      answer(null, { result: "1", attachments: [], callId: "", workerId: 1 });
    },
  });
  const error = await reasonOf(client.execute("a:B", "c", [], { traceparent: "a\nb" }));
  assert.equal(error.reason, "INVALID_REQUEST");
  assert.equal(
    (await reasonOf(client.stream("a:B", "c", [], { traceparent: "\u00e9" }).next())).reason,
    "INVALID_REQUEST",
  );
  for (const long of [Number.MAX_SAFE_INTEGER, Number.MAX_VALUE, Infinity]) {
    assert.equal(await client.execute("a:B", "c", [], { timeout: long }), 1);
    assert.equal(timeout, undefined);
  }
  client.close();
  end();
});

test("a request that is too large is not sent", async () => {
  const client = new Client({ socket: "/nowhere", connectTimeout: 60_000, maxMessageSize: 1000 });
  const error = await reasonOf(client.execute("a:B", "c", [Buffer.alloc(1000)]));
  assert.ok(error instanceof DirtyProtocolError);
  assert.equal(error.reason, "TOO_LARGE");
  assert.match(error.message, /max_message_size is 1000/);
});

test("dirtyd is killed during a call, and started again", async () => {
  const dirtyd = await new Dirtyd().ready(CALLS);
  const client = new Client({ socket: dirtyd.socket });
  const call = reasonOf(client.execute("calls:Calls", "wait", [1000]));
  const stream = client.stream("calls:Calls", "count_then_wait", [2]);
  await dirtyd.lines.waitFor(/waiting/);
  await dirtyd.kill("SIGKILL");
  for (const error of [await call, await reasonOf(stream.next())]) {
    assert.ok(error instanceof DirtyConnectionError);
    assert.equal(error.reason, "OUTCOME_UNKNOWN");
    assert.match(error.message, /outcome unknown: the connection to .* broke during the call/);
  }
  const missing = client.execute("calls:Calls", "same", ["meanwhile"], { timeout: 30_000 });
  await dirtyd.ready(CALLS);
  assert.equal(await missing, "meanwhile");
  const start = performance.now();
  assert.equal(await client.execute("calls:Calls", "same", ["again"]), "again");
  assert.ok(performance.now() - start < 2000);
  client.close();
  await dirtyd.stop();
});

test("the first call after a graceful restart", async () => {
  const dirtyd = await new Dirtyd().ready(CALLS);
  const client = new Client({ socket: dirtyd.socket });
  assert.equal(await client.execute("calls:Calls", "same", [1]), 1);
  for (let i = 0; i < 3; ++i) {
    await dirtyd.kill("SIGTERM");
    await dirtyd.ready(CALLS);
    const start = performance.now();
    assert.equal(await client.execute("calls:Calls", "same", [i]), i);
    assert.ok(performance.now() - start < 2000);
  }
  client.close();
  await dirtyd.stop();
});

test("an idle client does not keep the process", async () => {
  const dirtyd = await new Dirtyd().ready(CALLS);
  const { code, out } = await run(
    `import { Client } from "dirty-client";
     const client = new Client({ socket: "${dirtyd.socket}" });
     console.log(await client.execute("calls:Calls", "same", ["done"]));
     for await (const value of client.stream("calls:Calls", "count", [100])) if (value === 3) break;
     console.log("left");`,
  );
  assert.deepEqual({ code, out }, { code: 0, out: "done\nleft\n" });
  await dirtyd.stop();
});

/** A server that is not dirtyd. */
async function fake(handlers) {
  const socket = `${makeFolder()}/fake`;
  const server = new grpc.Server();
  server.addService(ArbiterService, handlers);
  await new Promise((resolve) => server.bindAsync(`unix:${socket}`, grpc.ServerCredentials.createInsecure(), resolve));
  return { socket, client: new Client({ socket, connectTimeout: 2000 }), server, end: () => server.forceShutdown() };
}

test("what goes with a call, and nothing is sent twice", async () => {
  const seen = [];
  const { client, end } = await fake({
    execute: (call, answer) => {
      seen.push([call.request, call.metadata.getMap()]);
      if (call.request.action === "lose") return answer({ code: grpc.status.UNAVAILABLE, details: "gone" });
      answer(null, { result: "[9007199254740993]", attachments: [], callId: "", workerId: 1 });
    },
  });
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const result = await client.execute("a:B", "c", [1], { requestId: "r1", traceparent, timeout: 1500 });
  assert.deepEqual(result, [9007199254740993n]);
  const [request, metadata] = seen[0];
  assert.equal(request.requestId, "r1");
  assert.equal(request.args, "[1]");
  assert.equal(request.kwargs, "{}");
  assert.ok(request.timeout.seconds <= 1n);
  assert.equal(metadata.traceparent, traceparent);
  assert.equal((await reasonOf(client.execute("a:B", "lose"))).reason, "OUTCOME_UNKNOWN");
  assert.equal(seen.length, 2);
  client.close();
  end();
});

test("details of errors, and errors without details", async () => {
  const any = (name, bytes) => ({ typeUrl: `type.googleapis.com/${name}`, value: bytes });
  const errorOf = (reason, message) => ErrorMessage.encode({
    reason, message, app: "a:B", action: "c", callId: "", workerId: 0, exceptionType: "", traceback: "",
    retryDelay: undefined, timeout: undefined, exitCode: undefined, signal: "", stderrTail: [],
  }).finish(); // prettier-ignore
  const retry = RetryInfo.encode({ retryDelay: { seconds: 1n, nanos: 500_000_000 } }).finish();
  const error = any("dirty.v1.Error", errorOf(4, "full"));
  const details = RpcStatus.encode({
    code: 8,
    message: "full",
    details: [error, any("google.rpc.RetryInfo", retry)],
  }).finish();
  const tomorrow = any("dirty.v1.Error", errorOf(99, "of tomorrow"));
  const newer = RpcStatus.encode({ code: 8, message: "of tomorrow", details: [tomorrow] }).finish();
  const { client, end } = await fake({
    execute: (call, answer) => {
      const metadata = new grpc.Metadata();
      const answers = { full: details, newer, foreign: [0xff, 0xff] };
      const said = answers[call.request.action];
      if (said) metadata.set("grpc-status-details-bin", Buffer.from(said));
      answer({ code: Number(call.request.app), details: "no details", metadata });
    },
  });
  const full = await reasonOf(client.execute("8", "full"));
  assert.ok(full instanceof DirtyQueueFullError);
  assert.equal(full.retryDelay, 1500);
  const unknown = await reasonOf(client.execute("8", "newer"));
  assert.deepEqual([unknown.reason, unknown.message], ["UNKNOWN", "of tomorrow"]);
  assert.equal((await reasonOf(client.execute("13", "foreign"))).reason, "OUTCOME_UNKNOWN");
  for (const [code, reason] of [
    [8, "TOO_LARGE"],
    [4, "TIMEOUT"],
    [1, "CANCELLED"],
    [7, "PERMISSION_DENIED"],
    [13, "OUTCOME_UNKNOWN"],
    [12, "UNKNOWN"],
  ]) {
    // prettier-ignore
    assert.equal((await reasonOf(client.execute(String(code), "c"))).reason, reason);
  }
  client.close();
  end();
});

/** A fake with one call that runs until it is let go. */
async function held() {
  let letGo;
  const { client, server, end } = await fake({
    execute: (call, answer) => {
      letGo = () => answer(null, { result: '"ended"', attachments: [], callId: "", workerId: 1 });
    },
  });
  const call = client.execute("a:B", "c");
  while (!letGo) await new Promise(setImmediate);
  return { client, server, end, call, letGo };
}

test("calls that run end, though the server takes no new ones", async () => {
  const { client, server, call, letGo } = await held();
  const gone = new Promise((resolve) => server.tryShutdown(resolve));
  // Until the client has heard of it, calls are still sent.
  await eventually(async () => (await reasonOf(client.execute("a:B", "c"))).reason === "CONNECTION", "the end");
  letGo();
  assert.equal(await call, "ended");
  await gone;
  client.close();
});

test("calls that run end, though the client is closed", async () => {
  const { client, call, letGo, end } = await held();
  client.close();
  assert.equal((await reasonOf(client.execute("a:B", "c"))).reason, "CONNECTION");
  letGo();
  assert.equal(await call, "ended");
  end();
});
