//! How calls fail.

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};

use crate::proto;

/// What calls give.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Something that this version of the client has no name for; see the message.
    Unknown,
    /// Fix the request. Also decided here, before anything is sent.
    InvalidRequest,
    /// No such app is configured; the message names the nearest.
    AppNotFound,
    /// The app is configured, but nothing can serve it.
    NoWorkers,
    /// It never started: try again after `retry_delay`.
    QueueFull,
    /// It waited too long and never started.
    QueueTimeout,
    /// It ran too long. It may have had effects.
    Timeout,
    /// By an operator; a caller who drops the future sees nothing.
    Cancelled,
    /// The app raised: `exception_type`, `message`, `traceback`.
    AppError,
    /// The worker died while it ran the call: the outcome is unknown.
    WorkerLost,
    /// A message above `max_message_size`. Also decided here, before anything is sent.
    TooLarge,
    /// dirtyd is shutting down; the call never started.
    ShuttingDown,
    /// Not on this socket.
    PermissionDenied,
    /// No connection in time: the call never started. The message lists each path that was tried, and why not.
    Connection,
    /// The connection broke while the call was on its way: it may have run, may be running, or never started.
    OutcomeUnknown,
}

impl Reason {
    /// Its name in the documentation and in dirtyd's log, such as `WORKER_LOST`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unknown => "UNKNOWN",
            Reason::InvalidRequest => "INVALID_REQUEST",
            Reason::AppNotFound => "APP_NOT_FOUND",
            Reason::NoWorkers => "NO_WORKERS",
            Reason::QueueFull => "QUEUE_FULL",
            Reason::QueueTimeout => "QUEUE_TIMEOUT",
            Reason::Timeout => "TIMEOUT",
            Reason::Cancelled => "CANCELLED",
            Reason::AppError => "APP_ERROR",
            Reason::WorkerLost => "WORKER_LOST",
            Reason::TooLarge => "TOO_LARGE",
            Reason::ShuttingDown => "SHUTTING_DOWN",
            Reason::PermissionDenied => "PERMISSION_DENIED",
            Reason::Connection => "CONNECTION",
            Reason::OutcomeUnknown => "OUTCOME_UNKNOWN",
        }
    }

    fn from_proto(reason: i32) -> Reason {
        use proto::Reason as P;
        match P::try_from(reason) {
            Ok(P::InvalidRequest) => Reason::InvalidRequest,
            Ok(P::AppNotFound) => Reason::AppNotFound,
            Ok(P::NoWorkers) => Reason::NoWorkers,
            Ok(P::QueueFull) => Reason::QueueFull,
            Ok(P::QueueTimeout) => Reason::QueueTimeout,
            Ok(P::Timeout) => Reason::Timeout,
            Ok(P::Cancelled) => Reason::Cancelled,
            Ok(P::AppError) => Reason::AppError,
            Ok(P::WorkerLost) => Reason::WorkerLost,
            Ok(P::TooLarge) => Reason::TooLarge,
            Ok(P::ShuttingDown) => Reason::ShuttingDown,
            Ok(P::PermissionDenied) => Reason::PermissionDenied,
            Ok(P::Unspecified) | Err(_) => Reason::Unknown,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a call that failed: the fields of an [`Error`]. What does not apply is empty.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// Why, for programs.
    pub reason: Reason,
    /// What happened, where, and what to do, for people.
    pub message: String,
    /// The app that was called.
    pub app: String,
    /// The action that was called.
    pub action: String,
    /// dirtyd's id of the call, as in its log; empty if the call never got one.
    pub call_id: String,
    /// The worker that ran it; 0 if none did.
    pub worker_id: u32,
    /// `AppError`: the exception's type, such as `ValueError`.
    pub exception_type: String,
    /// `AppError`: the app's stack where it raised, if its language has one.
    pub traceback: String,
    /// `QueueFull`: when a place is likely.
    pub retry_delay: Option<Duration>,
    /// `Timeout`, `QueueTimeout`: the limit that was overrun.
    pub timeout: Option<Duration>,
    /// `WorkerLost`: its exit code, if it exited by itself.
    pub exit_code: Option<i32>,
    /// `WorkerLost`: the name of the signal that ended it, such as `SIGKILL`.
    pub signal: String,
    /// `WorkerLost`: the last lines of its standard error, the oldest first.
    pub stderr_tail: Vec<String>,
}

/// A call that failed. Its fields are those of [`Failure`]: `error.reason`, `error.message`, ...
#[derive(Clone, Debug)]
pub struct Error(Box<Failure>);

impl Deref for Error {
    type Target = Failure;

    fn deref(&self) -> &Failure {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.reason)?;
        if !self.exception_type.is_empty() {
            write!(f, "{}: ", self.exception_type)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl Error {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Error {
        Error(Box::new(Failure {
            reason,
            message: message.into(),
            app: String::new(),
            action: String::new(),
            call_id: String::new(),
            worker_id: 0,
            exception_type: String::new(),
            traceback: String::new(),
            retry_delay: None,
            timeout: None,
            exit_code: None,
            signal: String::new(),
            stderr_tail: Vec::new(),
        }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(Reason::InvalidRequest, message)
    }

    /// Fills in what an error that was made on the way does not know.
    pub(crate) fn of_call(mut self, app: &str, action: &str, timeout: Option<Duration>) -> Error {
        if self.app.is_empty() {
            self.0.app = app.to_owned();
        }
        if self.action.is_empty() {
            self.0.action = action.to_owned();
        }
        if self.reason == Reason::Timeout && self.timeout.is_none() {
            self.0.timeout = timeout;
        }
        self
    }

    /// Of a call that ended with `status` on a connection to `path`.
    pub(crate) fn from_status(status: &Status, path: &Path) -> Error {
        if let Some(error) = own(status) {
            return error.clone();
        }
        let (mut result, mut retry_delay) = (None, None);
        for detail in proto::RpcStatus::decode(status.details())
            .map_or_else(|_| Vec::new(), |status| status.details)
        {
            if detail.type_url.ends_with("/dirty.v1.Error") {
                result = proto::Error::decode(&*detail.value)
                    .ok()
                    .map(Error::from_proto);
            } else if detail.type_url.ends_with("/google.rpc.RetryInfo") {
                let info = proto::RetryInfo::decode(&*detail.value).ok();
                retry_delay = info.and_then(|info| info.retry_delay).map(duration);
            }
        }
        let mut error = result.unwrap_or_else(|| Error::from_transport(status, path));
        error.0.retry_delay = error.0.retry_delay.or(retry_delay);
        error
    }

    /// The transport said no: dirtyd never saw the call, or its answer was lost.
    fn from_transport(status: &Status, path: &Path) -> Error {
        let (path, text) = (path.display(), status.message());
        let broke = || {
            let why = std::error::Error::source(status).map_or_else(|| text.to_owned(), innermost);
            Error::new(
                Reason::OutcomeUnknown,
                format!("outcome unknown: the connection to {path} broke during the call ({why})"),
            )
        };
        // A status with a source was made on this side: nobody answered.
        if std::error::Error::source(status).is_some() {
            return broke();
        }
        match status.code() {
            Code::ResourceExhausted => Error::new(
                Reason::TooLarge,
                format!("refused by the transport: {text}"),
            ),
            Code::DeadlineExceeded => no_answer(path),
            Code::Cancelled => Error::new(Reason::Cancelled, "cancelled"),
            Code::PermissionDenied => Error::new(Reason::PermissionDenied, text),
            Code::Unavailable | Code::Internal | Code::Unknown => broke(),
            code => Error::new(
                Reason::Unknown,
                format!("{text} (gRPC code {}, {path})", code as i32),
            ),
        }
    }

    /// No answer, although dirtyd should have given one by now.
    pub(crate) fn no_answer(path: &Path) -> Error {
        no_answer(path.display())
    }

    fn from_proto(error: proto::Error) -> Error {
        Error(Box::new(Failure {
            reason: Reason::from_proto(error.reason),
            message: error.message,
            app: error.app,
            action: error.action,
            call_id: error.call_id,
            worker_id: error.worker_id,
            exception_type: error.exception_type,
            traceback: error.traceback,
            retry_delay: error.retry_delay.map(duration),
            timeout: error.timeout.map(duration),
            exit_code: error.exit_code,
            signal: error.signal,
            stderr_tail: error.stderr_tail,
        }))
    }
}

fn no_answer(path: impl fmt::Display) -> Error {
    Error::new(
        Reason::Timeout,
        format!("no answer from {path} in time: outcome unknown"),
    )
}

/// An error of ours that came up through tonic.
fn own(status: &Status) -> Option<&Error> {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(own) = error.downcast_ref() {
            return Some(own);
        }
        source = error.source();
    }
    None
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Of a duration on the wire; negative ones count as 0.
pub(crate) fn duration(time: prost_types::Duration) -> Duration {
    time.try_into().unwrap_or_default()
}
