// What the READMEs of the client and of the worker tell their readers to do.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { BUILD, Dirtyd, ROOT } from "./dirtyd.mjs";

const PLACE = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

test("the client's README", async () => {
  const text = readFileSync(path.join(ROOT, "client/node/README.md"), "utf8");
  const block = (fence) => text.split(`\`\`\`${fence}\n`)[1].split("```")[0];
  const dirtyd = new Dirtyd();
  writeFileSync(path.join(dirtyd.folder, "hello.py"), block("python hello.py"));
  // Beside the package, so that it is found.
  const folder = path.join(PLACE, "readme");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  writeFileSync(path.join(folder, "hello.mjs"), block("js hello.mjs"));
  await dirtyd.ready({ chdir: dirtyd.folder, apps: ["hello:Hello"] });
  const env = { ...process.env, DIRTY_SOCKET: dirtyd.socket };
  const { stdout } = await promisify(execFile)(process.execPath, ["hello.mjs"], { cwd: folder, env });
  assert.equal(stdout, block("text"));
  await dirtyd.stop();
});

test("the worker's README", async () => {
  // As docs/ is tested; links lead to the checkout.
  const docs = path.join(PLACE, "docs");
  rmSync(docs, { force: true });
  symlinkSync(path.join(ROOT, "docs"), docs);
  const readme = path.join(PLACE, "examples/node_worker/README.md");
  const script = path.join(ROOT, "tests/docs/docs_commands.py");
  const args = [script, "--source", PLACE, "--build", BUILD, "--only", readme];
  const { stdout } = await promisify(execFile)(process.env.DIRTY_PYTHON, args);
  assert.match(stdout, /1 documents are right/);
});

test("the package has what it says, and nothing else", async () => {
  const pack = ["pack", "--dry-run", "--json"];
  const { stdout } = await promisify(execFile)("npm", pack, { cwd: path.join(PLACE, "client/node") });
  const [{ files }] = JSON.parse(stdout);
  const names = files.map((file) => file.path);
  for (const name of [
    "README.md",
    "package.json",
    "dist/index.js",
    "dist/index.d.ts",
    "dist/protocol.js",
    "dist/values.js",
  ]) {
    assert.ok(names.includes(name), name);
  }
  assert.deepEqual(
    names.filter((name) => !/^(README\.md|package\.json|dist\/.*\.(js|d\.ts))$/.test(name)),
    [],
  );
});
