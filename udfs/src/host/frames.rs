//! Messages on a worker's socket: a little-endian u32, that many bytes of JSON, then `body` bytes of Arrow IPC
//! stream. The other side is `redpoll/worker/frames.py`.

use std::io;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::manifest::Kind;

/// No header is as long; a longer one is not from a worker.
const MAX_HEADER: u32 = 64 << 20;

/// What the executor asks.
#[derive(Debug, Serialize)]
pub struct Request<'a> {
    #[serde(flatten)]
    pub call: CallKind<'a>,
    pub body: usize,
}

#[derive(Debug, Serialize)]
#[serde(tag = "call", rename_all = "lowercase")]
pub enum CallKind<'a> {
    Load {
        module: Declared<'a>,
        /// Keys of versions that nobody will call any more.
        forget: Vec<String>,
    },
    /// By its key.
    Evaluate { module: &'a str },
}

/// A module as a worker needs to know it.
#[derive(Debug, Serialize)]
pub struct Declared<'a> {
    /// Its fingerprint: versions of one module may be loaded side by side.
    pub key: &'a str,
    pub name: &'a str,
    pub function: &'a str,
    pub kind: Kind,
    pub inputs: Vec<(&'a str, &'a str)>,
    /// Names of the inputs by which rows are grouped.
    pub keys: Vec<&'a str>,
    pub returns: &'a str,
    pub dir: &'a std::path::Path,
}

/// What a worker answers.
#[derive(Debug, Deserialize)]
pub struct Reply {
    pub ok: bool,
    #[serde(default)]
    pub error: String,
    #[serde(default)]
    pub failures: Vec<(u32, String)>,
    pub body: usize,
}

pub async fn write<W: AsyncWriteExt + Unpin>(stream: &mut W, call: CallKind<'_>, body: &[u8]) -> io::Result<()> {
    let header = serde_json::to_vec(&Request { call, body: body.len() })?;
    stream.write_u32_le(header.len() as u32).await?;
    stream.write_all(&header).await?;
    stream.write_all(body).await
}

pub async fn read<R: AsyncReadExt + Unpin>(stream: &mut R) -> io::Result<(Reply, Vec<u8>)> {
    let length = stream.read_u32_le().await?;
    if length > MAX_HEADER {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a header of {length} bytes")));
    }
    let mut header = vec![0; length as usize];
    stream.read_exact(&mut header).await?;
    let reply: Reply = serde_json::from_slice(&header)?;
    let mut body = vec![0; reply.body];
    stream.read_exact(&mut body).await?;
    Ok((reply, body))
}

pub fn encode(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut bytes = Vec::with_capacity(64 << 10);
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

/// The one batch of a body, without copying its values.
pub fn decode(body: Vec<u8>) -> Result<RecordBatch, ArrowError> {
    let mut body = Buffer::from_vec(body);
    let batch = StreamDecoder::new().decode(&mut body)?;
    batch.ok_or_else(|| ArrowError::IpcError("a stream without a batch".into()))
}
