/** Anything that arguments and results may hold. Integers that a number would round arrive as bigint. */
export type Value = null | boolean | number | bigint | string | Uint8Array | Value[] | { [key: string]: Value };

/** A value that cannot be sent, and where it is. */
export class UnsendableError extends TypeError {}

const REFERENCE = "$attachment";
const UNPAIRED_SURROGATE = /\p{Surrogate}/u;
/** An integer of 16 or more digits, which a number may round; perhaps one within a string. */
const LONG_INTEGER = /(?:^|[[,:\s])-?\d{16,}(?:[,\]}\s]|$)/;
/** What JSON.parse lets through and is no text or no number: an unpaired surrogate, more than a double holds. Perhaps. */
const SUSPECT = /\\u[dD][89a-fA-F]|\d[eE]\+?\d{3}|\d{300}/;
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
/** Deeper than dirtyd lets anything through; what goes on for ever ends here. */
const DEEPEST = 1000;

/** Whether `text` can be written as UTF-8. */
export function isText(text: string): boolean {
  return !UNPAIRED_SURROGATE.test(text);
}

/**
 * JSON for `value`. The bytes in it are added to `attachments`, and references stand for them.
 *
 * Taken as JSON.stringify takes it: `toJSON`, undefined in arrays (null) and objects (left out). Numbers without
 * a fraction and bigints are written with all their digits.
 *
 * @param path How messages name the value: `args`, `result`.
 * @throws UnsendableError
 */
export function encodeValue(value: unknown, attachments: Uint8Array[], path: string): string {
  return write(value, path, 1) ?? "null";

  function write(value: unknown, path: string, level: number): string | undefined {
    switch (typeof value) {
      case "string":
        if (!isText(value)) throw new UnsendableError(`${path} has an unpaired surrogate`);
        return JSON.stringify(value);
      case "number":
        if (!Number.isFinite(value)) throw new UnsendableError(`${path} is ${value}, which JSON does not have`);
        return Number.isInteger(value) && Math.abs(value) < 1e21 ? BigInt(value).toString() : String(value);
      case "bigint":
      case "boolean":
        return String(value);
      case "undefined":
        return undefined;
      case "object":
        return value === null ? "null" : writeObject(value, path, level);
      default:
        throw new UnsendableError(`${path} is a ${typeof value}, which JSON does not have`);
    }
  }

  function writeObject(value: object, path: string, level: number): string | undefined {
    if (level > DEEPEST) throw new UnsendableError(`${path} is more than ${DEEPEST} levels deep; does it hold itself?`);
    if (value instanceof Uint8Array) return reference(value);
    if (value instanceof ArrayBuffer) return reference(new Uint8Array(value));
    if (ArrayBuffer.isView(value)) {
      throw new UnsendableError(`${path} is a ${value.constructor.name}; pass bytes, as a Uint8Array of its buffer`);
    }
    if (value instanceof Map || value instanceof Set) {
      throw new UnsendableError(`${path} is a ${value.constructor.name}, which JSON does not have`);
    }
    if ("toJSON" in value && typeof value.toJSON === "function") {
      return write((value.toJSON as () => unknown)(), path, level + 1);
    }
    if (Array.isArray(value)) {
      return `[${value.map((element, i) => write(element, `${path}[${i}]`, level + 1) ?? "null").join(",")}]`;
    }
    const members = Object.entries(value);
    if (members.length === 1 && members[0]?.[0] === REFERENCE) {
      throw new UnsendableError(`${path} is an object whose only key is ${REFERENCE}: that would be a reference`);
    }
    const texts: string[] = [];
    for (const [key, member] of members) {
      if (!isText(key)) throw new UnsendableError(`${path} has a key with an unpaired surrogate`);
      const text = write(member, `${path}.${key}`, level + 1);
      if (text !== undefined) texts.push(`${JSON.stringify(key)}:${text}`);
    }
    return `{${texts.join(",")}}`;
  }

  function reference(bytes: Uint8Array): string {
    attachments.push(bytes);
    return `{"${REFERENCE}":${attachments.length - 1}}`;
  }
}

