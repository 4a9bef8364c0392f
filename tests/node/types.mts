// Compiles, or the types of the package are not what its README says.
import { Client, DirtyError, DirtyQueueFullError, type Reason, type Value } from "dirty-client";
import { ArbiterService, StartCall } from "dirty-client/protocol";

export async function use(client: Client, signal: AbortSignal): Promise<Value> {
  const options = { kwargs: { size: 1n }, timeout: 5000, signal, requestId: "r", traceparent: "t" };
  for await (const value of client.stream("a:B", "c", [new Uint8Array(), Buffer.from("x")], options)) {
    const known: Value = value;
    if (known instanceof Uint8Array) break;
  }
  try {
    return await client.execute("a:B", "c");
  } catch (error) {
    if (error instanceof DirtyQueueFullError && error.retryDelay !== undefined) return error.retryDelay * 2;
    if (error instanceof DirtyError) {
      const reason: Reason = error.reason;
      return reason;
    }
    throw error;
  }
}

export const service: string | undefined = ArbiterService["execute"]?.path;
export const start: StartCall = StartCall.decode(new Uint8Array());

// @ts-expect-error: seconds as text
void new Client().execute("a:B", "c", [], { timeout: "5s" });
// @ts-expect-error: an option that there is not
new Client({ path: "/run/dirty/dirty.sock" });
// @ts-expect-error: arguments are an array
void new Client().execute("a:B", "c", "text");
