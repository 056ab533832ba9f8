//! Rows of an archive table: its columns say where each was read.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::error::ArrowError;
use futures::StreamExt;
use redpoll_core::ids::Epoch;
use redpoll_core::sink::{Error, SinkSpec};

use super::{Asked, Contents, Found, FoundAt};
use crate::delta;
use crate::sinks::Author;
use crate::sinks::marks::id_marks;

const ORIGIN: [&str; 4] = ["_topic", "_partition", "_offset", "_epoch"];

pub(super) async fn open(sink: &SinkSpec, asked: Asked<'_>) -> Result<Contents, Error> {
    let name = sink.name.clone();
    let failed = move |error: &dyn std::fmt::Display| Error::new(&name, error.to_string());
    let url = delta::location(&sink.url).map_err(|error| failed(&error))?;
    let columns: Vec<&str> = ORIGIN.into_iter().chain(asked.id).collect();
    let uid = asked.job_uid.to_owned();
    let ours = move |file: &str| Author::by_name(file).is_some_and(|author| author.job_uid == uid);
    let ours = delta::rows(&url, &columns, ours).await.map_err(|error| failed(&error))?;
    if let Some(missing) = ORIGIN.iter().find(|column| ours.schema().index_of(column).is_err()) {
        return Err(failed(&format!("the table has no column {missing} any more")));
    }
    // Whoever compacts a table or deletes from it writes files without an author, with rows of anybody.
    let foreign = delta::rows(&url, &columns, |file| Author::by_name(file).is_none()).await;
    let foreign = foreign.map_err(|error| failed(&error))?;
    let id = asked.id.map(str::to_owned);
    let batches = ours.map(|batch| (batch, true)).chain(foreign.map(|batch| (batch, false)));
    let rows = batches.map(move |(batch, ours)| {
        let batch = batch.map_err(|error| failed(&error))?;
        found(&batch, id.as_deref(), ours).map_err(|error| failed(&error))
    });
    Ok(Contents { rows: rows.boxed(), shortened: Vec::new() })
}

fn found(batch: &RecordBatch, id: Option<&str>, ours: bool) -> Result<Vec<Found>, ArrowError> {
    let column = |name: &str, data_type| {
        let column = batch.column_by_name(name);
        cast(column.ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))?, &data_type)
    };
    let topics: ArrayRef = column("_topic", DataType::Utf8)?;
    let (partitions, offsets) = (column("_partition", DataType::Int32)?, column("_offset", DataType::Int64)?);
    let epochs = column("_epoch", DataType::Int64)?;
    let topics = topics.as_string::<i32>();
    let (partitions, offsets) = (partitions.as_primitive::<Int32Type>(), offsets.as_primitive::<Int64Type>());
    let epochs = epochs.as_primitive::<Int64Type>();
    let marks = id.and_then(|id| batch.column_by_name(id)).map(id_marks).transpose()?;
    let row = |i: usize| Found {
        epoch: epochs.is_valid(i).then(|| epochs.value(i)).and_then(|epoch| u64::try_from(epoch).ok()).map(Epoch),
        origin: (topics.is_valid(i) && partitions.is_valid(i) && offsets.is_valid(i)).then(|| FoundAt {
            topic: topics.value(i).to_owned(),
            partition: partitions.value(i),
            offset: offsets.value(i),
            row: None,
        }),
        mark: marks.as_ref().and_then(|marks| marks[i].clone()),
        ours,
        ..Found::default()
    };
    Ok((0..batch.num_rows()).map(row).collect())
}
