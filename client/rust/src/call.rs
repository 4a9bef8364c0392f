//! A call, from its arguments to its outcome.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use http::Uri;
use prost::Message;
use serde::Serialize;
use serde_json::{Map, Value, to_value};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::{Request, Status, Streaming};

use crate::client::{Client, LONGEST};
use crate::connection::Sender;
use crate::error::{Error, Reason, Result};
use crate::proto::ExecuteRequest;
use crate::proto::arbiter_client::ArbiterClient;
use crate::value::{Attachment, Chunk, Response, obstacle};

/// dirtyd answers when the time is over. If it does not, the call ends this much later.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// A call in the making; from [`Client::call`]. Nothing happens before [`execute`](Call::execute) or
/// [`stream`](Call::stream).
#[derive(Debug)]
#[must_use = "a call does nothing until it is executed"]
pub struct Call {
    client: Client,
    request: ExecuteRequest,
    args: Vec<Value>,
    kwargs: Map<String, Value>,
    timeout: Option<Duration>,
    traceparent: Option<String>,
    /// The first thing that was wrong with the arguments.
    wrong: Option<String>,
}

impl Call {
    pub(crate) fn new(client: Client, app: String, action: String) -> Call {
        Call {
            client,
            request: ExecuteRequest {
                app,
                action,
                ..ExecuteRequest::default()
            },
            args: Vec::new(),
            kwargs: Map::new(),
            timeout: None,
            traceparent: None,
            wrong: None,
        }
    }

    /// Adds a positional argument. An object whose only key is `$attachment` is never data.
    pub fn arg(mut self, value: impl Serialize) -> Call {
        if let Some(value) = self.valued("args", value) {
            self.args.push(value);
        }
        self
    }

    /// Adds positional arguments: a tuple, an array or a `Vec`; `()` for none.
    pub fn args(mut self, values: impl Serialize) -> Call {
        match self.valued("args", values) {
            Some(Value::Array(values)) => self.args.extend(values),
            Some(Value::Null) | None => {}
            Some(_) => self.refuse(
                "args: positional arguments are a tuple, an array or a Vec; use arg() for one",
            ),
        }
        self
    }

