#![doc = include_str!("../README.md")]

mod call;
mod client;
mod connection;
mod connector;
mod error;
mod obstacle;
mod value;

pub use call::{Call, Chunks};
pub use client::{Builder, Client};
pub use error::{Error, Failure, Reason, Result};
pub use value::{Attachment, Chunk, Response};

/// The type of binary values, as tonic and hyper have it.
pub use bytes::Bytes;

/// What protoc made of `dirty/v1/arbiter.proto` and `dirty/v1/call.proto`.
#[allow(missing_docs, clippy::all)]
mod proto {
    tonic::include_proto!("dirty.v1");
}
