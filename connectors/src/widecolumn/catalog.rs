//! What a table's bytes mean, kept in the store beside them, in the table `_catalog`.
//!
//! A row of `_catalog` is one table: its key is the table's name, its cells are the row-key template and one cell per
//! column. A pipeline that adds columns adds cells; it cannot change what is written already.

use std::collections::HashMap;
use std::fmt;

use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use super::error::nearest;
use super::{Backend, Batch, Cell, Column, Error, KeyRange, ROW_KEY, Row, RowKey, Scan};

/// The reserved table.
pub const CATALOG: &str = "_catalog";
const FAMILY: &str = "c";
const KEY: &str = "row_key";

/// The meaning of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    pub row_key: RowKey,
    pub columns: Vec<CatalogColumn>,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogColumn {
    /// Its name for readers, and the cell's qualifier.
    pub name: String,
    /// Where the value came from: `candidate.jd`.
    pub path: String,
    pub family: String,
    /// A [stored type](super::value::stored_type).
    #[serde(with = "type_text")]
    pub data_type: DataType,
}

impl CatalogColumn {
    pub(crate) fn column(&self) -> Column {
        Column { family: self.family.clone(), qualifier: self.name.clone() }
    }
}

#[derive(Serialize, Deserialize)]
struct Entry {
    position: usize,
    #[serde(flatten)]
    column: CatalogColumn,
}

impl Catalog {
    /// The catalog's row of a table; `None` if it was never made.
    pub async fn read(backend: &dyn Backend, table: &str) -> Result<Option<Catalog>, Error> {
        let scan = Scan { range: KeyRange::one(table.as_bytes()), ..Scan::default() };
        let batches: Vec<Batch> = match backend.scan(CATALOG, scan).try_collect().await {
            Err(Error::MissingTable { .. }) => return Ok(None),
            batches => batches?,
        };
        let Some((batch, row)) = batches.iter().find_map(|batch| Some((batch, batch.rows.first()?))) else {
            return Ok(None);
        };
        Catalog::decode(table, batch, row).map(Some)
    }

    /// As [`Catalog::read`], but a table that was never made is an error with the nearest name.
    pub async fn of(backend: &dyn Backend, table: &str) -> Result<Catalog, Error> {
        match Catalog::read(backend, table).await? {
            Some(catalog) => Ok(catalog),
            None => {
                let tables = backend.tables().await?;
                let names = tables.iter().map(String::as_str).filter(|name| *name != CATALOG);
                Err(Error::MissingTable { table: table.into(), remedy: nearest(table, names) })
            }
        }
    }

    /// Adds this table's columns to the catalog, and returns all it then has. A column that is there with another
    /// type, family or source is a conflict, and so is another row key.
    pub async fn write(&self, backend: &dyn Backend, table: &str) -> Result<Catalog, Error> {
        backend.create(CATALOG, &[FAMILY.into()]).await?;
        let known = Catalog::read(backend, table).await?;
        let merged = known.as_ref().map_or(Ok(self.clone()), |known| known.with(self, table))?;
        if known.as_ref() != Some(&merged) {
            backend.put(CATALOG, merged.encode(table)?).await?;
        }
        Ok(merged)
    }

    /// The schema of readers: the row key, then the columns.
    pub fn schema(&self) -> Schema {
        let key = Field::new(ROW_KEY, DataType::Utf8, false);
        let columns = self.columns.iter().map(|column| Field::new(&column.name, column.data_type.clone(), true));
        Schema::new(std::iter::once(key).chain(columns).collect::<Vec<_>>())
    }

    /// Everything in which `other` contradicts this meaning of the table.
    pub fn conflicts(&self, other: &Catalog, table: &str) -> Vec<Error> {
        let conflict = |reason| Error::Conflict { table: table.into(), reason };
        let mut found = Vec::new();
        if self.row_key != other.row_key {
            found.push(conflict(format!("its row key is '{}', not '{}'", self.row_key, other.row_key)));
        }
        let known = self.by_name();
        let changed = other.columns.iter().filter_map(|column| {
            let known = known.get(column.name.as_str()).filter(|known| **known != column)?;
            Some(conflict(format!("its column is {known}, not {column}")))
        });
        found.extend(changed);
        found
    }

    /// What both say; [`Catalog::conflicts`] tells all that is against it.
    pub fn with(&self, other: &Catalog, table: &str) -> Result<Catalog, Error> {
        if let Some(conflict) = self.conflicts(other, table).into_iter().next() {
            return Err(conflict);
        }
        let known = self.by_name();
        let mut merged = self.clone();
        merged.columns.extend(other.columns.iter().filter(|column| !known.contains_key(column.name.as_str())).cloned());
        Ok(merged)
    }

