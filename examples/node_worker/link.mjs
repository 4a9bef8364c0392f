// The worker's end of the link to dirtyd, on a thread that runs no code of apps. Frames for the main thread are passed on.
import { closeSync, writeSync } from "node:fs";
import { Session } from "node:inspector";
import { parentPort } from "node:worker_threads";
import { Server, ServerCredentials, status } from "@grpc/grpc-js";
import { asBuffer, WorkerFrame, WorkerService } from "dirty-client/protocol";

/** How long the process may still live when dirtyd is gone. */
const LOST_GRACE_MS = 1000;
/** How long dirtyd may take for this worker's last frames. */
const CLOSE_GRACE_MS = 5000;
/** From a question to the main thread until it counts as not answered. */
const STACKS_MS = 700; // less than the second that dirtyd waits for them before it kills

let stream; // the one Attach
let ending = false; // the end of the link is expected
let lost = false; // it came unexpectedly

const server = new Server({
  "grpc.max_receive_message_length": -1, // dirtyd checks
  "grpc.max_send_message_length": -1, // checked before
  "grpc-node.flow_control_window": 4 << 20,
});

server.addService(
  { attach: { ...WorkerService.attach, responseSerialize: asBuffer } }, // frames come from the main thread as bytes
  { attach },
);

function attach(call) {
  if (stream) {
    const details = "this worker has its arbiter: one Attach in its life";
    call.emit("error", { code: status.FAILED_PRECONDITION, details });
    return;
  }
  stream = call;
  stream.on("data", ({ frame }) => frame && onFrame(frame.$case, frame.value));
  for (const event of ["end", "cancelled", "error"]) stream.on(event, onLost);
}

function onFrame(what, value) {
  switch (what) {
    case "ping":
      stream.write(WorkerFrame.encode({ frame: { $case: "pong", value } }).finish());
      break;
    case "dumpStacks":
      dumpStacks();
      break;
    case "drain":
      ending = true;
      parentPort.postMessage({ what });
      break;
    case "hello":
    case "start":
    case "cancel":
    case "credit":
      parentPort.postMessage({ what, value });
      break;
    default: // newer than this, or nothing for us
      break;
  }
}

function onLost() {
  if (ending || lost) return;
  lost = true;
  parentPort.postMessage({ what: "lost" });
  setTimeout(() => {
    say("dirtyd is gone and what runs here did not end in time: exiting");
    process.kill(process.pid, "SIGKILL");
  }, LOST_GRACE_MS);
}

parentPort.on("message", ({ bytes, tell, end }) => {
  if (bytes) stream.write(bytes, () => tell && parentPort.postMessage({ what: "written" }));
  if (end) {
    if (lost || !stream) process.exit(); // this thread
    ending = true;
    setTimeout(() => process.exit(), CLOSE_GRACE_MS);
    stream.end(); // with status OK
    server.tryShutdown(() => process.exit());
  }
});

/** Writes at once: what goes by way of the main thread waits for it. */
function say(text) {
  writeSync(2, `dirty-worker: ${text}\n`);
}

/** Asks the main thread where it is. It answers also while it computes; not while it waits within native code. */
function dumpStacks() {
  const session = new Session();
  session.connectToMainThread();
  const end = (text) => {
    clearTimeout(timer);
    say(`stacks of pid ${process.pid}:\n  the main thread ${text}`);
    session.disconnect();
  };
  const timer = setTimeout(() => end("runs no JavaScript: it waits, or is in native code"), STACKS_MS);
  const files = new Map(); // by script
  session.on("Debugger.scriptParsed", ({ params }) => files.set(params.scriptId, params.url));
  session.on("Debugger.paused", ({ params }) => {
    const frames = params.callFrames.map(
      ({ functionName, location: { scriptId, lineNumber } }) =>
        `    at ${functionName || "<anonymous>"} (${files.get(scriptId)}:${lineNumber + 1})`,
    );
    end(`is here:\n${frames.join("\n")}`);
  });
  session.post("Debugger.enable");
  session.post("Debugger.pause");
}

server.bindAsync(`unix:${process.env.DIRTY_WORKER_SOCKET}`, ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  const ready = Number(process.env.DIRTY_READY_FD);
  if (ready > 2) {
    writeSync(ready, "\n");
    closeSync(ready);
  }
});
