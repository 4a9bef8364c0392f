//! The client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::call::{Call, Chunks};
use crate::connector::{Connector, default_paths};
use crate::error::Result;
use crate::value::Response;

/// Calls apps through one dirtyd.
///
/// Copies share one connection, made by the first call, looked at before each, and made again when it is gone. A call
/// that may have started is never sent again. Thread-safe: keep one, and clone it to where it is needed. Calls must be
/// made within a tokio runtime, with I/O and time enabled.
///
/// Dropping the future of a call, or its [`Chunks`], cancels the call in its worker.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) connector: Arc<Connector>,
    pub(crate) max_message_size: usize,
}

impl Client {
    /// To `$DIRTY_SOCKET`, `/run/dirty/dirty.sock` or `$XDG_RUNTIME_DIR/dirty/dirty.sock`: the first that answers, with
    /// which this client then stays. Nothing is connected before the first call.
    pub fn new() -> Client {
        Client::builder().build()
    }

    /// With other than the default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A call of `action` of `app`, to which arguments and limits can be added.
    pub fn call(&self, app: impl Into<String>, action: impl Into<String>) -> Call {
        Call::new(self.clone(), app.into(), action.into())
    }

    /// Runs `action` of `app` with positional arguments: a tuple, an array or a `Vec`; `()` for none.
    ///
    /// # Errors
    ///
    /// See [`Reason`](crate::Reason).
    pub async fn execute(
        &self,
        app: impl Into<String>,
        action: impl Into<String>,
        args: impl Serialize,
    ) -> Result<Response> {
        self.call(app, action).args(args).execute().await
    }

    /// Starts an action that streams, likewise. One that does not stream gives one chunk.
    ///
    /// # Errors
    ///
    /// See [`Reason`](crate::Reason).
    pub async fn stream(
        &self,
        app: impl Into<String>,
        action: impl Into<String>,
        args: impl Serialize,
    ) -> Result<Chunks> {
        self.call(app, action).args(args).stream().await
    }

    /// Waits until dirtyd can be reached. Calls do so by themselves; this is for programs that want to know at their
    /// start.
    ///
    /// # Errors
    ///
    /// It cannot be reached within `connect_timeout`.
    pub async fn connect(&self) -> Result<()> {
        self.connector
            .get(self.connector.connect_by(None))
            .await
            .map(drop)
    }
}

impl Default for Client {
    fn default() -> Client {
        Client::new()
    }
}

/// The settings of a [`Client`]. The defaults suit a dirtyd with its own defaults.
#[derive(Clone, Debug)]
pub struct Builder {
    socket: Option<PathBuf>,
    connect_timeout: Duration,
    max_message_size: usize,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            socket: None,
            connect_timeout: Duration::from_secs(5),
            max_message_size: 64 << 20,
        }
    }
}

impl Builder {
    /// dirtyd's client socket.
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Builder {
        self.socket = Some(path.into());
        self
    }

    /// How long a call waits for the socket, whatever the obstacle, before it fails with
    /// [`Reason::Connection`](crate::Reason::Connection); 5 s if not given. 0: one attempt.
    pub fn connect_timeout(mut self, time: Duration) -> Builder {
        self.connect_timeout = time;
        self
    }

    /// Requests above this many bytes fail with [`Reason::TooLarge`](crate::Reason::TooLarge) before anything is sent.
    /// As dirtyd's; 64 MiB if not given. 0: no limit.
    pub fn max_message_size(mut self, bytes: usize) -> Builder {
        self.max_message_size = bytes;
        self
    }

    /// A client with these settings. Nothing is connected yet.
    pub fn build(self) -> Client {
        let paths = self.socket.map_or_else(default_paths, |path| vec![path]);
        Client {
            connector: Arc::new(Connector::new(paths, self.connect_timeout.min(LONGEST))),
            max_message_size: self.max_message_size,
        }
    }
}

/// As good as for ever, and safe to add to a clock.
pub(crate) const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
