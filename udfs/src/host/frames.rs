//! Messages on the sockets of parents and workers: a little-endian u32, that many bytes of JSON, then `body` bytes of Arrow IPC
//! stream. The other side is `redpoll/worker/frames.py`.

use std::io;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::manifest::{Kind, Module};

/// No header is as long; a longer one is not from a worker.
const MAX_HEADER: u32 = 64 << 20;

/// What the executor asks.
#[derive(Debug, Serialize)]
pub struct Request<'a> {
    #[serde(flatten)]
    pub call: CallKind<'a>,
    pub body: usize,
}

/// The first three go to a parent, the last to a worker. A key names a module as it is now.
#[derive(Debug, Serialize)]
#[serde(tag = "call", rename_all = "lowercase")]
pub enum CallKind<'a> {
    Load { key: &'a str, module: Declared<'a>, seconds: f64, memory_limit_mb: Option<u64> },
    Fork { key: &'a str, path: &'a Path, seconds: f64, memory_limit_mb: Option<u64>, cpu_limit_s: Option<u64> },
    End { pid: u32, grace: f64 },
    Evaluate,
}

/// A module as a worker needs to know it.
#[derive(Debug, Serialize)]
pub struct Declared<'a> {
    pub name: &'a str,
    pub function: &'a str,
    pub kind: Kind,
    pub inputs: Vec<(&'a str, &'a str)>,
    /// Names of the inputs by which rows are grouped.
    pub keys: Vec<&'a str>,
    pub returns: &'a str,
    pub dir: &'a Path,
}

impl<'a> Declared<'a> {
    pub fn of(module: &'a Module) -> Self {
        Self {
            name: &module.name,
            function: &module.function,
            kind: module.kind,
            inputs: module.inputs.iter().map(|input| (input.name.as_str(), input.sql_type.text())).collect(),
            keys: module.inputs.iter().filter(|input| input.key).map(|input| input.name.as_str()).collect(),
            returns: module.returns.text(),
            dir: &module.dir,
        }
    }
}

/// What a parent or a worker answers.
#[derive(Debug, Deserialize)]
pub struct Reply {
    pub ok: bool,
    #[serde(default)]
    pub error: String,
    /// In a parent's greeting: why the kernel does not keep its modules from the network, if it should.
    #[serde(default)]
    pub network: String,
    /// Of `load`: whether the parent has the module, rather than each worker.
    #[serde(default)]
    pub imported: bool,
    /// Of `fork`.
    #[serde(default)]
    pub pid: u32,
    /// Of `end`.
    #[serde(flatten)]
    pub ended: Ended,
    /// Of `evaluate`.
    #[serde(default)]
    pub failures: Vec<(u32, String)>,
    /// Memory of the worker that is in RAM.
    #[serde(default)]
    pub resident_kib: u64,
    pub body: usize,
}

/// How a worker ended.
#[derive(Debug, Default, Clone, Deserialize)]
pub struct Ended {
    #[serde(default)]
    pub signal: Option<i32>,
    #[serde(default)]
    pub code: Option<i32>,
    #[serde(default)]
    pub peak_kib: u64,
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
