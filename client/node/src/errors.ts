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
  declare readonly reason: Reason;
  /** The app that was called, as it was called. */
  declare readonly app?: string;
  /** The action that was called. */
  declare readonly action?: string;
  /** dirtyd's id of the call, as in its logs. */
  declare readonly callId?: string;
  /** The worker that ran the call. */
  declare readonly workerId?: number;
  /** APP_ERROR: the name of the exception's class in the app, such as `ValueError`. */
  declare readonly exceptionType?: string;
  /** APP_ERROR: the app's own stack, as text. */
  declare readonly traceback?: string;
  /** QUEUE_FULL: after how many milliseconds another attempt is likely to find a place. */
  declare readonly retryDelay?: number;
  /** TIMEOUT, QUEUE_TIMEOUT: the limit that was overrun, in milliseconds. */
  declare readonly timeout?: number;
  /** WORKER_LOST: the exit code of the worker, if it exited by itself. */
  declare readonly exitCode?: number;
  /** WORKER_LOST: what killed the worker, such as `SIGKILL`. */
  declare readonly signal?: string;
  /** WORKER_LOST: the last lines of its standard error, the oldest first. */
  declare readonly stderrTail?: readonly string[];

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    const { cause: _, ...rest } = details;
    Object.assign(this, { reason: "UNKNOWN" }, rest);
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
