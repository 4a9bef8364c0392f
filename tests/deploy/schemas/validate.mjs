// node validate.mjs FOLDER < OBJECTS: whether each of a JSON array of Kubernetes objects is valid. FOLDER has
// node_modules. Unknown fields are TypeScript's to find, values the schemas'. Prints what is wrong; exit code 1 if any.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const objects = JSON.parse(readFileSync(0, "utf8"));
const wrong = [];

// Where an object's type is: kubernetes-types has "core/v1" for what kubernetes-models calls "v1".
const group = (object) => object.apiVersion.replace(/\.k8s\.io/, "");
let source = "";
for (const [i, object] of objects.entries()) {
  const from = object.apiVersion === "v1" ? "core/v1" : group(object);
  source += `const o${i}: import("kubernetes-types/${from}").${object.kind} = ${JSON.stringify(object, null, 2)};\n`;
  const file = join(folder, "node_modules/kubernetes-models", object.apiVersion, `${object.kind}.js`);
  try {
    const models = await import(pathToFileURL(file));
    new models[object.kind](object).validate();
  } catch (error) {
    wrong.push(`${object.kind} ${object.metadata?.name}: ${error.message}`);
  }
}

const place = mkdtempSync(join(folder, "check-"));
try {
  writeFileSync(join(place, "objects.ts"), source);
  const tsc = join(folder, "node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [tsc, "--noEmit", "--strict", "--skipLibCheck", join(place, "objects.ts")], {
    encoding: "utf8",
  });
} catch (error) {
  wrong.push(error.stdout ?? String(error));
} finally {
  rmSync(place, { recursive: true });
}
if (wrong.length > 0) {
  console.log(wrong.join("\n"));
  process.exit(1);
}
