//! A data file on its way to the object store: one put where it is small, else parts, of which a few travel at once.
//!
//! An upload that does not come to its end, because the store failed for good or the attempt was cancelled, is cancelled
//! on the store as well. Nobody would ever see its parts, but they would stay and be paid for.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::errors::ParquetError;
use tokio::task::JoinSet;
use tracing::warn;

/// Bytes of a part; S3 takes no part below 5 MiB but the last.
const PART_BYTES: usize = 8 << 20;
/// Parts of one file on their way at once.
const PARTS_IN_FLIGHT: usize = 2;

/// Bytes in the making of one object. Holds up to three parts in memory.
pub(super) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    buffer: Vec<u8>,
    parts: Option<Parts>,
}

/// An upload in parts. Dropped before it is complete, it is cancelled in the background.
struct Parts {
    path: Path,
    /// None once it is complete or cancelled.
    upload: Option<Box<dyn MultipartUpload>>,
    travelling: JoinSet<object_store::Result<()>>,
}

impl Upload {
    /// Nothing is sent before there is a part.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Upload { store, path, buffer: Vec::new(), parts: None }
    }

    /// Gives the file up; comes back when its parts are gone.
    pub async fn cancel(mut self) {
        if let Some(mut parts) = self.parts.take() {
            parts.travelling.shutdown().await;
            cancel(parts.path.clone(), parts.upload.take()).await;
        }
    }

    async fn take(&mut self, mut bytes: &[u8]) -> object_store::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == PART_BYTES {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> object_store::Result<()> {
        let part = PutPayload::from(std::mem::take(&mut self.buffer));
        if self.parts.is_none() {
            let upload = Some(self.store.put_multipart(&self.path).await?);
            self.parts = Some(Parts { path: self.path.clone(), upload, travelling: JoinSet::new() });
        }
        match &mut self.parts {
            Some(parts) => parts.send(part).await,
            None => Ok(()),
        }
    }

    async fn end(&mut self) -> object_store::Result<()> {
        if self.parts.is_none() {
            let whole = PutPayload::from(std::mem::take(&mut self.buffer));
            return self.store.put(&self.path, whole).await.map(drop);
        }
        if !self.buffer.is_empty() {
            self.send().await?;
        }
        match &mut self.parts {
            Some(parts) => parts.complete().await,
            None => Ok(()),
        }
    }
}

impl AsyncFileWriter for Upload {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ParquetError>> {
        Box::pin(async move { self.take(&bytes).await.map_err(external) })
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<(), ParquetError>> {
        Box::pin(async move { self.end().await.map_err(external) })
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl Parts {
    async fn send(&mut self, part: PutPayload) -> object_store::Result<()> {
        self.arrive(PARTS_IN_FLIGHT - 1).await?;
        if let Some(upload) = &mut self.upload {
            self.travelling.spawn(upload.put_part(part));
        }
        Ok(())
    }

    /// Waits until at most so many parts are on their way.
    async fn arrive(&mut self, at_most: usize) -> object_store::Result<()> {
        while self.travelling.len() > at_most {
            if let Some(arrived) = self.travelling.join_next().await {
                let ended = |error| object_store::Error::Generic { store: "upload", source: Box::new(error) };
                arrived.map_err(ended)??;
            }
        }
        Ok(())
    }

    async fn complete(&mut self) -> object_store::Result<()> {
        self.arrive(0).await?;
        if let Some(upload) = &mut self.upload {
            upload.complete().await?;
        }
        self.upload = None;
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.travelling.abort_all();
        if let (Some(upload), Ok(runtime)) = (self.upload.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(cancel(self.path.clone(), Some(upload)));
        }
    }
}

async fn cancel(path: Path, upload: Option<Box<dyn MultipartUpload>>) {
    let Some(mut upload) = upload else { return };
    if let Err(error) = upload.abort().await {
        warn!(%path, %error, "upload not cancelled; its parts stay until the bucket's rule removes them");
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    async fn uploaded(sizes: &[usize]) -> Vec<u8> {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("part-0.parquet");
        let mut upload = Upload::new(store.clone(), path.clone());
        for (i, size) in sizes.iter().enumerate() {
            upload.write(Bytes::from(vec![i as u8; *size])).await.unwrap();
        }
        upload.complete().await.unwrap();
        store.get(&path).await.unwrap().bytes().await.unwrap().to_vec()
    }

    #[tokio::test]
    async fn a_file_is_what_was_written_in_one_put_or_in_parts() {
        let cases: [&[usize]; 5] =
            [&[], &[10, 20], &[PART_BYTES], &[5 << 20, 5 << 20, 30 << 20, 1], &[PART_BYTES - 1, 1, 7]];
        for sizes in cases {
            let expected: Vec<u8> = sizes.iter().enumerate().flat_map(|(i, size)| vec![i as u8; *size]).collect();
            assert!(uploaded(sizes).await == expected, "{sizes:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_given_up_is_not_there() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("part-0.parquet");
        for drops in [false, true] {
            let mut upload = Upload::new(store.clone(), path.clone());
            upload.write(Bytes::from(vec![0; 3 * PART_BYTES])).await.unwrap();
            if drops {
                drop(upload)
            } else {
                upload.cancel().await
            }
            assert!(matches!(store.head(&path).await, Err(object_store::Error::NotFound { .. })));
        }
    }
}
