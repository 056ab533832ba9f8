//! Arrow columns under construction, in which the rows of a record that fails can be taken back.
//!
//! Every length follows from the number of rows (a list's items end where its last row ends), so taking back is
//! cutting each column to the rows that were whole: no marks are kept and nothing is paid for while all goes well.

use std::mem;
use std::sync::Arc;

use arrow::array::{ArrayData, ArrayRef, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, ListArray};
use arrow::array::{MapArray, NullArray, StringArray, StructArray, make_array, make_view};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;

use super::cursor::{Cursor, Read, Reason};

#[derive(Debug)]
pub(super) struct Column {
    data_type: DataType,
    /// One per row, also where the type has no nulls to show.
    valid: Vec<bool>,
    pub values: Values,
    /// Columns without children in and below this one: what a row costs.
    pub width: usize,
}

#[derive(Debug)]
pub(super) enum Values {
    Null,
    Bool(Vec<bool>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Utf8 { ends: Vec<i32>, data: Vec<u8> },
    View(Views),
    Fixed { size: usize, data: Vec<u8> },
    Struct(Vec<Column>),
    List { ends: Vec<i32>, items: Box<Column> },
    Map { ends: Vec<i32>, keys: Box<Column>, values: Box<Column> },
}

/// References into the fetched bytes.
#[derive(Debug, Default)]
pub(super) struct Views {
    views: Vec<u128>,
    buffers: Vec<Buffer>,
}

impl Column {
    pub fn new(data_type: &DataType) -> Result<Column, ArrowError> {
        let child = |field: &Field| Column::new(field.data_type()).map(Box::new);
        let values = match data_type {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bool(Vec::new()),
            DataType::Int32 | DataType::Date32 | DataType::Time32(_) => Values::I32(Vec::new()),
            DataType::Int64 | DataType::Timestamp(..) | DataType::Time64(_) => Values::I64(Vec::new()),
            DataType::Float32 => Values::F32(Vec::new()),
            DataType::Float64 => Values::F64(Vec::new()),
            DataType::Utf8 => Values::Utf8 { ends: Vec::new(), data: Vec::new() },
            DataType::BinaryView => Values::View(Views::default()),
            DataType::FixedSizeBinary(size) => Values::Fixed { size: *size as usize, data: Vec::new() },
            DataType::Struct(fields) => {
                Values::Struct(fields.iter().map(|field| Column::new(field.data_type())).collect::<Result<_, _>>()?)
            }
            DataType::List(item) => Values::List { ends: Vec::new(), items: child(item)? },
            DataType::Map(entries, _) => {
                let (key, value) = key_and_value(entries)?;
                Values::Map { ends: Vec::new(), keys: child(key)?, values: child(value)? }
            }
            other => return Err(ArrowError::SchemaError(format!("Avro is not read as {other}"))),
        };
        let width = match &values {
            Values::Struct(fields) => fields.iter().map(|field| field.width).sum::<usize>().max(1),
            _ => 1,
        };
        Ok(Column { data_type: data_type.clone(), valid: Vec::new(), values, width })
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.valid.len()
    }

    #[inline]
    pub fn push_valid(&mut self) {
        self.valid.push(true);
    }

    pub fn push_null(&mut self) {
        self.valid.push(false);
        match &mut self.values {
            Values::Null => {}
            Values::Bool(values) => values.push(false),
            Values::I32(values) => values.push(0),
            Values::I64(values) => values.push(0),
            Values::F32(values) => values.push(0.0),
            Values::F64(values) => values.push(0.0),
            Values::Utf8 { ends, .. } | Values::List { ends, .. } | Values::Map { ends, .. } => {
                ends.push(ends.last().copied().unwrap_or(0));
            }
            Values::View(views) => views.views.push(0),
            Values::Fixed { size, data } => data.resize(data.len() + *size, 0),
            Values::Struct(fields) => fields.iter_mut().for_each(Column::push_null),
        }
    }

    /// Takes back all rows from `rows` on, whole or half written.
    pub fn truncate(&mut self, rows: usize) {
        self.valid.truncate(rows);
        match &mut self.values {
            Values::Null => {}
            Values::Bool(values) => values.truncate(rows),
            Values::I32(values) => values.truncate(rows),
            Values::I64(values) => values.truncate(rows),
            Values::F32(values) => values.truncate(rows),
            Values::F64(values) => values.truncate(rows),
            Values::Utf8 { ends, data } => data.truncate(cut(ends, rows)),
            Values::View(views) => views.views.truncate(rows),
            Values::Fixed { size, data } => data.truncate(rows * *size),
            Values::Struct(fields) => fields.iter_mut().for_each(|field| field.truncate(rows)),
            Values::List { ends, items } => items.truncate(cut(ends, rows)),
            Values::Map { ends, keys, values } => {
                let entries = cut(ends, rows);
                keys.truncate(entries);
                values.truncate(entries);
            }
        }
    }

