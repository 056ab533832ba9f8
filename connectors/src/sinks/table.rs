//! Rows into a wide-column table. A put is idempotent: the same key, the same cells, the same timestamp.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit};
use redpoll_core::fault;
use redpoll_core::protocol::SinkReceipt;
use redpoll_core::sink::{Attempt, Error, OpenSink, Refused, Rows, SinkSpec};

use super::Taken;
use super::topic::{TIMESTAMP_COLUMN, payload};
use crate::widecolumn::{self, Location, Options, Rejected, Table};

/// The table of a sink, for rows of its `INSERT`. `store` is the address of the cluster's own store.
pub fn open_table(sink: &SinkSpec, schema: &Schema, store: Option<&str>) -> Result<Table, Error> {
    let failed = |error: widecolumn::Error| Error::new(&sink.name, error);
    let location = Location::parse(&sink.url).map_err(failed)?;
    let backend = widecolumn::connect(&location.address(store).map_err(failed)?).map_err(failed)?;
    let (schema, _) = payload(schema);
    Table::new(backend, &location.table, &options(sink)?, &schema).map_err(failed)
}

/// The options of the table itself: its row key and families.
pub(super) fn options(sink: &SinkSpec) -> Result<Options, Error> {
    let options = sink.options.iter().filter(|(name, _)| name.as_str() != "timestamp");
    let options = options.map(|(name, value)| (name.as_str(), value.as_str()));
    Options::new(&sink.name, options).map_err(|error| Error::new(&sink.name, error))
}

pub(super) struct TableSink {
    name: String,
    table: Table,
    columns: Vec<usize>,
    clock: i64,
    taken: Taken,
}

impl TableSink {
    pub fn open(attempt: &Attempt, sink: &OpenSink, store: Option<&str>) -> Result<Self, Error> {
        let table = open_table(&sink.spec, &sink.schema, store)?;
        let (_, columns) = payload(&sink.schema);
        let (name, taken) = (sink.spec.name.clone(), Taken::default());
        Ok(Self { name, table, columns, clock: attempt.clock, taken })
    }

    pub async fn write(&mut self, rows: &Rows) -> Result<Vec<Refused>, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::new(&self.name, error.to_string());
        let batch = rows.batch.project(&self.columns).map_err(|error| failed(&error))?;
        let timestamps = self.timestamps(rows).map_err(|error| failed(&error))?;
        fault::at("before-store-put");
        let written = self.table.put(&batch, &timestamps).await.map_err(|error| failed(&error))?;
        fault::at("after-store-put");
        let refused = |rejected: Rejected| Refused { row: rejected.row, reason: rejected.reason.to_string() };
        let refused: Vec<Refused> = written.rejected.into_iter().map(refused).collect();
        self.taken.add(rows, &refused);
        Ok(refused)
    }

    /// Of each row, milliseconds since 1970-01-01 UTC: the time that the table's option names, else the intent's clock.
    fn timestamps(&self, rows: &Rows) -> Result<Vec<i64>, arrow::error::ArrowError> {
        let Some(column) = rows.batch.column_by_name(TIMESTAMP_COLUMN) else {
            return Ok(vec![self.clock; rows.batch.num_rows()]);
        };
        let millis = cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
        let millis = cast(&millis, &DataType::Int64)?;
        let millis = millis.as_primitive::<Int64Type>();
        Ok((0..millis.len()).map(|row| if millis.is_valid(row) { millis.value(row) } else { self.clock }).collect())
    }

    pub fn finish(self) -> SinkReceipt {
        self.taken.receipt()
    }
}
