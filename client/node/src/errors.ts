/** Why a call failed, for programs: the names of `dirty.v1.Reason`, and two that only clients decide. */
export type Reason =
  | "INVALID_REQUEST"
  | "APP_NOT_FOUND"
  | "NO_WORKERS"
  | "QUEUE_FULL"
  | "QUEUE_TIMEOUT"
  | "TIMEOUT"
  | "CANCELLED"
  | "APP_ERROR"
  | "WORKER_LOST"
  | "TOO_LARGE"
  | "SHUTTING_DOWN"
  | "PERMISSION_DENIED"
  /** No connection within `connectTimeout`: nothing was sent. */
  | "CONNECTION"
  /** The connection broke during the call: it may have run, may be running, or never started. */
  | "OUTCOME_UNKNOWN"
  /** Something that this version has no name for. */
  | "UNKNOWN";

/** What an error may carry beside its message. What does not apply is left out. */
export interface ErrorDetails {
  reason?: Reason;
  app?: string;
  action?: string;
  callId?: string;
  workerId?: number;
  exceptionType?: string;
  traceback?: string;
  retryDelay?: number;
  timeout?: number;
  exitCode?: number;
  signal?: string;
  stderrTail?: string[];
  cause?: unknown;
}

/** Anything that went wrong with a call. Times are milliseconds; what does not apply is undefined. */
export class DirtyError extends Error {
  /** Why, for programs. */
  readonly reason: Reason;
  /** The app that was called, as it was called. */
  readonly app: string | undefined;
  /** The action that was called. */
  readonly action: string | undefined;
  /** dirtyd's id of the call, as in its logs. */
  readonly callId: string | undefined;
  /** The worker that ran the call. */
  readonly workerId: number | undefined;
  /** APP_ERROR: the name of the exception's class in the app, such as `ValueError`. */
  readonly exceptionType: string | undefined;
  /** APP_ERROR: the app's own stack, as text. */
  readonly traceback: string | undefined;
  /** QUEUE_FULL: after how many milliseconds another attempt is likely to find a place. */
  readonly retryDelay: number | undefined;
  /** TIMEOUT, QUEUE_TIMEOUT: the limit that was overrun, in milliseconds. */
  readonly timeout: number | undefined;
  /** WORKER_LOST: the exit code of the worker, if it exited by itself. */
  readonly exitCode: number | undefined;
  /** WORKER_LOST: what killed the worker, such as `SIGKILL`. */
  readonly signal: string | undefined;
  /** WORKER_LOST: the last lines of its standard error, the oldest first. */
  readonly stderrTail: readonly string[] | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.reason = details.reason ?? "UNKNOWN";
    this.app = details.app;
    this.action = details.action;
    this.callId = details.callId;
    this.workerId = details.workerId;
    this.exceptionType = details.exceptionType;
    this.traceback = details.traceback;
    this.retryDelay = details.retryDelay;
    this.timeout = details.timeout;
    this.exitCode = details.exitCode;
    this.signal = details.signal;
    this.stderrTail = details.stderrTail;
  }
}

/** dirtyd cannot be reached, is shutting down, or the connection broke while the call was on its way. */
export class DirtyConnectionError extends DirtyError {}

/** The call waited or ran too long: `reason` tells which, `timeout` is the limit. */
export class DirtyTimeoutError extends DirtyError {}

/** The call was cancelled, by its AbortSignal (then `cause` is the signal's reason) or by an operator. */
export class DirtyCancelledError extends DirtyError {}

/** The app raised. */
export class DirtyAppError extends DirtyError {}

/** No such app is configured. */
export class DirtyAppNotFoundError extends DirtyError {}

/** The app is configured, but nothing can serve it. */
export class DirtyNoWorkersAvailableError extends DirtyError {}

/** Too many calls of this app wait already: try again after `retryDelay` milliseconds. */
export class DirtyQueueFullError extends DirtyError {}

/** The worker died, or was shut down, while it ran the call: the outcome is unknown. */
export class DirtyWorkerError extends DirtyError {}

/** The request cannot be sent as it is: not JSON, too deep, too large. */
export class DirtyProtocolError extends DirtyError {}

const CLASSES: Record<Reason, typeof DirtyError> = {
  INVALID_REQUEST: DirtyProtocolError,
  APP_NOT_FOUND: DirtyAppNotFoundError,
  NO_WORKERS: DirtyNoWorkersAvailableError,
  QUEUE_FULL: DirtyQueueFullError,
  QUEUE_TIMEOUT: DirtyTimeoutError,
  TIMEOUT: DirtyTimeoutError,
  CANCELLED: DirtyCancelledError,
  APP_ERROR: DirtyAppError,
  WORKER_LOST: DirtyWorkerError,
  TOO_LARGE: DirtyProtocolError,
  SHUTTING_DOWN: DirtyConnectionError,
  PERMISSION_DENIED: DirtyConnectionError,
  CONNECTION: DirtyConnectionError,
  OUTCOME_UNKNOWN: DirtyConnectionError,
  UNKNOWN: DirtyError,
};

/** An error of the class that belongs to `reason`. */
export function makeError(reason: Reason, message: string, details: ErrorDetails = {}): DirtyError {
  return new CLASSES[reason](message, { ...details, reason });
}
