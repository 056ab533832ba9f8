//! Statistics of a data file, as readers of the table use them to skip it.
//!
//! A bound that is too tight is a wrong answer somewhere else, so whatever cannot be bounded surely is left out:
//! lists and maps, bytes, decimals (JSON numbers round them), booleans, floats with NaN (DataFusion sorts NaN above
//! all numbers, Parquet leaves it out of its bounds) or infinity (JSON has none). Bounds are merged from the file's
//! own footer, whose strings are cut to 32 bytes, down for the least and up for the greatest.

use std::cmp::Ordering;
use std::collections::HashSet;

use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Fields, Float32Type, Float64Type};
use chrono::{DateTime, SecondsFormat, TimeDelta};
use parquet::basic::LogicalType;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;
use serde_json::{Map, Number, Value, json};

/// Leaf columns that have statistics, from the first on: Delta's default.
pub(super) const INDEXED_COLUMNS: usize = 32;
/// Bytes of a string bound.
pub(super) const TRUNCATE_BYTES: usize = 32;

/// Dotted paths of float columns that hold a NaN.
pub(super) type NanColumns = HashSet<String>;

/// The `stats` of an add action: JSON with `numRecords`, `minValues`, `maxValues` and `nullCount`.
pub(super) fn file_stats(footer: &ParquetMetaData, nan: &NanColumns) -> String {
    let (mut min, mut max, mut nulls) = (Map::new(), Map::new(), Map::new());
    let columns = footer.file_metadata().schema_descr().columns();
    for (index, column) in columns.iter().enumerate().take(INDEXED_COLUMNS) {
        if column.max_rep_level() > 0 {
            continue;
        }
        let path = column.path().parts();
        if let Some(count) = null_count(footer.row_groups(), index) {
            insert(&mut nulls, path, json!(count));
        }
        if nan.contains(&path.join(".")) {
            continue;
        }
        if let Some((least, greatest)) = bounds(footer.row_groups(), index)
            && let (Some(least), Some(greatest)) = (least.json(column, Side::Min), greatest.json(column, Side::Max))
        {
            insert(&mut min, path, least);
            insert(&mut max, path, greatest);
        }
    }
    let n_records = footer.file_metadata().num_rows();
    json!({"numRecords": n_records, "minValues": min, "maxValues": max, "nullCount": nulls}).to_string()
}

/// Adds the paths of `batch`'s float columns that hold a NaN.
pub(super) fn mark_nan(batch: &RecordBatch, nan: &mut NanColumns) {
    mark_fields("", batch.schema_ref().fields(), batch.columns(), nan);
}

fn mark_fields(parent: &str, fields: &Fields, columns: &[arrow::array::ArrayRef], nan: &mut NanColumns) {
    for (field, array) in fields.iter().zip(columns) {
        let path = match parent {
            "" => field.name().clone(),
            parent => format!("{parent}.{}", field.name()),
        };
        let has_nan = match array.data_type() {
            DataType::Float32 => array.as_primitive::<Float32Type>().values().iter().any(|x| x.is_nan()),
            DataType::Float64 => array.as_primitive::<Float64Type>().values().iter().any(|x| x.is_nan()),
            DataType::Struct(_) => {
                let array: &StructArray = array.as_struct();
                mark_fields(&path, array.fields(), array.columns(), nan);
                false
            }
            _ => false,
        };
        if has_nan {
            nan.insert(path);
        }
    }
}

fn null_count(groups: &[RowGroupMetaData], index: usize) -> Option<u64> {
    groups.iter().map(|group| group.column(index).statistics()?.null_count_opt()).sum()
}

/// A bound of one column in one row group.
#[derive(Debug, Clone, PartialEq)]
enum Bound {
    Int(i64),
    Float(f64),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Min,
    Max,
}

/// The least and the greatest value over all row groups, unless one of them has values and no bounds.
fn bounds(groups: &[RowGroupMetaData], index: usize) -> Option<(Bound, Bound)> {
    let mut all: Option<(Bound, Bound)> = None;
    for group in groups {
        let statistics = group.column(index).statistics()?;
        if statistics.null_count_opt() == Some(u64::try_from(group.num_rows()).ok()?) {
            continue;
        }
        let (min, max) = group_bounds(statistics)?;
        all = Some(match all {
            None => (min, max),
            Some((least, greatest)) => {
                (if min.less(&least) { min } else { least }, if greatest.less(&max) { max } else { greatest })
            }
        });
    }
    all
}

fn group_bounds(statistics: &Statistics) -> Option<(Bound, Bound)> {
    Some(match statistics {
        Statistics::Int32(v) => (Bound::Int((*v.min_opt()?).into()), Bound::Int((*v.max_opt()?).into())),
        Statistics::Int64(v) => (Bound::Int(*v.min_opt()?), Bound::Int(*v.max_opt()?)),
        Statistics::Float(v) => (Bound::Float((*v.min_opt()?).into()), Bound::Float((*v.max_opt()?).into())),
        Statistics::Double(v) => (Bound::Float(*v.min_opt()?), Bound::Float(*v.max_opt()?)),
        Statistics::ByteArray(v) => (Bound::Bytes(v.min_bytes_opt()?.into()), Bound::Bytes(v.max_bytes_opt()?.into())),
        _ => return None,
    })
}

impl Bound {
    fn less(&self, other: &Bound) -> bool {
        let order = match (self, other) {
            (Bound::Int(a), Bound::Int(b)) => a.cmp(b),
            (Bound::Float(a), Bound::Float(b)) => a.total_cmp(b),
            (Bound::Bytes(a), Bound::Bytes(b)) => a.cmp(b),
            _ => Ordering::Equal,
        };
        order == Ordering::Less
    }

    /// The bound as the protocol writes it for the column's type; `None` for types that get no bounds.
    fn json(&self, column: &ColumnDescriptor, side: Side) -> Option<Value> {
        match (self, column.logical_type_ref()) {
            (Bound::Int(days), Some(LogicalType::Date)) => {
                let day = DateTime::UNIX_EPOCH.date_naive().checked_add_signed(TimeDelta::try_days(*days)?)?;
                Some(day.format("%Y-%m-%d").to_string().into())
            }
            (Bound::Int(micros), Some(LogicalType::Timestamp(_))) => timestamp(*micros, side),
            (Bound::Int(_), Some(LogicalType::Decimal(_))) => None,
            (Bound::Int(value), _) => Some(json!(value)),
            (Bound::Float(value), None) => Number::from_f64(*value).map(Value::Number),
            (Bound::Bytes(text), Some(LogicalType::String)) => Some(std::str::from_utf8(text).ok()?.into()),
            _ => None,
        }
    }
}

/// The protocol keeps milliseconds, so the greatest of a column is rounded up.
fn timestamp(micros: i64, side: Side) -> Option<Value> {
    let millis = match side {
        Side::Min => micros.div_euclid(1000),
        Side::Max => micros.checked_add(999)?.div_euclid(1000),
    };
    Some(DateTime::from_timestamp_millis(millis)?.to_rfc3339_opts(SecondsFormat::Millis, true).into())
}

/// Puts `value` at a nested `path`, making the objects on the way.
fn insert(object: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            object.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let inner = object.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}
