// A worker for dirtyd in JavaScript: runtime: exec, command: [node, dirty-worker.mjs]. docs/worker-protocol.md explains it.
//
// Apps live here, on the main thread. The link to dirtyd lives on a thread of its own (link.mjs): it answers pings and
// prints stacks while an app blocks this one.
import path from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { ReasonNumber as Reason, WorkerFrame } from "dirty-client/protocol";
import { failure, Call } from "./call.mjs";

let config; // dirtyd's hello
let ready = false;
let draining = false;
let lost = false;
const apps = new Map(); // by name, in the order in which they were loaded
const calls = new Map(); // that run, by number
let written; // tells who waits for a frame to be written

// The thread closes DIRTY_READY_FD, which it did not open.
const link = new Worker(new URL("./link.mjs", import.meta.url), { trackUnmanagedFds: false });
link.on("error", (error) => {
  console.error("the link failed:", error);
  process.exit(1);
});

/** Sends a frame. */
function send(frame, tell = false) {
  const bytes = WorkerFrame.encode({ frame }).finish();
  link.postMessage({ bytes, tell }, [bytes.buffer]);
}

/** The same, and waits until it is written: what comes next may end the process. */
function sendAndWait(frame) {
  send(frame, true);
  return new Promise((resolve) => (written = resolve));
}

const handlers = {
  hello(hello) {
    config = hello;
    const names = config.apps.map((app) => app.name).join(", ");
    process.title = `dirty-worker ${config.workerId} ${config.pool} [${names}]`;
    send({ $case: "hello", value: { protocolVersion: 1, features: [], runtime: `node/${process.versions.node}` } });
    void load();
  },

  start(start) {
    const call = new Call(start, config, send);
    calls.set(start.call, call);
    void call.run(apps.get(start.request.app)).finally(() => {
      calls.delete(start.call);
      endIfIdle();
    });
  },

  cancel({ call, reason }) {
    calls.get(call)?.cancel(reason);
  },

  credit({ call, chunks }) {
    calls.get(call)?.addCredit(chunks);
  },

  written() {
    written();
  },

  /** No more calls will come. */
  drain() {
    draining = true;
    endIfIdle();
  },

  /** dirtyd is gone. The link's thread kills this process if it is still here in a second. */
  lost() {
    draining = lost = true;
    for (const call of calls.values()) call.cancel();
    endIfIdle();
  },
};
link.on("message", ({ what, value }) => handlers[what](value));

// At the first SIGTERM dirtyd is told, which drains this worker once another one has its place; before it is ready it ends.
// The second ends it at once. SIGINT is meant for dirtyd.
let terms = 0;
process.on("SIGTERM", () => {
  if (++terms > 1) process.exit(128 + 15);
  if (!ready) handlers.drain();
  else if (!draining) send({ $case: "ending", value: {} });
});
process.on("SIGINT", () => {});

let loading;
/** Loads every app, one after the other. */
async function load() {
  loading = (async () => {
    for (const spec of config.apps) {
      if (draining) return;
      // If this app takes the process down, dirtyd knows which one it was.
      await sendAndWait({ $case: "appStarting", value: { app: spec.name } });
      send(await loadApp(spec));
    }
    if (draining) return;
    ready = true;
    send({ $case: "ready", value: {} });
  })();
  await loading;
  loading = undefined;
  endIfIdle();
}

async function loadApp({ name, path: where, maySkip }) {
  const start = process.hrtime.bigint();
  try {
    const colon = where.lastIndexOf(":");
    const file = path.resolve(where.slice(0, colon));
    const module = await import(pathToFileURL(file).href);
    const App = module[where.slice(colon + 1)];
    if (typeof App !== "function") {
      throw new ReferenceError(`${file} exports no class ${where.slice(colon + 1)}, but ${Object.keys(module)}`);
    }
    const workers = App.workers ?? 0;
    if (maySkip && workers > 0 && config.index >= workers)
      return { $case: "appSkipped", value: { app: name, workers } };
    const app = new App();
    await app.init?.();
    apps.set(name, app);
    const took = process.hrtime.bigint() - start;
    const initTime = { seconds: took / 1_000_000_000n, nanos: Number(took % 1_000_000_000n) };
    return { $case: "appReady", value: { app: name, initTime, workers } };
  } catch (error) {
    const told = failure(Reason.REASON_APP_ERROR, error, { app: name, workerId: config.workerId });
    return { $case: "appFailed", value: { app: name, error: told } };
  }
}

/** Closes the apps and ends the process, once it is to end and nothing runs. */
async function endIfIdle() {
  if (!draining || loading || calls.size > 0) return;
  loading = true; // once
  for (const [name, app] of [...apps].reverse()) {
    try {
      await app.close?.();
    } catch (error) {
      console.error(`close() of ${name} failed:`, error);
    }
  }
  link.postMessage({ end: true });
  link.once("exit", () => process.exit(lost ? 1 : 0));
}
