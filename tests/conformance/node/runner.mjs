// The conformance runner of the Node client: node runner.mjs VECTORS SOCKET PREFIX TRANSPORT. See ../README.md.
import { readFileSync, writeSync } from "node:fs";
import { Client, DirtyError } from "dirty-client";

const [vectors, socket, prefix, transport] = process.argv.slice(2);
if (transport !== "unary") throw new Error(`no such transport: ${transport}`);
const client = new Client({ socket });

/** What JSON of a vector stands for. */
function valueOf(json) {
  if (Array.isArray(json)) return json.map(valueOf);
  if (json === null || typeof json !== "object") return json;
  const keys = Object.keys(json);
  const [given] = Object.values(json);
  switch (keys.length === 1 ? keys[0] : "") {
    case "$bytes":
      return Buffer.from(given, "base64");
    case "$bytes_of":
      return Buffer.alloc(given[1], given[0]);
    case "$text_of":
      return given[0].repeat(given[1]);
    case "$int":
      return BigInt(given);
    case "$double":
      return Number(given);
    case "$utf16":
      return String.fromCharCode(...given);
    case "$levels": {
      let value = valueOf(given[1]);
      for (let i = 0; i < given[0]; ++i) value = [value];
      return value;
    }
    default:
      return Object.fromEntries(Object.entries(json).map(([key, value]) => [key, valueOf(value)]));
  }
}

/** JSON of an outcome; the client's own way is not used, since it is what is tested. */
function jsonOf(value) {
  if (value instanceof Uint8Array) return `{"$bytes":"${Buffer.from(value).toString("base64")}"}`;
  if (Array.isArray(value)) return `[${value.map(jsonOf).join(",")}]`;
  if (typeof value === "bigint") return value.toString();
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${jsonOf(member)}`).join(",")}}`;
}

function errorOf(error) {
  if (!(error instanceof DirtyError)) throw error;
  const seconds = (milliseconds) => (milliseconds === undefined ? undefined : milliseconds / 1000);
  return {
    reason: error.reason,
    message: error.message,
    app: error.app,
    action: error.action,
    call_id: error.callId,
    worker_id: error.workerId,
    exception_type: error.exceptionType,
    traceback: error.traceback,
    retry_delay: seconds(error.retryDelay),
    timeout: seconds(error.timeout),
    exit_code: error.exitCode,
    signal: error.signal,
    stderr_tail: error.stderrTail,
  };
}

/** A call that was started: `finish` gives its outcome. */
async function begin(step) {
  const abort = new AbortController();
  const options = { signal: abort.signal };
  if ("kwargs" in step) options.kwargs = valueOf(step.kwargs);
  if ("timeout" in step) options.timeout = step.timeout * 1000;
  const what = [`${prefix}-${step.app}`, step.action, valueOf(step.args ?? []), options];
  const cancel = () => abort.abort();
  if (!step.stream) {
    const outcome = client.execute(...what).then(
      (result) => ({ result }),
      (error) => ({ error: errorOf(error) }),
    );
    return { cancel, finish: () => outcome };
  }
  const stream = client.stream(...what);
  const chunks = [];
  const next = async () => {
    const { value, done } = await stream.next();
    if (!done) chunks.push(value);
    return !done;
  };
  for (let i = 0; i < (step.read ?? 0); ++i) await next();
  const finish = async () => {
    try {
      while (await next());
      return { chunks };
    } catch (error) {
      return { chunks, error: errorOf(error) };
    }
  };
  return { cancel, finish };
}

async function run({ steps }) {
  const started = new Map();
  const outcomes = [];
  for (const step of steps) {
    switch (step.do) {
      case "call":
        outcomes.push(await (await begin(step)).finish());
        break;
      case "start":
        started.set(step.id, await begin(step));
        break;
      case "cancel":
        started.get(step.id).cancel();
        break;
      case "finish":
        outcomes.push(await started.get(step.id).finish());
        break;
      default:
        throw new Error(`no such step: ${step.do}`);
    }
  }
  return outcomes;
}

function print(line) {
  const bytes = Buffer.from(`${line}\n`);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(1, bytes, at);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error; // a pipe that is full
    }
  }
}

for (const vector of JSON.parse(readFileSync(vectors, "utf8"))) {
  let line = { vector: vector.name };
  try {
    line.outcomes = await run(vector);
  } catch (error) {
    line = { vector: vector.name, broken: String(error.stack) };
  }
  print(jsonOf(line));
}
