/**
 * The protocol itself, for those who write a worker: the messages of `dirty.v1`, and its services in the form
 * that @grpc/grpc-js takes. Generated from proto/dirty/v1.
 */
import type { ServiceDefinition } from "@grpc/grpc-js";
import { ArbiterDefinition } from "./generated/dirty/v1/arbiter.js";
import { WorkerDefinition } from "./generated/dirty/v1/worker.js";

export {
  Chunk,
  Error as ErrorMessage,
  ExecuteRequest,
  ExecuteResponse,
  Reason as ReasonNumber,
  RetryInfo,
  RpcStatus,
} from "./generated/dirty/v1/call.js";
export {
  AppFailed,
  AppReady,
  AppSkipped,
  AppSpec,
  AppStarting,
  ArbiterFrame,
  CallChunk,
  CallCredit,
  CallDone,
  CancelCall,
  CancelReason,
  Drain,
  DumpStacks,
  Ping,
  Pong,
  ReopenWorkerLogs,
  StartCall,
  WorkerConfig,
  WorkerFrame,
  WorkerHello,
  WorkerReady,
} from "./generated/dirty/v1/worker.js";
export { Duration } from "./generated/google/protobuf/duration.js";

/** How a message is written and read. */
interface Codec {
  encode(message: any): { finish(): Uint8Array };
  decode(bytes: Uint8Array): unknown;
}

/** A service as the generator describes it. */
interface Description {
  fullName: string;
  methods: Record<
    string,
    { name: string; requestType: Codec; requestStream: boolean; responseType: Codec; responseStream: boolean }
  >;
}

/** `bytes` as gRPC takes them, without a copy. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function serviceOf({ fullName, methods }: Description): ServiceDefinition {
  return Object.fromEntries(
    Object.entries(methods).map(([key, method]) => [
      key,
      {
        path: `/${fullName}/${method.name}`,
        requestStream: method.requestStream,
        responseStream: method.responseStream,
        requestSerialize: (message: unknown) => asBuffer(method.requestType.encode(message).finish()),
        requestDeserialize: (bytes: Buffer) => method.requestType.decode(bytes),
        responseSerialize: (message: unknown) => asBuffer(method.responseType.encode(message).finish()),
        responseDeserialize: (bytes: Buffer) => method.responseType.decode(bytes),
      },
    ]),
  );
}

/** dirty.v1.Arbiter */
export const ArbiterService = serviceOf(ArbiterDefinition);

/** dirty.v1.Worker */
export const WorkerService = serviceOf(WorkerDefinition);
