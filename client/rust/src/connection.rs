//! One connection to dirtyd, and how calls travel over it.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};
use tonic::body::Body;
use tower_service::Service;

use crate::connector::Connector;
use crate::error::{Error, Reason};

/// Details of errors share the headers' limit.
const MAX_HEADERS: u32 = 64 << 10;
/// How much of a stream that nobody reads is on this side at most.
const STREAM_WINDOW: u32 = 1 << 20;
/// Streams that nobody reads must not hold up the others: as much as HTTP/2 has.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// A connection that was greeted by its peer. Copies share it; it ends with the last of them. Thread-safe.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    path: Arc<PathBuf>,
    probe: Arc<OwnedFd>,
    sender: SendRequest<Body>,
}

impl Connection {
    /// Takes over a stream that was connected to `path`; its I/O runs on a task of this runtime.
    pub(crate) async fn new(path: PathBuf, stream: UnixStream) -> Result<Connection, String> {
        let probe =
            rustix::io::fcntl_dupfd_cloexec(&stream, 3).map_err(|error| error.to_string())?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .max_header_list_size(MAX_HEADERS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection); // its error is that of the calls on it
        Ok(Connection {
            path: Arc::new(path),
            probe: Arc::new(probe),
            sender,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a call may be tried on it: looks at the socket itself, as the task may not have run since it closed.
    pub(crate) fn alive(&self) -> bool {
        !self.sender.is_closed() && !hung_up(&self.probe)
    }
}

/// What a peer does that was connected to.
pub(crate) enum Greeting {
    Speaks,
    Silent,
    Closed,
}

/// Waits until the peer says something, for at most `time`: dirtyd does so at once.
pub(crate) async fn greeting(stream: &UnixStream, time: Duration) -> Greeting {
    match timeout(time, stream.ready(Interest::READABLE)).await {
        Err(_) => Greeting::Silent,
        Ok(Ok(ready)) if !ready.is_read_closed() => Greeting::Speaks,
        Ok(_) => Greeting::Closed,
    }
}

fn hung_up(fd: &OwnedFd) -> bool {
    let mut events = [PollFd::new(fd, PollFlags::RDHUP)];
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    poll(&mut events, Some(&Timespec::default())).is_err() || events[0].revents().intersects(gone)
}

/// Sends one request, for tonic. If the connection ends before anything of it was sent, another one is used; what may
/// have been sent is never sent again.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    pub(crate) connection: Connection,
    pub(crate) connector: Arc<Connector>,
    pub(crate) connect_by: Instant,
}

impl Service<Request<Body>> for Sender {
    type Response = Response<Incoming>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut this = self.clone();
        let mut request = request;
        Box::pin(async move {
            loop {
                match this.connection.sender.try_send_request(request).await {
                    Ok(response) => return Ok(response),
                    Err(mut error) => match error.take_message() {
                        Some(unsent) => request = unsent,
                        None => return Err(broken(&this.connection, error.into_error()).into()),
                    },
                }
                this.connection = this.connector.get(this.connect_by).await?;
            }
        })
    }
}

fn broken(connection: &Connection, error: hyper::Error) -> Error {
    let why =
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
    Error::new(
        Reason::OutcomeUnknown,
        format!(
            "outcome unknown: the connection to {} broke during the call ({why})",
            connection.path().display()
        ),
    )
}
