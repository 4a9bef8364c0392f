import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { connect } from "node:net";

/** How long a new connection may stay silent: an HTTP/2 server speaks first. */
const GREETING_MS = 500;

/** The longest path that a Unix socket can have, in bytes. */
const LONGEST_PATH = 107;

/** What came of an attempt: undefined if dirtyd answers there. */
export interface Obstacle {
  why: string;
  /** Accepted and closed at once. */
  refused: boolean;
}

/** Where to look for dirtyd: `chosen` alone if it is given, else $DIRTY_SOCKET and both default places. */
export function socketPaths(chosen: string | undefined): string[] {
  if (chosen) return [chosen];
  const paths = ["/run/dirty/dirty.sock"];
  if (process.env["DIRTY_SOCKET"]) paths.unshift(process.env["DIRTY_SOCKET"]);
  if (process.env["XDG_RUNTIME_DIR"]) paths.push(`${process.env["XDG_RUNTIME_DIR"]}/dirty/dirty.sock`);
  return [...new Set(paths)];
}

/** Connects to `path` and waits for the greeting. */
export function probe(path: string): Promise<Obstacle | undefined> {
  const bytes = Buffer.byteLength(path);
  if (bytes > LONGEST_PATH) {
    const why = `too long: ${bytes} bytes, a socket's path has at most ${LONGEST_PATH}`;
    return Promise.resolve({ why, refused: false });
  }
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (obstacle?: Obstacle): void => {
      socket.destroy();
      resolve(obstacle);
    };
    socket.setTimeout(GREETING_MS, () =>
      end({ why: "connected, but no answer: is it stopped, or not dirtyd?", refused: false }),
    );
    socket.once("data", () => end());
    socket.once("end", () => end({ why: refusedAtAccept(), refused: true }));
    socket.once("error", (error: NodeJS.ErrnoException) =>
      error.code === "ECONNRESET" || error.code === "EPIPE"
        ? end({ why: refusedAtAccept(), refused: true })
        : end({ why: whyNot(path, error), refused: false }),
    );
  });
}

function whyNot(path: string, error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case "ENOENT":
    case "ENOTDIR":
      return "absent";
    case "ECONNREFUSED":
      return "nobody is listening";
    case "EACCES":
    case "EPERM":
      return permissionDenied(path);
    case "EAGAIN":
      return "busy: too many connections wait to be accepted";
    default:
      return error.message;
  }
}

function permissionDenied(path: string): string {
  try {
    const { mode, gid } = statSync(path);
    const advice =
      (mode & 0o020) === 0
        ? "its socket_mode lets only its owner in"
        : gid === 0
          ? "set socket_group to a group of yours"
          : `join group ${nameOf("/etc/group", gid)}`;
    return `permission denied: ${whoMay(path)}; ${advice}`;
  } catch {
    // Some folder above may not be searched: the outermost such one is the obstacle.
    for (let slash = path.indexOf("/", 1); slash !== -1; slash = path.indexOf("/", slash + 1)) {
      const folder = path.slice(0, slash);
      try {
        accessSync(folder, constants.X_OK);
      } catch {
        return `permission denied: folder ${folder} is ${whoMay(folder)}`;
      }
    }
    return `permission denied: you are uid ${process.geteuid?.()}`;
  }
}

/** `dirty:dirty 0660, you are uid 33` */
function whoMay(path: string): string {
  const { uid, gid, mode } = statSync(path);
  const octal = (mode & 0o7777).toString(8).padStart(4, "0");
  return `${nameOf("/etc/passwd", uid)}:${nameOf("/etc/group", gid)} ${octal}, you are uid ${process.geteuid?.()}`;
}

/** The name of a user or group; its number if the file does not tell. */
function nameOf(file: string, id: number): string {
  try {
    for (const line of readFileSync(file, "utf8").split("\n")) {
      const fields = line.split(":");
      if (fields[2] === String(id)) return fields[0]!;
    }
  } catch {
    // The number will do.
  }
  return String(id);
}

function refusedAtAccept(): string {
  const uid = process.geteuid?.() ?? 0;
  const gid = process.getegid?.() ?? 0;
  return (
    "accepted and closed at once: check allow_uids and allow_gids of dirtyd, you are uid " +
    `${uid} (${nameOf("/etc/passwd", uid)}), gid ${gid} (${nameOf("/etc/group", gid)})`
  );
}
