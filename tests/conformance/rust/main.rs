//! The Rust client's runner: see tests/conformance/README.md.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dirty_client::{Attachment, Bytes, Call, Chunks, Client, Error, Response, Result};
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

/// A call that was started. A stream is None once it was left, as one cancels in Rust.
enum Started {
    Call(JoinHandle<Result<Response>>),
    Stream(Vec<Value>, Box<Option<Result<Chunks>>>),
}

struct Runner {
    client: Client,
    prefix: String,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, vectors, socket, prefix, _] = &arguments[..] else {
        panic!("usage: conformance VECTORS SOCKET PREFIX TRANSPORT");
    };
    let text = std::fs::read_to_string(vectors).expect("the vectors");
    let runner = Runner {
        client: Client::builder().socket(socket).build(),
        prefix: prefix.clone(),
    };
    for vector in parsed(&text).as_array().expect("an array") {
        let line = match runner.run(&vector["steps"]).await {
            Ok(outcomes) => json!({"vector": vector["name"], "outcomes": outcomes}),
            Err(broken) => json!({"vector": vector["name"], "broken": broken}),
        };
        println!("{line}");
        std::io::stdout().flush().expect("standard output");
    }
}

/// Nested more deeply than serde_json allows by itself.
fn parsed(text: &str) -> Value {
    use serde::Deserialize;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.disable_recursion_limit();
    Value::deserialize(&mut deserializer).expect("JSON")
}

impl Runner {
    async fn run(&self, steps: &Value) -> std::result::Result<Vec<Value>, String> {
        let mut outcomes = Vec::new();
        let mut started = HashMap::new();
        for step in steps.as_array().ok_or("no steps")? {
            let id = step["id"].as_str().unwrap_or_default().to_owned();
            let stream = step["stream"] == true;
            match step["do"].as_str() {
                Some("call") if stream => {
                    outcomes.push(finish_stream(Vec::new(), self.call(step)?.stream().await).await)
                }
                Some("call") => outcomes.push(outcome(self.call(step)?.execute().await)),
                Some("start") => {
                    let call = self.call(step)?;
                    let call = if stream {
                        let mut chunks = call.stream().await;
                        let read = read_some(&mut chunks, step["read"].as_u64().unwrap_or(0)).await;
                        Started::Stream(read, Box::new(Some(chunks)))
                    } else {
                        Started::Call(tokio::spawn(call.execute()))
                    };
                    started.insert(id, call);
                }
                Some("cancel") => match started.get_mut(&id).ok_or("not started")? {
                    Started::Call(task) => task.abort(),
                    Started::Stream(_, chunks) => **chunks = None,
                },
                Some("finish") => {
                    outcomes.push(match started.remove(&id).ok_or("not started")? {
                        Started::Call(task) => match task.await {
                            Ok(result) => outcome(result),
                            Err(_) => json!({"error": {"reason": "CANCELLED"}}),
                        },
                        Started::Stream(read, chunks) => match *chunks {
                            Some(chunks) => finish_stream(read, chunks).await,
                            None => json!({"chunks": read, "error": {"reason": "CANCELLED"}}),
                        },
                    })
                }
                other => return Err(format!("no step {other:?}")),
            }
        }
        Ok(outcomes)
    }

    fn call(&self, step: &Value) -> std::result::Result<Call, String> {
        let app = format!("{}-{}", self.prefix, step["app"].as_str().ok_or("no app")?);
        let mut call = self
            .client
            .call(app, step["action"].as_str().ok_or("no action")?);
        let mut attachments = Vec::new();
        for value in step["args"].as_array().into_iter().flatten() {
            call = call.arg(made(value, &mut attachments)?);
        }
        for (name, value) in step["kwargs"].as_object().into_iter().flatten() {
            call = call.kwarg(name, made(value, &mut attachments)?);
        }
        for bytes in attachments {
            call = call.attach(bytes);
        }
        if let Some(text) = step["raw_args"].as_str() {
            call = call.args_json(text);
        }
        if let Some(text) = step["raw_kwargs"].as_str() {
            call = call.kwargs_json(text);
        }
        if let Some(seconds) = step["timeout"].as_f64() {
            call = call.timeout(Duration::from_secs_f64(seconds));
        }
        Ok(call)
    }
}

