// JSON with bytes and exact integers, without any dirtyd.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { decodeValue, encodeValue } from "dirty-client/values";

const LONG = "12345678901234567890";

/** A generator of numbers below 1 that is the same in every run. */
function random(seed) {
  return () => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return seed / 2 ** 31;
  };
}

/** Some value of JSON. */
function invent(next, levels) {
  const kind = Math.floor(next() * (levels > 0 ? 8 : 6));
  const many = Math.floor(next() * 4);
  const text = () => Array.from({ length: many }, () => '\\"é🙂\n\u0000,:[]{}1'.at(Math.floor(next() * 13))).join("");
  switch (kind) {
    case 0: return null;
    case 1: return next() < 0.5;
    case 2: return Math.floor(next() * 2e9) - 1e9;
    case 3: return (next() - 0.5) * 10 ** Math.floor(next() * 30 - 20);
    case 4: return text().toWellFormed?.() ?? "old";
    case 5: return next() * 2 ** 53;
    case 6: return Array.from({ length: many }, () => invent(next, levels - 1));
    default: return Object.fromEntries(Array.from({ length: many }, (_, i) => [`k${i}"\\`, invent(next, levels - 1)]));
  }
} // prettier-ignore

test("what is written is JSON, and what is read is what JSON.parse reads", () => {
  for (let seed = 1; seed <= 500; ++seed) {
    const value = invent(random(seed), 5);
    const text = encodeValue(value, [], "value");
    assert.deepEqual(JSON.parse(text), value);
    // An integer that no number holds has it read by our own parser.
    for (const layout of [text, JSON.stringify(value, null, 2)]) {
      assert.deepEqual(decodeValue(`[${LONG}, ${layout}]`, []), [BigInt(LONG), value]);
    }
  }
});

test("integers are exact; other numbers are numbers", () => {
  for (const [text, value] of [
    ["9007199254740991", 9007199254740991],
    ["9007199254740992", 9007199254740992n],
    ["-9007199254740993", -9007199254740993n],
    [" 18446744073709551615 ", 18446744073709551615n],
    ["12345678901234567890.0", 12345678901234567890],
    ["12345678901234567890e3", 12345678901234567890e3],
    ["0.12345678901234567890", 0.1234567890123456789],
    [`"${LONG}"`, LONG],
    [`{"a":${LONG},"a":1}`, { a: 1 }],
  ]) {
    assert.deepEqual(decodeValue(text, []), value);
  }
});

test("what is not JSON is refused by our own parser as by JSON.parse", () => {
  for (const wrong of ["", "[", "]", "1,", "[1,]", "{,}", '{"a"}', '{"a":}', "{1:2}", "01", "1.", ".5", "+1", "-", "1e", "nul",
    "nulls", "'a'", '"a', '"\\x"', '"\n"', "[1 2]", '{"a":1 "b":2}', "NaN", "1]", "//", "\u00a01", '{"a":1,}']) {
    const text = `[${LONG},${wrong}]`;
    assert.throws(() => JSON.parse(text), SyntaxError, text);
    assert.throws(() => decodeValue(text, []), SyntaxError, text);
  }
  for (const text of [`${LONG} ${LONG}`, `[${LONG}`, `{"a":${LONG}`]) assert.throws(() => decodeValue(text, []), SyntaxError);
}); // prettier-ignore

test("text is Unicode, and numbers are doubles", () => {
  const high = String.raw`\ud83d`;
  const low = String.raw`\ude00`;
  assert.deepEqual(decodeValue(`["${high}${low}", 1e300, 1e-400, "1e400", {"${high}${low}": 2}]`, []), [
    "😀",
    1e300,
    0,
    "1e400",
    { "😀": 2 },
  ]);
  for (const wrong of [`"${high}"`, `"${low}${high}"`, `{"${low}":1}`, "1e400", "-1e+999", "9".repeat(400) + ".0"]) {
    assert.throws(() => decodeValue(`[[${wrong}]]`, []), /unpaired surrogate|too large for a double/, wrong);
  }
});

test("`__proto__` is a key like any other", () => {
  for (const text of [
    `{"__proto__":{"polluted":1}}`,
    `{"__proto__":{"polluted":1},"n":${LONG},"b":{"$attachment":0}}`,
  ]) {
    const value = decodeValue(text, [Buffer.from("x")]);
    assert.equal(value.polluted, undefined);
    assert.deepEqual(Object.getOwnPropertyDescriptor(value, "__proto__").value, { polluted: 1 });
    assert.equal(Object.getPrototypeOf(value), Object.prototype);
    assert.equal(JSON.parse(encodeValue(value, [], "v")).polluted, undefined);
  }
});

test("bytes stand beside the text", () => {
  const attachments = [];
  const one = Buffer.from("one");
  const text = encodeValue([one, { two: new Uint8Array(2) }, one, new ArrayBuffer(3)], attachments, "v");
  assert.equal(text, '[{"$attachment":0},{"two":{"$attachment":1}},{"$attachment":2},{"$attachment":3}]');
  assert.deepEqual(attachments.map((bytes) => bytes.length), [3, 2, 3, 3]); // prettier-ignore
  assert.equal(decodeValue('{"$attachment":0}', [one]), one);
  assert.deepEqual(decodeValue('{"$attachment":0,"more":1}', [one]), { $attachment: 0, more: 1 });
  for (const wrong of ["3", "-1", "0.5", '"0x"', "null", "[]", '"length"']) {
    assert.throws(() => decodeValue(`{"$attachment":${wrong}}`, [one]), SyntaxError, wrong);
  }
});

test("the types are those that are documented", async () => {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const tsc = path.resolve(here, "../../client/node/node_modules/typescript/bin/tsc");
  const types = path.resolve(here, "../../client/node/node_modules/@types");
  const options = [
    "--noEmit",
    "--strict",
    "--target",
    "es2022",
    "--module",
    "node16",
    "--skipLibCheck",
    "--typeRoots",
    types,
  ];
  await promisify(execFile)(process.execPath, [tsc, ...options, path.join(here, "types.mts")]).catch((error) =>
    assert.fail(error.stdout),
  );
});
