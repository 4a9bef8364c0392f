import { type Metadata, status } from "@grpc/grpc-js";
import { type ErrorDetails, makeError, type DirtyError, type Reason } from "./errors.js";
import { Error as ErrorMessage, RetryInfo, RpcStatus, Reason as WireReason } from "./generated/dirty/v1/call.js";
import type { Duration } from "./generated/google/protobuf/duration.js";

/** What @grpc/grpc-js says of a call that failed. */
export interface Failure {
  code: number;
  details: string;
  metadata: Metadata;
}

/** A protobuf duration of so many milliseconds. */
export function toDuration(milliseconds: number): Duration {
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds: BigInt(seconds), nanos: Math.min(Math.round((milliseconds - seconds * 1000) * 1e6), 999_999_999) };
}

function toMilliseconds(duration: Duration): number {
  return Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

/** The error of a call on the socket `path`. `known` is what this side knows of the call. */
export function errorOf(failure: Failure, path: string, known: ErrorDetails): DirtyError {
  const details = failure.metadata.get("grpc-status-details-bin")[0];
  if (details instanceof Uint8Array) {
    try {
      const told = decided(details, known);
      if (told) return told;
    } catch {
      // Not dirtyd's. Then the status is all there is.
    }
  }
  return refused(failure, path, known);
}

/** What dirtyd decided, if `details` tell. */
function decided(details: Uint8Array, known: ErrorDetails): DirtyError | undefined {
  let error: ErrorMessage | undefined;
  let retry: Duration | undefined;
  for (const { typeUrl, value } of RpcStatus.decode(details).details) {
    if (typeUrl.endsWith("/dirty.v1.Error")) error = ErrorMessage.decode(value);
    if (typeUrl.endsWith("/google.rpc.RetryInfo")) retry = RetryInfo.decode(value).retryDelay;
  }
  if (!error) return undefined;
  retry = error.retryDelay ?? retry;
  const all: ErrorDetails = { ...known };
  if (error.app) all.app = error.app;
  if (error.action) all.action = error.action;
  if (error.callId) all.callId = error.callId;
  if (error.workerId) all.workerId = error.workerId;
  if (error.exceptionType) all.exceptionType = error.exceptionType;
  if (error.traceback) all.traceback = error.traceback;
  if (retry) all.retryDelay = toMilliseconds(retry);
  if (error.timeout) all.timeout = toMilliseconds(error.timeout);
  if (error.exitCode !== undefined) all.exitCode = error.exitCode;
  if (error.signal) all.signal = error.signal;
  if (error.stderrTail.length > 0) all.stderrTail = error.stderrTail;
  return makeError(reasonOf(error.reason), error.message, all);
}

function reasonOf(reason: WireReason): Reason {
  const name = WireReason[reason]?.replace(/^REASON_/, "");
  return name === undefined || name === "UNSPECIFIED" || name === "UNRECOGNIZED" ? "UNKNOWN" : (name as Reason);
}

/** What the transport decided: dirtyd never saw the call, or its answer was lost. */
function refused(failure: Failure, path: string, known: ErrorDetails): DirtyError {
  switch (failure.code) {
    case status.RESOURCE_EXHAUSTED:
      return makeError("TOO_LARGE", `refused by the transport: ${failure.details}`, known);
    case status.DEADLINE_EXCEEDED:
      return makeError("TIMEOUT", `no answer from ${path} in time: outcome unknown`, known);
    case status.CANCELLED:
      return makeError("CANCELLED", "cancelled", known);
    case status.PERMISSION_DENIED:
      return makeError("PERMISSION_DENIED", failure.details, known);
    case status.UNAVAILABLE:
    case status.INTERNAL:
    case status.UNKNOWN:
      return makeError(
        "OUTCOME_UNKNOWN",
        `outcome unknown: the connection to ${path} broke during the call (${failure.details})`,
        known,
      );
    default:
      return makeError("UNKNOWN", `${failure.details} (gRPC code ${failure.code}, ${path})`, known);
  }
}