    /// Adds a named argument.
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Serialize) -> Call {
        if let Some(value) = self.valued("kwargs", value) {
            self.kwargs.insert(name.into(), value);
        }
        self
    }

    /// Adds named arguments: a struct or a map.
    pub fn kwargs(mut self, values: impl Serialize) -> Call {
        match self.valued("kwargs", values) {
            Some(Value::Object(values)) => self.kwargs.extend(values),
            Some(Value::Null) | None => {}
            Some(_) => self.refuse("kwargs: named arguments are a struct or a map"),
        }
        self
    }

    /// Adds a positional argument that is bytes.
    pub fn bytes(mut self, bytes: impl Into<Bytes>) -> Call {
        let reference = Attachment(self.request.attachments.len());
        self.request.attachments.push(bytes.into());
        self.arg(reference)
    }

    /// Adds bytes, which arguments refer to as [`Attachment`] with their number: those of the first call of this are 0.
    pub fn attach(mut self, bytes: impl Into<Bytes>) -> Call {
        self.request.attachments.push(bytes.into());
        self
    }

    /// All positional arguments, as the text of a JSON array that goes through as it is. The worker checks it.
    pub fn args_json(mut self, text: impl Into<String>) -> Call {
        self.request.args = text.into();
        self
    }

    /// All named arguments, as the text of a JSON object that goes through as it is. The worker checks it.
    pub fn kwargs_json(mut self, text: impl Into<String>) -> Call {
        self.request.kwargs = text.into();
        self
    }

    /// How long the caller waits: to connect, queued and running together, of a stream until its end. It only shortens
    /// dirtyd's own limits.
    pub fn timeout(mut self, time: Duration) -> Call {
        self.timeout = Some(time);
        self
    }

    /// The caller's own name for the call, for logs and traces; the first 128 bytes are kept.
    pub fn request_id(mut self, id: impl Into<String>) -> Call {
        self.request.request_id = id.into();
        self
    }

    /// The W3C trace context of the caller, which the app gets.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Call {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// Runs it and waits for the outcome. Dropping the future cancels the call.
    ///
    /// # Errors
    ///
    /// See [`Reason`].
    pub async fn execute(self) -> Result<Response> {
        let name = Name::of(&self);
        let outcome = async {
            let (mut stub, request, way) = self.start().await?;
            let answer = within(way.answer_by, stub.execute(request)).await;
            let response = answer.ok_or_else(|| Error::no_answer(&way.path))?;
            Response::from_proto(
                response
                    .map_err(|status| Error::from_status(&status, &way.path))?
                    .into_inner(),
            )
        };
        outcome.await.map_err(|error| name.complete(error))
    }

    /// Starts it and waits until its first value, or its failure, is there. Dropping the stream cancels the call.
    ///
    /// # Errors
    ///
    /// See [`Reason`].
    pub async fn stream(self) -> Result<Chunks> {
        let name = Name::of(&self);
        let outcome = async {
            let (mut stub, request, way) = self.start().await?;
            let answer = within(way.answer_by, stub.execute_stream(request)).await;
            let response = answer.ok_or_else(|| Error::no_answer(&way.path))?;
            Ok((
                response
                    .map_err(|status| Error::from_status(&status, &way.path))?
                    .into_inner(),
                way,
            ))
        };
        match outcome.await {
            Ok((chunks, way)) => Ok(Chunks::new(chunks, way, name)),
            Err(error) => Err(name.complete(error)),
        }
    }

    fn refuse(&mut self, why: impl Into<String>) {
        self.wrong.get_or_insert_with(|| why.into());
    }

    fn valued(&mut self, what: &str, value: impl Serialize) -> Option<Value> {
        to_value(value)
            .map_err(|error| self.refuse(format!("{what}: {error}")))
            .ok()
    }

    /// Checks the arguments, connects, and gives what is needed to send.
    async fn start(mut self) -> Result<(ArbiterClient<Sender>, Request<ExecuteRequest>, Way)> {
        let started = Instant::now();
        self.encode()?;
        let traceparent = self.traceparent.take().map(|text| text.parse()).transpose();
        let traceparent =
            traceparent.map_err(|_| Error::invalid("traceparent is not ASCII text"))?;
        let timeout = self.timeout.filter(|timeout| *timeout < LONGEST);
        let connector = self.client.connector;
        let connect_by = connector.connect_by(timeout);
        let connection = connector.get(connect_by).await?;
        let time_left = timeout.map(|timeout| time_left(timeout, started.elapsed()));
        if let Some(time) = time_left {
            self.request.timeout = Some(
                time.try_into()
                    .map_err(|_| Error::invalid("timeout is too long"))?,
            );
        }
        let mut request = Request::new(self.request);
        if let Some(time) = time_left {
            request.set_timeout(time + ANSWER_TIME);
        }
        if let Some(traceparent) = traceparent {
            request.metadata_mut().insert("traceparent", traceparent);
        }
        let way = Way {
            path: connection.path().to_owned(),
            answer_by: time_left.map(|time| Instant::now() + time + ANSWER_TIME),
        };
        let sender = Sender {
            connection,
            connector,
            connect_by,
        };
        let stub = ArbiterClient::with_origin(sender, Uri::from_static("http://localhost"));
        Ok((stub.max_decoding_message_size(usize::MAX), request, way))
    }

    /// Puts the arguments into the request, or says why they cannot be sent.
    fn encode(&mut self) -> Result<()> {
        if let Some(wrong) = self.wrong.take() {
            return Err(Error::invalid(wrong));
        }
        if self.timeout == Some(Duration::ZERO) {
            return Err(Error::invalid("timeout must be positive"));
        }
        let count = self.request.attachments.len();
        let (args, kwargs) = (
            std::mem::take(&mut self.args),
            Value::Object(std::mem::take(&mut self.kwargs)),
        );
        if !args.is_empty() {
            self.request.args = encoded(
                "args",
                self.request.args.is_empty(),
                Value::Array(args),
                count,
            )?;
        }
        if kwargs.as_object().is_some_and(|named| !named.is_empty()) {
            self.request.kwargs = encoded("kwargs", self.request.kwargs.is_empty(), kwargs, count)?;
        }
        let (size, limit) = (self.request.encoded_len(), self.client.max_message_size);
        if limit != 0 && size > limit {
            let message = format!("the request has {size} bytes, max_message_size is {limit}");
            return Err(Error::new(Reason::TooLarge, message));
        }
        Ok(())
    }
}

