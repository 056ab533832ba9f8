//! A tarball as a sequence of members, on a thread of its own: unpacking is work without waits in it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;

use bytes::{Buf, Bytes};
use flate2::read::MultiGzDecoder;
use futures::StreamExt;
use object_store::{GetOptions, GetResultPayload};
use redpoll_core::source::{Error, FileRef};
use tar::{Archive, Entries, Entry};
use tokio::sync::mpsc;

use super::is_record;
use super::object::Place;

/// The archive's bytes, not yet unpacked.
pub(super) struct Packed {
    bytes: Input,
    gzip: bool,
    /// The archive's own, for each of its members.
    pub etag: Option<String>,
}

enum Input {
    File(File),
    Stream(Chunks),
}

/// Chunks on their way to the unpacking thread.
const AHEAD: usize = 4;
const READ_BYTES: usize = 1 << 20;

impl Packed {
    pub async fn open(place: &Place, gzip: bool) -> Result<Packed, Error> {
        let got = place.store.get_opts(&place.path, GetOptions::default()).await.map_err(|error| place.error(error))?;
        let etag = got.meta.e_tag.clone();
        let bytes = match got.payload {
            GetResultPayload::File(file, _) => Input::File(file),
            GetResultPayload::Stream(mut stream) => {
                let (sender, chunks) = mpsc::channel(AHEAD);
                tokio::spawn(async move {
                    while let Some(chunk) = stream.next().await {
                        if sender.send(chunk.map_err(io::Error::from)).await.is_err() {
                            return;
                        }
                    }
                });
                Input::Stream(Chunks { chunks, current: Bytes::new() })
            }
        };
        Ok(Packed { bytes, gzip, etag })
    }

    /// Visits the members that are records, in order, until the visitor breaks.
    pub fn walk(self, visit: impl FnMut(Member<'_>) -> io::Result<ControlFlow<()>>) -> io::Result<()> {
        let gzip =
            |reader: Box<dyn Read>| Archive::new(MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, reader)));
        let etag = self.etag;
        match (self.bytes, self.gzip) {
            (Input::File(file), true) => members(gzip(Box::new(file)).entries()?, etag, visit),
            (Input::Stream(chunks), true) => members(gzip(Box::new(chunks)).entries()?, etag, visit),
            (Input::File(file), false) => members(Archive::new(file).entries_with_seek()?, etag, visit),
            (Input::Stream(chunks), false) => members(Archive::new(chunks).entries()?, etag, visit),
        }
    }
}

/// One member: what to call it, and its bytes, to be read or left.
pub(super) struct Member<'a> {
    pub file: FileRef,
    pub bytes: &'a mut dyn Read,
}

fn members<R: Read>(
    entries: Entries<'_, R>,
    etag: Option<String>,
    mut visit: impl FnMut(Member<'_>) -> io::Result<ControlFlow<()>>,
) -> io::Result<()> {
    for entry in entries {
        let mut entry: Entry<'_, R> = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !entry.header().entry_type().is_file() || !is_record(&name) {
            continue;
        }
        let file = FileRef { name, size: entry.size(), etag: etag.clone(), at: Some(entry.raw_file_position()) };
        if visit(Member { file, bytes: &mut entry })?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The chunks of an object, read by a thread that may block.
struct Chunks {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let n = buffer.len().min(self.current.len());
        buffer[..n].copy_from_slice(&self.current[..n]);
        self.current.advance(n);
        Ok(n)
    }
}