    fn by_name(&self) -> HashMap<&str, &CatalogColumn> {
        self.columns.iter().map(|column| (column.name.as_str(), column)).collect()
    }

    fn encode(&self, table: &str) -> Result<Batch, Error> {
        let column = |qualifier: String| Column { family: FAMILY.into(), qualifier };
        let mut batch = Batch { columns: vec![column(KEY.into())], rows: Vec::new() };
        let mut values = vec![Bytes::from(self.row_key.to_string())];
        for (position, catalog_column) in self.columns.iter().enumerate() {
            batch.columns.push(column(format!("column:{}", catalog_column.name)));
            let entry = Entry { position, column: catalog_column.clone() };
            values.push(serde_json::to_vec(&entry).map_err(|error| Error::Arrow(error.to_string()))?.into());
        }
        let cells = values.into_iter().zip(0..).map(|(value, column)| Cell { column, timestamp: 0, value });
        batch.rows.push(Row { key: Bytes::copy_from_slice(table.as_bytes()), cells: cells.collect() });
        Ok(batch)
    }

    fn decode(table: &str, batch: &Batch, row: &Row) -> Result<Catalog, Error> {
        let malformed = |column: &str, reason: String| Error::Value {
            table: CATALOG.into(),
            key: table.into(),
            column: column.into(),
            reason,
        };
        let mut row_key = None;
        let mut entries: Vec<Entry> = Vec::new();
        for cell in &row.cells {
            let qualifier = batch.columns.get(cell.column as usize).map_or("", |column| &column.qualifier);
            match qualifier {
                KEY => row_key = Some(RowKey::parse(&String::from_utf8_lossy(&cell.value))?),
                _ => entries.push(
                    serde_json::from_slice(&cell.value).map_err(|error| malformed(qualifier, error.to_string()))?,
                ),
            }
        }
        entries.sort_by(|a, b| (a.position, &a.column.name).cmp(&(b.position, &b.column.name)));
        let row_key = row_key.ok_or_else(|| malformed(KEY, "is missing".into()))?;
        Ok(Catalog { row_key, columns: entries.into_iter().map(|entry| entry.column).collect() })
    }
}

impl fmt::Display for CatalogColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {} from '{}'", self.family, self.name, self.data_type, self.path)
    }
}

mod type_text {
    use arrow::datatypes::DataType;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub fn serialize<S: Serializer>(data_type: &DataType, serializer: S) -> Result<S::Ok, S::Error> {
        data_type.to_string().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DataType, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    fn catalog(columns: &[(&str, DataType)]) -> Catalog {
        let columns = columns.iter().map(|(name, data_type)| CatalogColumn {
            name: name.to_string(),
            path: name.to_string(),
            family: "i".into(),
            data_type: data_type.clone(),
        });
        Catalog { row_key: RowKey::parse("{a}").unwrap(), columns: columns.collect() }
    }

    #[test]
    fn every_stored_type_survives_the_catalog() {
        let times = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
        let times = times
            .into_iter()
            .flat_map(|unit| [DataType::Timestamp(unit, None), DataType::Timestamp(unit, Some("UTC".into()))]);
        let mut types: Vec<_> = times.collect();
        types.extend([DataType::Boolean, DataType::Date32, DataType::Float32, DataType::Utf8, DataType::Binary]);
        types.extend([DataType::Int8, DataType::Int64, DataType::UInt8, DataType::UInt64]);
        let names: Vec<_> = (0..types.len()).map(|i| format!("c{i}")).collect();
        let columns: Vec<_> = names.iter().map(String::as_str).zip(types).collect();
        let batch = catalog(&columns).encode("ztf").unwrap();
        assert_eq!(Catalog::decode("ztf", &batch, &batch.rows[0]).unwrap(), catalog(&columns));
    }

    #[test]
    fn a_pipeline_adds_columns_and_changes_none() {
        let known = catalog(&[("a", DataType::Int32), ("b", DataType::Utf8)]);
        let merged = known.with(&catalog(&[("c", DataType::Utf8), ("a", DataType::Int32)]), "ztf").unwrap();
        assert_eq!(merged.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let error = known.with(&catalog(&[("a", DataType::Int64)]), "ztf").unwrap_err().to_string();
        let expected = "table 'ztf': its column is i:a Int32 from 'a', not i:a Int64 from 'a'; \
                        insert into a table of another name";
        assert_eq!(error, expected);
    }
}
