//! What calls take and give.

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Reason, Result, duration};
use crate::proto;

const KEY: &str = "$attachment";

/// Results that are nested deeper than this are refused: a thread's stack has to hold them. dirtyd's own limit,
/// `max_json_depth`, is 128.
const MAX_DEPTH: usize = 512;

/// The place of a binary value in arguments and results: the number of the attachment, from 0.
///
/// In JSON it is `{"$attachment": 0}`. Use it in `json!`, and in your own types that derive `Serialize` or
/// `Deserialize`; [`Call::attach`](crate::Call::attach) adds the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Reference", into = "Reference")]
pub struct Attachment(pub usize);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    #[serde(rename = "$attachment")]
    number: usize,
}

impl From<Reference> for Attachment {
    fn from(reference: Reference) -> Attachment {
        Attachment(reference.number)
    }
}

impl From<Attachment> for Reference {
    fn from(attachment: Attachment) -> Reference {
        Reference {
            number: attachment.0,
        }
    }
}

impl Attachment {
    /// Which one `value` refers to, if it is a reference.
    pub fn of(value: &Value) -> Option<Attachment> {
        let number = value
            .as_object()
            .filter(|object| object.len() == 1)?
            .get(KEY)?
            .as_u64()?;
        usize::try_from(number).ok().map(Attachment)
    }
}

/// Why `value` cannot be sent beside so many attachments.
pub(crate) fn obstacle(value: &Value, attachments: usize) -> Option<String> {
    match value {
        Value::Object(object) => {
            if let (1, Some(held)) = (object.len(), object.get(KEY)) {
                if Attachment::of(value).is_some_and(|attachment| attachment.0 < attachments) {
                    return None;
                }
                return Some(format!(
                    "an object whose only key is {KEY} refers to an attachment by number, but this one holds {held} \
                     and there are {attachments} attachments"
                ));
            }
            object
                .values()
                .find_map(|value| obstacle(value, attachments))
        }
        Value::Array(array) => array.iter().find_map(|value| obstacle(value, attachments)),
        _ => None,
    }
}

/// The outcome of a call that succeeded.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Response {
    /// What the action returned.
    pub value: Value,
    /// The binary values that `value` refers to: see [`Response::bytes`].
    pub attachments: Vec<Bytes>,
    /// dirtyd's id of the call, as in its log.
    pub call_id: String,
    /// The worker that ran it.
    pub worker_id: u32,
    /// How long it waited for a worker.
    pub queued_time: Duration,
    /// How long it ran.
    pub run_time: Duration,
}

impl Response {
    /// The binary value that this part of `value` refers to.
    pub fn bytes(&self, reference: &Value) -> Option<&Bytes> {
        self.attachments.get(Attachment::of(reference)?.0)
    }

    /// `value` as a type of yours; where that has an [`Attachment`], the bytes are in `attachments`.
    ///
    /// # Errors
    ///
    /// The value has another shape.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        T::deserialize(&self.value)
    }

    pub(crate) fn from_proto(response: proto::ExecuteResponse) -> Result<Response> {
        Ok(Response {
            value: decode(&response.result)?,
            attachments: response.attachments,
            call_id: response.call_id,
            worker_id: response.worker_id,
            queued_time: response.queued_time.map(duration).unwrap_or_default(),
            run_time: response.run_time.map(duration).unwrap_or_default(),
        })
    }
}

/// One value of a streamed result.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Chunk {
    /// The value.
    pub value: Value,
    /// The binary values that `value` refers to, numbered from 0 in each chunk: see [`Chunk::bytes`].
    pub attachments: Vec<Bytes>,
}

impl Chunk {
    /// The binary value that this part of `value` refers to.
    pub fn bytes(&self, reference: &Value) -> Option<&Bytes> {
        self.attachments.get(Attachment::of(reference)?.0)
    }

    /// `value` as a type of yours; where that has an [`Attachment`], the bytes are in `attachments`.
    ///
    /// # Errors
    ///
    /// The value has another shape.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        T::deserialize(&self.value)
    }

    pub(crate) fn from_proto(chunk: proto::Chunk) -> Result<Chunk> {
        Ok(Chunk {
            value: decode(&chunk.value)?,
            attachments: chunk.attachments,
        })
    }
}

/// What a worker sent was checked by it; a foreign one may still be wrong.
fn decode(text: &str) -> Result<Value> {
    if depth(text) > MAX_DEPTH {
        return Err(Error::new(
            Reason::Unknown,
            format!("the result is nested more than {MAX_DEPTH} levels deep"),
        ));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.disable_recursion_limit();
    Value::deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| {
            Error::new(
                Reason::Unknown,
                format!("the worker's result cannot be read: {error}"),
            )
        })
}

/// How many levels of arrays and objects there are at most.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