/// The JSON text of arguments, of which there must be no text already.
fn encoded(what: &str, alone: bool, value: Value, attachments: usize) -> Result<String> {
    if !alone {
        return Err(Error::invalid(format!(
            "{what}: given both as values and as JSON text"
        )));
    }
    match obstacle(&value, attachments) {
        Some(obstacle) => Err(Error::invalid(format!("{what}: {obstacle}"))),
        None => Ok(value.to_string()),
    }
}

/// What is left of `timeout`. In whole milliseconds, so that a call that did not wait for its connection keeps its
/// round number.
fn time_left(timeout: Duration, waited: Duration) -> Duration {
    let waited = Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
    timeout.saturating_sub(waited).max(Duration::from_millis(1))
}

/// The outcome of `call`, unless even the answer that its time is over is overdue.
async fn within<T>(answer_by: Option<Instant>, call: impl Future<Output = T>) -> Option<T> {
    match answer_by {
        Some(time) => timeout_at(time, call).await.ok(),
        None => Some(call.await),
    }
}

/// How a call travels.
#[derive(Debug)]
struct Way {
    path: PathBuf,
    /// When dirtyd has said at the latest that its time is over, of a stream that it ended.
    answer_by: Option<Instant>,
}

/// What errors of a call say of it.
#[derive(Debug)]
struct Name {
    app: String,
    action: String,
    timeout: Option<Duration>,
}

impl Name {
    fn of(call: &Call) -> Name {
        let ExecuteRequest { app, action, .. } = &call.request;
        Name {
            app: app.clone(),
            action: action.clone(),
            timeout: call.timeout,
        }
    }

    fn complete(&self, error: Error) -> Error {
        error.of_call(&self.app, &self.action, self.timeout)
    }
}

/// The values of a streaming call, as they come: a [`Stream`], and [`Chunks::next`] for those without its extensions.
///
/// It reads little ahead: who does not read holds up the action. An error comes after the values before it, and is the
/// last item. Dropping it cancels the call.
#[derive(Debug)]
#[must_use = "dropping it cancels the call"]
pub struct Chunks {
    /// None: it has ended.
    chunks: Option<Streaming<crate::proto::Chunk>>,
    overdue: Option<Pin<Box<Sleep>>>,
    path: PathBuf,
    name: Name,
}

impl Chunks {
    fn new(chunks: Streaming<crate::proto::Chunk>, way: Way, name: Name) -> Chunks {
        let overdue = way.answer_by.map(|time| Box::pin(sleep_until(time)));
        Chunks {
            chunks: Some(chunks),
            overdue,
            path: way.path,
            name,
        }
    }

    /// The next value; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Chunk>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Ends with `error`.
    fn fail(&mut self, error: Error) -> Poll<Option<Result<Chunk>>> {
        self.chunks = None;
        Poll::Ready(Some(Err(self.name.complete(error))))
    }

    fn received(
        &mut self,
        item: Option<std::result::Result<crate::proto::Chunk, Status>>,
    ) -> Poll<Option<Result<Chunk>>> {
        match item.map(|chunk| {
            chunk
                .map_err(|status| Error::from_status(&status, &self.path))
                .and_then(Chunk::from_proto)
        }) {
            Some(Ok(chunk)) => Poll::Ready(Some(Ok(chunk))),
            Some(Err(error)) => self.fail(error),
            None => {
                self.chunks = None;
                Poll::Ready(None)
            }
        }
    }
}

impl Stream for Chunks {
    type Item = Result<Chunk>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(chunks) = &mut self.chunks else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(item) = Pin::new(chunks).poll_next(context) {
            return self.received(item);
        }
        let overdue = self
            .overdue
            .as_mut()
            .is_some_and(|overdue| overdue.as_mut().poll(context).is_ready());
        if !overdue {
            return Poll::Pending;
        }
        let error = Error::no_answer(&self.path);
        self.fail(error)
    }
}