/**
 * The value of a JSON text, with `attachments` in the place of their references. Of equal keys the last counts.
 *
 * @throws SyntaxError It is not JSON, has an unpaired surrogate or a number that no double holds, or refers to an
 *     attachment that is not there.
 */
export function decodeValue(text: string, attachments: readonly Uint8Array[]): Value {
  const value: Value = LONG_INTEGER.test(text) ? parseExactly(text) : JSON.parse(text);
  if (SUSPECT.test(text)) check(value);
  return attachments.length > 0 || text.includes(REFERENCE) ? place(value, attachments) : value;
}

function check(value: Value): void {
  if (typeof value === "string" && !isText(value)) throw new SyntaxError("an unpaired surrogate");
  if (typeof value === "number" && !Number.isFinite(value)) throw new SyntaxError("a number is too large for a double");
  if (value === null || typeof value !== "object") return;
  if (!Array.isArray(value)) Object.keys(value).forEach(check);
  Object.values(value).forEach(check);
}

function place(value: Value, attachments: readonly Uint8Array[]): Value {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; ++i) value[i] = place(value[i]!, attachments);
    return value;
  }
  const members = value as { [key: string]: Value };
  const keys = Object.keys(members);
  if (keys.length === 1 && keys[0] === REFERENCE) {
    const number = members[REFERENCE];
    const bytes = typeof number === "number" ? attachments[number] : undefined;
    if (!bytes) throw new SyntaxError(`refers to attachment ${String(number)}; there are ${attachments.length}`);
    return bytes;
  }
  for (const key of keys) setOwn(members, key, place(members[key]!, attachments));
  return members;
}

/** As JSON.parse does it: `__proto__` is a key like any other. */
function setOwn(object: { [key: string]: Value }, key: string, value: Value): void {
  if (key === "__proto__") {
    Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
  } else {
    object[key] = value;
  }
}

/** JSON.parse, but with a bigint for each integer that a number would round. For texts that have one: it is slower. */
function parseExactly(text: string): Value {
  let at = 0;
  const value = read();
  skip();
  return at === text.length ? value : fail();

  function fail(): never {
    throw new SyntaxError(`unexpected ${at < text.length ? JSON.stringify(text[at]) : "end"} at position ${at}`);
  }

  function skip(): void {
    while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") ++at;
  }

  /** Whether `character` is next; if so, it is taken. */
  function take(character: string): boolean {
    skip();
    if (text[at] !== character) return false;
    ++at;
    return true;
  }

  function read(): Value {
    if (take("[")) return array();
    if (take("{")) return object();
    if (text[at] === '"') return string();
    for (const [word, value] of [
      ["null", null],
      ["true", true],
      ["false", false],
    ] as const) {
      // prettier-ignore
      if (text.startsWith(word, at)) {
        at += word.length;
        return value;
      }
    }
    return number();
  }

  function array(): Value {
    const elements: Value[] = [];
    if (take("]")) return elements;
    do elements.push(read());
    while (take(","));
    return take("]") ? elements : fail();
  }

  function object(): Value {
    const members: { [key: string]: Value } = {};
    if (take("}")) return members;
    do {
      skip();
      const key = string();
      if (!take(":")) fail();
      setOwn(members, key, read());
    } while (take(","));
    return take("}") ? members : fail();
  }

  function string(): string {
    if (text[at] !== '"') fail();
    let end = at;
    do {
      end = text.indexOf('"', end + 1);
      if (end < 0) fail();
    } while (isEscaped(end));
    const value: string = JSON.parse(text.slice(at, end + 1));
    at = end + 1;
    return value;
  }

  function isEscaped(end: number): boolean {
    let backslashes = 0;
    while (text[end - 1 - backslashes] === "\\") ++backslashes;
    return backslashes % 2 === 1;
  }

  function number(): Value {
    NUMBER.lastIndex = at;
    const found = NUMBER.exec(text);
    if (!found) fail();
    at = NUMBER.lastIndex;
    const value = Number(found[0]);
    const integer = found[1] === undefined && found[2] === undefined;
    return integer && !Number.isSafeInteger(value) ? BigInt(found[0]) : value;
  }
}
