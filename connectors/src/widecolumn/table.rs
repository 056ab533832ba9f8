//! A table as a pipeline writes it: record batches in, rows of cells out.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use super::error::nearest;
use super::location::check_table;
use super::{Backend, Batch, CATALOG, Catalog, Cell, Error, Families, NoKey, ROW_KEY, Row, RowKey, columns, value};

/// The options of `CREATE EXTERNAL TABLE … STORED AS STORE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// `'row_key' '{objectId}_{candidate.jd}'`: required.
    pub row_key: RowKey,
    /// `'families' 'i:objectId,candidate.*;d:*'`; by default `i:*`.
    pub families: Families,
}

impl Options {
    /// Reads the options of a table; an unknown one is refused.
    pub fn new<'a>(table: &str, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Options, Error> {
        let (mut row_key, mut families) = (None, Families::default());
        for (option, value) in pairs {
            match option {
                "row_key" => row_key = Some(RowKey::parse(value)?),
                "families" => families = Families::parse(value)?,
                _ => {
                    let reason = format!("is unknown; {}", nearest(option, ["row_key", "families"]));
                    return Err(Error::Option { option: option.into(), table: table.into(), reason });
                }
            }
        }
        let row_key = row_key.ok_or_else(|| Error::Option {
            option: "row_key".into(),
            table: table.into(),
            reason: "is missing; write 'row_key' '{COLUMN}_{COLUMN}'".into(),
        })?;
        Ok(Options { row_key, families })
    }
}

/// A table that rows of one schema are put into. Cheap to clone.
#[derive(Clone)]
pub struct Table {
    backend: Arc<dyn Backend>,
    name: Arc<str>,
    families: Arc<[String]>,
    catalog: Arc<Catalog>,
}

/// A row that was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its index in the batch.
    pub row: usize,
    pub reason: NoKey,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Rows put. Rows of one key count each, and become one row of the table.
    pub rows: u64,
    pub rejected: Vec<Rejected>,
}

impl Table {
    /// Checks the options against the schema of what will be inserted. Nothing is sent.
    pub fn new(backend: Arc<dyn Backend>, name: &str, options: &Options, schema: &Schema) -> Result<Table, Error> {
        check_table(name)?;
        let columns = options.families.columns(schema)?;
        let refused = |reason: String| Err(Error::Refused { table: name.into(), reason });
        match columns.iter().find(|column| column.name == ROW_KEY) {
            _ if name == CATALOG => return refused("holds the types of all tables; choose another name".into()),
            Some(column) => return refused(format!("'{}' is the row key's own name; rename the column", column.name)),
            None => options.row_key.check(schema)?,
        }
        let catalog = Catalog { row_key: options.row_key.clone(), columns };
        let families = options.families.names();
        Ok(Table { backend, name: name.into(), families: families.into(), catalog: Arc::new(catalog) })
    }

    /// What rows of this schema mean in the table.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What the table's rows mean by now, if it was ever made. Changes nothing.
    pub async fn known(&self) -> Result<Option<Catalog>, Error> {
        Catalog::read(self.backend.as_ref(), &self.name).await
    }

    /// Makes the table in the store and tells the catalog its columns. Once, before any row is put; repeating it
    /// changes nothing.
    pub async fn create(&self) -> Result<(), Error> {
        self.catalog.write(self.backend.as_ref(), &self.name).await?;
        self.backend.create(&self.name, &self.families).await
    }

    /// Writes rows, durably once this returns; `timestamps` has one per row, in milliseconds since 1970-01-01 UTC.
    pub async fn put(&self, batch: &RecordBatch, timestamps: &[i64]) -> Result<Written, Error> {
        let (rows, rejected) = self.rows(batch, timestamps)?;
        let written = Written { rows: rows.rows.len() as u64, rejected };
        if written.rows > 0 {
            self.backend.put(&self.name, rows).await?;
        }
        Ok(written)
    }

    /// The rows that [`Table::put`] sends. A null is no cell.
    pub fn rows(&self, batch: &RecordBatch, timestamps: &[i64]) -> Result<(Batch, Vec<Rejected>), Error> {
        if timestamps.len() != batch.num_rows() {
            let reason = format!("{} timestamps stand for {} rows", timestamps.len(), batch.num_rows());
            return Err(Error::Refused { table: self.name.to_string(), reason });
        }
        let place = format!("table '{}'", self.name);
        let mut values = Vec::with_capacity(self.catalog.columns.len());
        for column in &self.catalog.columns {
            values.push(value::encode(&columns::array(batch, &column.path, &place)?)?);
        }
        let (mut rows, mut rejected) = (Vec::with_capacity(batch.num_rows()), Vec::new());
        for (row, (key, timestamp)) in self.catalog.row_key.render(batch)?.into_iter().zip(timestamps).enumerate() {
            match key {
                Err(reason) => rejected.push(Rejected { row, reason }),
                Ok(key) => {
                    let cells = values.iter().zip(0..).filter_map(|(values, column)| {
                        values.get(row).map(|value| Cell { column, timestamp: *timestamp, value })
                    });
                    rows.push(Row { key, cells: cells.collect() });
                }
            }
        }
        let columns = self.catalog.columns.iter().map(|column| column.column()).collect();
        Ok((Batch { columns, rows }, rejected))
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("name", &self.name).field("catalog", &self.catalog).finish_non_exhaustive()
    }
}
