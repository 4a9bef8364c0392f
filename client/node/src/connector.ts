import { Client, connectivityState, credentials } from "@grpc/grpc-js";
import { makeError, type DirtyError } from "./errors.js";
import { probe, socketPaths } from "./socket.js";

const FIRST_BACKOFF_MS = 5;
const LONGEST_BACKOFF_MS = 250;
/** Each attempt that dirtyd refuses costs it a line in its log. */
const LONGEST_BACKOFF_IF_REFUSED_MS = 1000;
/** From a greeting to a channel that is ready. */
const CHANNEL_MS = 2000;
/** Even a call without time to wait has so much: an attempt at a dirtyd that is there takes less. */
const ATTEMPT_MS = 100;

const OPTIONS = {
  "grpc.max_receive_message_length": -1, // dirtyd limits results
  "grpc.max_send_message_length": -1, // checked before, with a better error
  "grpc.enable_retries": 0, // what may have started is never sent again
  "grpc.enable_channelz": 0,
  "grpc.use_local_subchannel_pool": 1, // a new channel is a new connection
  "grpc-node.flow_control_window": 1 << 20, // of a stream and of the connection: large payloads in fewer rounds
};

/** A channel to the socket at `path`. */
export interface Connection {
  path: string;
  channel: Client;
}

/** Finds dirtyd, and connects again when a connection has ended. It stays with the path that has answered. */
export class Connector {
  #paths: string[];
  #connection: Connection | undefined;
  #attempt: Promise<void> | undefined;
  #backoff = FIRST_BACKOFF_MS;
  #failure = "no attempt has ended yet";
  #closed = false;

  constructor(socket: string | undefined) {
    this.#paths = socketPaths(socket);
  }

  /** A connection that is up, by the time `until` (performance.now()); tries at least once. Rejects with a DirtyError. */
  async get(until: number, signal: AbortSignal | undefined): Promise<Connection> {
    const deadline = Math.max(until, performance.now() + ATTEMPT_MS);
    for (;;) {
      if (this.#closed) throw makeError("CONNECTION", "the client is closed");
      if (signal?.aborted) throw cancelledUnsent(signal);
      const connection = this.#current();
      if (connection) return connection;
      if (performance.now() >= deadline) throw makeError("CONNECTION", `cannot reach dirtyd: ${this.#failure}`);
      this.#attempt ??= this.#connect().finally(() => (this.#attempt = undefined));
      await firstOf(this.#attempt, deadline, signal);
    }
  }

  /** Lets go of the connection. Calls that run go on to their end. */
  close(): void {
    this.#closed = true;
    this.#drop();
  }

  #current(): Connection | undefined {
    if (this.#connection?.channel.getChannel().getConnectivityState(false) === connectivityState.READY) {
      return this.#connection;
    }
    this.#drop();
    return undefined;
  }

  #drop(): void {
    this.#connection?.channel.close();
    this.#connection = undefined;
  }

  /** One attempt at every path, and the wait that follows if all fail. */
  async #connect(): Promise<void> {
    const obstacles = await Promise.all(this.#paths.map(probe));
    const found = obstacles.indexOf(undefined);
    if (found >= 0 && (await this.#open(this.#paths[found]!))) return;
    this.#failure = this.#paths
      .map((path, i) => `${path}: ${obstacles[i]?.why ?? "it does not speak gRPC"}`)
      .join("; ");
    const refused = obstacles.some((obstacle) => obstacle?.refused);
    await new Promise((resolve) => setTimeout(resolve, this.#backoff));
    this.#backoff = Math.min(this.#backoff * 2, refused ? LONGEST_BACKOFF_IF_REFUSED_MS : LONGEST_BACKOFF_MS);
  }

  async #open(path: string): Promise<boolean> {
    const channel = new Client(`unix:${path}`, credentials.createInsecure(), OPTIONS);
    const ready = await new Promise<boolean>((resolve) =>
      channel.waitForReady(Date.now() + CHANNEL_MS, (error) => resolve(error === undefined)),
    );
    if (!ready || this.#closed) {
      channel.close();
      return false;
    }
    this.#connection = { path, channel };
    this.#paths = [path];
    this.#backoff = FIRST_BACKOFF_MS;
    return true;
  }
}

/** The error of a call that its signal ended before it was sent. */
export function cancelledUnsent(signal: AbortSignal): DirtyError {
  return makeError("CANCELLED", "cancelled before it was sent", { cause: signal.reason });
}

/** Until `attempt` has ended, `deadline` is there or `signal` is aborted. */
async function firstOf(attempt: Promise<void>, deadline: number, signal: AbortSignal | undefined): Promise<void> {
  let stop!: () => void;
  const stopped = new Promise<void>((resolve) => (stop = resolve));
  const timer = setTimeout(stop, Math.min(deadline - performance.now(), 2 ** 31 - 1));
  signal?.addEventListener("abort", stop);
  try {
    await Promise.race([attempt, stopped]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}