/// What a value of the vectors stands for; its bytes become attachments.
fn made(value: &Value, attachments: &mut Vec<Bytes>) -> std::result::Result<Value, String> {
    let Value::Object(object) = value else {
        return match value {
            Value::Array(array) => array.iter().map(|value| made(value, attachments)).collect(),
            _ => Ok(value.clone()),
        };
    };
    let (key, held) = match object.iter().next() {
        Some((key, held)) if object.len() == 1 && key.starts_with('$') => (key.as_str(), held),
        _ => ("", value),
    };
    let number = |index: usize| {
        held[index]
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
    };
    let mut attach = |bytes: Vec<u8>| {
        attachments.push(bytes.into());
        json!(Attachment(attachments.len() - 1))
    };
    Ok(match key {
        "$bytes" => attach(
            BASE64_STANDARD
                .decode(held.as_str().ok_or("$bytes")?)
                .map_err(|error| error.to_string())?,
        ),
        "$bytes_of" => attach(vec![
            u8::try_from(number(0).ok_or("a byte")?)
                .map_err(|_| "a byte")?;
            number(1).ok_or("a count")?
        ]),
        "$text_of" => held[0]
            .as_str()
            .ok_or("$text_of")?
            .repeat(number(1).ok_or("a count")?)
            .into(),
        "$int" => {
            serde_json::from_str(held.as_str().ok_or("$int")?).map_err(|error| error.to_string())?
        }
        "$levels" => {
            let inner = made(&held[1], attachments)?;
            (0..number(0).ok_or("a count")?).fold(inner, |inner, _| Value::Array(vec![inner]))
        }
        _ => {
            let mut made_object = Map::new();
            for (name, value) in object {
                made_object.insert(name.clone(), made(value, attachments)?);
            }
            made_object.into()
        }
    })
}

/// A result as outcomes have it.
fn shown(value: &Value, attachments: &[Bytes]) -> Value {
    if let Some(bytes) = Attachment::of(value).and_then(|attachment| attachments.get(attachment.0))
    {
        return json!({"$bytes": BASE64_STANDARD.encode(bytes)});
    }
    match value {
        Value::Array(array) => array
            .iter()
            .map(|value| shown(value, attachments))
            .collect(),
        Value::Object(object) => object
            .iter()
            .map(|(name, value)| (name.clone(), shown(value, attachments)))
            .collect::<Map<_, _>>()
            .into(),
        _ => value.clone(),
    }
}

fn outcome(result: Result<Response>) -> Value {
    match result {
        Ok(response) => json!({"result": shown(&response.value, &response.attachments)}),
        Err(error) => json!({"error": error_of(&error)}),
    }
}

async fn read_some(chunks: &mut Result<Chunks>, count: u64) -> Vec<Value> {
    let mut read = Vec::new();
    if let Ok(chunks) = chunks {
        for _ in 0..count {
            if let Some(Ok(chunk)) = chunks.next().await {
                read.push(shown(&chunk.value, &chunk.attachments));
            }
        }
    }
    read
}

async fn finish_stream(mut read: Vec<Value>, chunks: Result<Chunks>) -> Value {
    let mut chunks = match chunks {
        Ok(chunks) => chunks,
        Err(error) => return json!({"chunks": read, "error": error_of(&error)}),
    };
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) => read.push(shown(&chunk.value, &chunk.attachments)),
            Err(error) => return json!({"chunks": read, "error": error_of(&error)}),
        }
    }
    json!({"chunks": read})
}

fn error_of(error: &Error) -> Value {
    let seconds =
        |time: Option<Duration>| time.map_or(Value::Null, |time| time.as_secs_f64().into());
    let mut all = json!({
        "reason": error.reason.as_str(), "message": error.message, "app": error.app, "action": error.action,
        "call_id": error.call_id, "worker_id": error.worker_id, "exception_type": error.exception_type,
        "traceback": error.traceback, "retry_delay": seconds(error.retry_delay), "timeout": seconds(error.timeout),
        "exit_code": error.exit_code, "signal": error.signal, "stderr_tail": error.stderr_tail,
    });
    if let Some(fields) = all.as_object_mut() {
        fields.retain(|_, value| {
            !value.is_null() && *value != "" && *value != 0 && *value != json!([])
        });
    }
    all
}