    /// The rows so far as an array. The column is empty afterwards and keeps its capacity.
    pub fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let len = self.valid.len();
        let valid = take(&mut self.valid);
        let nulls = match valid.contains(&false) {
            true => Some(NullBuffer::new(BooleanBuffer::from(valid))),
            false => None,
        };
        Ok(match &mut self.values {
            Values::Null => Arc::new(NullArray::new(len)),
            Values::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(take(values)), nulls)),
            Values::I32(values) => primitive(&self.data_type, len, Buffer::from_vec(take(values)), nulls)?,
            Values::I64(values) => primitive(&self.data_type, len, Buffer::from_vec(take(values)), nulls)?,
            Values::F32(values) => primitive(&self.data_type, len, Buffer::from_vec(take(values)), nulls)?,
            Values::F64(values) => primitive(&self.data_type, len, Buffer::from_vec(take(values)), nulls)?,
            Values::Utf8 { ends, data } => {
                Arc::new(StringArray::try_new(offsets(ends), Buffer::from_vec(take(data)), nulls)?)
            }
            Values::View(views) => {
                let Views { views, buffers } = mem::take(views);
                Arc::new(BinaryViewArray::try_new(ScalarBuffer::from(views), buffers, nulls)?)
            }
            Values::Fixed { size, data } => Arc::new(FixedSizeBinaryArray::try_new_with_len(
                *size as i32,
                Buffer::from_vec(take(data)),
                nulls,
                len,
            )?),
            Values::Struct(columns) => {
                let arrays = columns.iter_mut().map(Column::finish).collect::<Result<_, _>>()?;
                let DataType::Struct(fields) = &self.data_type else { return Err(mismatch(&self.data_type)) };
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, len)?)
            }
            Values::List { ends, items } => {
                let DataType::List(item) = &self.data_type else { return Err(mismatch(&self.data_type)) };
                Arc::new(ListArray::try_new(item.clone(), offsets(ends), items.finish()?, nulls)?)
            }
            Values::Map { ends, keys, values } => {
                let DataType::Map(entries, sorted) = &self.data_type else { return Err(mismatch(&self.data_type)) };
                let DataType::Struct(fields) = entries.data_type() else { return Err(mismatch(&self.data_type)) };
                let arrays = vec![keys.finish()?, values.finish()?];
                let pairs = StructArray::try_new(fields.clone(), arrays, None)?;
                Arc::new(MapArray::try_new(entries.clone(), offsets(ends), pairs, nulls, *sorted)?)
            }
        })
    }
}

impl Views {
    /// Appends `bytes`, which `cursor` has just read, as a reference into the cursor's source.
    pub fn push(&mut self, bytes: &[u8], cursor: &Cursor<'_>) -> Read<()> {
        if bytes.len() <= 12 {
            self.views.push(make_view(bytes, 0, 0));
            return Ok(());
        }
        // Buffers keep their memory, so the same address is the same source.
        let source = cursor.source;
        if self.buffers.last().is_none_or(|last| last.as_ptr() != source.as_ptr() || last.len() != source.len()) {
            self.buffers.push(Buffer::from(source.clone()));
        }
        let buffer = u32::try_from(self.buffers.len() - 1).map_err(|_| Reason::BatchFull)?;
        let offset = u32::try_from(cursor.position() - bytes.len()).map_err(|_| Reason::BatchFull)?;
        self.views.push(make_view(bytes, buffer, offset));
        Ok(())
    }
}

/// Appends a string whose bytes are not yet known to be UTF-8.
#[inline]
pub(super) fn push_utf8(ends: &mut Vec<i32>, data: &mut Vec<u8>, bytes: &[u8]) -> Read<()> {
    if std::str::from_utf8(bytes).is_err() {
        return Err(Reason::Utf8.into());
    }
    data.extend_from_slice(bytes);
    ends.push(i32::try_from(data.len()).map_err(|_| Reason::BatchFull)?);
    Ok(())
}

/// The fields of a map's entries.
pub(super) fn key_and_value(entries: &Field) -> Result<(&Field, &Field), ArrowError> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Ok((&fields[0], &fields[1])),
        other => Err(ArrowError::SchemaError(format!("a map's entries are a key and a value, not {other}"))),
    }
}

/// Cuts ends to `rows` and gives the last one.
fn cut(ends: &mut Vec<i32>, rows: usize) -> usize {
    ends.truncate(rows);
    ends.last().map_or(0, |end| *end as usize)
}

fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.len();
    mem::replace(values, Vec::with_capacity(capacity))
}

fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.append(ends);
    // Ends only grow, each being the length of what was appended before.
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

fn primitive(of: &DataType, len: usize, values: Buffer, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
    Ok(make_array(ArrayData::builder(of.clone()).len(len).add_buffer(values).nulls(nulls).build()?))
}

fn mismatch(of: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("a column of {of} was built as another type"))
}
