//! The rows of a result, held back until it is certain that no executor was lost under them.
//!
//! They are kept as one Arrow IPC stream: in memory up to a bound, beyond it in a file without a name, which is gone
//! with its reader or with this process. A result above the second bound is refused: whoever wants that much reads
//! the archive.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use futures::stream::{self, BoxStream, StreamExt};

use super::Ended;

/// Bytes of a piece in which a result is read back.
const PIECE: usize = 256 << 10;

/// How large a result may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Kept in memory; what goes beyond is written to disk.
    pub memory_bytes: usize,
    /// A result above this ends its query with an error.
    pub max_bytes: u64,
    /// Where large results wait.
    pub folder: PathBuf,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 16 << 20, max_bytes: 8 << 30, folder: std::env::temp_dir() }
    }
}

/// A result in the making.
pub(super) struct Spool {
    limits: Limits,
    /// Made with the first batch: what expressions promise and what they return may differ in nullability.
    writer: Option<StreamWriter<Sheet>>,
    n_rows: u64,
}

impl Spool {
    pub fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), writer: None, n_rows: 0 }
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), Ended> {
        self.n_rows += batch.num_rows() as u64;
        let writer = self.writer(batch.schema())?;
        let written = writer.write(batch);
        written.map_err(|error| self.failed(&error))
    }

    /// The result; of `schema` if no batch came.
    pub fn finish(mut self, schema: SchemaRef) -> Result<Rows, Ended> {
        let writer = self.writer(schema)?;
        let finished = writer.finish();
        finished.map_err(|error| self.failed(&error))?;
        let n_rows = self.n_rows;
        let writer = self.writer.take().expect("made above");
        let sheet = writer.into_inner().map_err(|error| self.failed(&error))?;
        let place = sheet.place.rewound().map_err(|error| self.failed(&error.into()))?;
        Ok(Rows { place, n_rows, bytes: sheet.bytes })
    }

    fn writer(&mut self, schema: SchemaRef) -> Result<&mut StreamWriter<Sheet>, Ended> {
        if self.writer.is_none() {
            let sheet = Sheet { limits: self.limits.clone(), place: Place::Memory(Vec::new()), bytes: 0 };
            let writer = StreamWriter::try_new(sheet, &schema).map_err(|error| self.failed(&error))?;
            self.writer = Some(writer);
        }
        Ok(self.writer.as_mut().expect("made above"))
    }

    fn failed(&self, error: &ArrowError) -> Ended {
        let folder = self.limits.folder.display();
        match error {
            ArrowError::IoError(_, source) if source.kind() == io::ErrorKind::FileTooLarge => {
                Ended::TooLarge { limit: self.limits.max_bytes }
            }
            error => Ended::Failed(format!("the result could not be kept in {folder}: {error}")),
        }
    }
}

/// Where the bytes go.
struct Sheet {
    limits: Limits,
    place: Place,
    bytes: u64,
}

enum Place {
    Memory(Vec<u8>),
    Disk(File),
}

impl Place {
    fn rewound(self) -> io::Result<Self> {
        match self {
            Self::Disk(mut file) => {
                file.rewind()?;
                Ok(Self::Disk(file))
            }
            memory => Ok(memory),
        }
    }
}

impl Write for Sheet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes + bytes.len() as u64 > self.limits.max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if let Place::Memory(kept) = &mut self.place
            && kept.len() + bytes.len() > self.limits.memory_bytes
        {
            let mut file = tempfile::tempfile_in(&self.limits.folder)?;
            file.write_all(kept)?;
            self.place = Place::Disk(file);
        }
        match &mut self.place {
            Place::Memory(kept) => kept.extend_from_slice(bytes),
            Place::Disk(file) => file.write_all(bytes)?,
        }
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A result: complete, and of a run that lost no executor.
pub struct Rows {
    place: Place,
    n_rows: u64,
    bytes: u64,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("n_rows", &self.n_rows).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Rows {
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Of the IPC stream.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn is_on_disk(&self) -> bool {
        matches!(self.place, Place::Disk(_))
    }

    /// The Arrow IPC stream in pieces.
    pub fn into_stream(self) -> BoxStream<'static, io::Result<Bytes>> {
        match self.place {
            Place::Memory(bytes) => stream::iter([Ok(Bytes::from(bytes))]).boxed(),
            Place::Disk(file) => stream::try_unfold(file, |file| async move {
                let read = tokio::task::spawn_blocking(move || piece(file)).await;
                read.map_err(io::Error::other)?
            })
            .boxed(),
        }
    }

    /// One after the other.
    pub fn into_batches(self) -> Result<Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>, ArrowError> {
        Ok(match self.place {
            Place::Memory(bytes) => Box::new(StreamReader::try_new(io::Cursor::new(bytes), None)?),
            Place::Disk(file) => Box::new(StreamReader::try_new_buffered(file, None)?),
        })
    }

    /// All at once, for results that are known to be small.
    pub fn batches(self) -> Result<Vec<RecordBatch>, ArrowError> {
        self.into_batches()?.collect()
    }
}

fn piece(mut file: File) -> io::Result<Option<(Bytes, File)>> {
    let mut piece = Vec::with_capacity(PIECE);
    Read::by_ref(&mut file).take(PIECE as u64).read_to_end(&mut piece)?;
    Ok((!piece.is_empty()).then(|| (piece.into(), file)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::Int64Array;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use futures::TryStreamExt;

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
    }

    fn batch(n: i64) -> RecordBatch {
        RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(0..n))]).unwrap()
    }

    fn spool(memory_bytes: usize, max_bytes: u64) -> Spool {
        Spool::new(&Limits { memory_bytes, max_bytes, ..Limits::default() })
    }

    #[tokio::test]
    async fn a_result_comes_back_whole_from_memory_and_from_disk() {
        for (memory_bytes, on_disk) in [(1 << 20, false), (10_000, true)] {
            let mut spool = spool(memory_bytes, 1 << 30);
            for _ in 0..100 {
                spool.write(&batch(1000)).unwrap();
            }
            let rows = spool.finish(schema()).unwrap();
            assert_eq!((rows.n_rows(), rows.is_on_disk()), (100_000, on_disk));
            let pieces: Vec<Bytes> = rows.into_stream().try_collect().await.unwrap();
            let bytes = pieces.concat();
            let read: Vec<_> = StreamReader::try_new(bytes.as_slice(), None).unwrap().map(Result::unwrap).collect();
            assert_eq!(read, vec![batch(1000); 100]);
        }
    }

    #[test]
    fn a_result_above_the_limit_is_refused() {
        let mut spool = spool(1_000, 10_000);
        spool.write(&batch(1000)).unwrap();
        assert_eq!(spool.write(&batch(1000)), Err(Ended::TooLarge { limit: 10_000 }));
    }

    #[test]
    fn a_result_without_rows_has_its_schema() {
        let rows = spool(1_000, 10_000).finish(schema()).unwrap();
        assert!(rows.batches().unwrap().is_empty());
    }
}
