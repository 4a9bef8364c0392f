// Runs a real dirtyd. $DIRTY_BUILD is the build directory, $DIRTY_ROOT the checkout, $DIRTY_PYTHON the interpreter of
// Python workers.
import { spawn, execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { once } from "node:events";
import path from "node:path";
import { promisify } from "node:util";

export const ROOT = process.env.DIRTY_ROOT;
export const BUILD = process.env.DIRTY_BUILD;
const PATIENCE_MS = 40_000;

const folders = [];
process.on("exit", () => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

/** A folder for sockets, so with a short path. It goes at the end. */
export function makeFolder() {
  folders.push(mkdtempSync("/tmp/dirty-node-"));
  return folders.at(-1);
}

/** Waits until `ask` gives something true; what it gives. */
export async function eventually(ask, what) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await ask();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Lines of a stream, to wait for. */
export class Lines {
  all = [];
  #ended = false;
  #wake = new Set();

  constructor(stream) {
    const reader = createInterface({ input: stream });
    reader.on("line", (line) => {
      this.all.push(line);
      this.#tell();
    });
    reader.on("close", () => {
      this.#ended = true;
      this.#tell();
    });
  }

  #tell() {
    for (const wake of this.#wake) wake();
    this.#wake.clear();
  }

  /** The first line after the `from`-th that `pattern` matches. */
  async waitFor(pattern, from = 0) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = this.all.slice(from).find((line) => pattern.test(line));
      if (found !== undefined) return found;
      const left = deadline - Date.now();
      if (this.#ended || left <= 0) throw new Error(`no line matches ${pattern}:\n${this.all.join("\n")}`);
      let timer;
      await new Promise((resolve) => {
        timer = setTimeout(resolve, left);
        this.#wake.add(resolve);
      });
      clearTimeout(timer);
    }
  }
}

/** A dirtyd of the test's own, in its own folder. */
export class Dirtyd {
  folder = makeFolder();
  socket = path.join(this.folder, "run/dirty.sock");
  lines;
  #process;

  /** Starts it; returns at once. */
  start(config) {
    const file = path.join(this.folder, "config.yaml");
    writeFileSync(
      file,
      JSON.stringify({
        runtime_dir: path.join(this.folder, "run"),
        python: process.env.DIRTY_PYTHON,
        chdir: path.join(ROOT, "tests/python/apps"),
        ...config,
      }),
    );
    this.#process = spawn(path.join(BUILD, "bin/dirtyd"), ["--config", file], { stdio: ["ignore", "ignore", "pipe"] });
    this.lines = new Lines(this.#process.stderr);
    return this;
  }

  /** Starts it, and waits until every app is ready or has failed. */
  async ready(config) {
    this.start(config);
    await this.lines.waitFor(/ ready: \d+\/\d+ workers/);
    return this;
  }

  /** What dirtyctl prints. */
  async ctl(...args) {
    const all = ["--admin_socket", path.join(this.folder, "run/admin.sock"), ...args];
    return (await promisify(execFile)(path.join(BUILD, "bin/dirtyctl"), all)).stdout;
  }

  async status() {
    return JSON.parse(await this.ctl("status", "--json"));
  }

  /** The status in which `find` finds something true; what it finds. */
  statusWith(find) {
    return eventually(async () => find(await this.status()), `a status with ${find}`);
  }

  get pid() {
    return this.#process.pid;
  }

  /** Waits for its end; its exit code, or the signal that ended it. */
  async end() {
    if (this.#process.exitCode === null && this.#process.signalCode === null) await once(this.#process, "exit");
    return this.#process.exitCode ?? this.#process.signalCode;
  }

  kill(signal) {
    this.#process.kill(signal);
    return this.end();
  }

  /** Ends it gracefully. */
  async stop() {
    if (this.#process) {
      const code = await this.kill("SIGTERM");
      if (code !== 0) throw new Error(`dirtyd ended with ${code}:\n${this.lines.all.join("\n")}`);
    }
  }
}
