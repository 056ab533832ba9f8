//! Positions looked up in an index: row groups near them one after the other, each once, then one row of matches for
//! each position.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, ListArray, RecordBatch, StructArray, UInt32Array, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::{DataType, Fields, Schema};
use futures::{StreamExt, TryStreamExt, stream};
use redpoll_core::catalog::{Cone, SEPARATION};
use redpoll_core::sky::separation;

use super::Error;
use super::cells::{Range, around};
use super::groups::{Group, Groups};
use super::index::{GroupId, Index};

/// Row groups that are read at a time.
const AHEAD: usize = 4;

/// A row within the cone of a position.
struct Hit {
    /// The position.
    row: usize,
    /// Arcseconds.
    separation: f64,
    /// Where it is among all the rows that were found: in the order of the index.
    at: u32,
}

/// Where to look for a position.
struct Ask {
    row: usize,
    cells: Range,
}

/// The matches of each position, degrees, as the type `returns`.
pub(super) async fn look_up(
    index: &Index,
    groups: &Groups,
    cone: Cone,
    returns: &DataType,
    (ra, dec): (&Float64Array, &Float64Array),
) -> Result<ArrayRef, Error> {
    let fields = fields(returns);
    let columns = fields.iter().map(|field| field.name().clone()).filter(|name| name != SEPARATION);
    let columns: Vec<String> = columns.collect();
    let (asks, known) = asks(index, cone, ra, dec).await?;
    let mut found = Found { ra, dec, cone, best: vec![f64::INFINITY; ra.len()], hits: Vec::new(), rows: Vec::new() };
    let mut read = stream::iter(asks)
        .map(async |(id, asks)| Ok::<_, Error>((groups.group(index, id, &columns).await?, asks)))
        .buffered(AHEAD);
    while let Some((group, asks)) = read.try_next().await? {
        found.search(&group, &asks)?;
    }
    drop(read);
    found.matches(&fields, returns, known)
}

/// The fields of a match.
fn fields(returns: &DataType) -> Fields {
    match returns {
        DataType::List(item) => fields(item.data_type()),
        DataType::Struct(fields) => fields.clone(),
        _ => Fields::empty(),
    }
}

/// What to look for in each row group, and which rows have a position at all.
async fn asks(
    index: &Index,
    cone: Cone,
    ra: &Float64Array,
    dec: &Float64Array,
) -> Result<(BTreeMap<GroupId, Vec<Ask>>, NullBuffer), Error> {
    let (mut asks, mut known) = (BTreeMap::<_, Vec<Ask>>::new(), Vec::with_capacity(ra.len()));
    for row in 0..ra.len() {
        let ranges = match ra.is_valid(row) && dec.is_valid(row) {
            true => around(ra.value(row), dec.value(row), cone.radius),
            false => Vec::new(),
        };
        known.push(!ranges.is_empty());
        for cells in ranges {
            for id in index.overlapping(cells).await? {
                asks.entry(id).or_default().push(Ask { row, cells });
            }
        }
    }
    Ok((asks, NullBuffer::from(known)))
}

struct Found<'a> {
    ra: &'a Float64Array,
    dec: &'a Float64Array,
    cone: Cone,
    /// The least separation of each position so far.
    best: Vec<f64>,
    hits: Vec<Hit>,
    /// The rows of the hits, in their order.
    rows: Vec<RecordBatch>,
}

impl Found<'_> {
    fn search(&mut self, group: &Group, asks: &[Ask]) -> Result<(), Error> {
        let before = self.hits.len();
        let mut rows = Vec::new();
        for Ask { row, cells: (from, to) } in asks {
            let cells = group.cells.values();
            let (first, end) = (cells.partition_point(|cell| cell < from), cells.partition_point(|cell| cell < to));
            for at in first..end {
                let of = [self.ra.value(*row), self.dec.value(*row), group.ra.value(at), group.dec.value(at)];
                let separation = separation(of) * 3600.0;
                let wanted = separation <= self.cone.radius && (self.cone.all || separation < self.best[*row]);
                if wanted {
                    self.best[*row] = self.best[*row].min(separation);
                    self.hits.push(Hit { row: *row, separation, at: (before + rows.len()) as u32 });
                    rows.push(at as u32);
                }
            }
        }
        // Of no column but the separation there is nothing to take.
        if !rows.is_empty() && group.rows.num_columns() > 0 {
            self.rows.push(take_record_batch(&group.rows, &UInt32Array::from(rows))?);
        }
        Ok(())
    }

    fn matches(mut self, fields: &Fields, returns: &DataType, known: NullBuffer) -> Result<ArrayRef, Error> {
        // Of rows at one distance the first in the index comes first: the same in each run.
        self.hits.sort_by(|a, b| a.row.cmp(&b.row).then(a.separation.total_cmp(&b.separation)).then(a.at.cmp(&b.at)));
        if self.hits.is_empty() {
            return nothing(returns, &known);
        }
        let schema = self.rows.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        let rows = concat_batches(&schema, &self.rows)?;
        match returns {
            DataType::List(item) => {
                let mut lengths = vec![0; known.len()];
                self.hits.iter().for_each(|hit| lengths[hit.row] += 1);
                let hits: Vec<Option<&Hit>> = self.hits.iter().map(Some).collect();
                let values = structs(fields, &rows, &hits)?;
                let offsets = OffsetBuffer::from_lengths(lengths);
                Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, Some(known))?))
            }
            _ => {
                let mut nearest = vec![None; known.len()];
                self.hits.iter().rev().for_each(|hit| nearest[hit.row] = Some(hit));
                structs(fields, &rows, &nearest)
            }
        }
    }
}

fn structs(fields: &Fields, rows: &RecordBatch, hits: &[Option<&Hit>]) -> Result<ArrayRef, Error> {
    let places: UInt32Array = hits.iter().map(|hit| hit.map(|hit| hit.at)).collect();
    let separations: Float64Array = hits.iter().map(|hit| hit.map(|hit| hit.separation)).collect();
    let column = |name: &String| match rows.column_by_name(name) {
        Some(column) if name != SEPARATION => take(column, &places, None),
        _ => Ok(Arc::new(separations.clone()) as ArrayRef),
    };
    let columns = fields.iter().map(|field| column(field.name())).collect::<Result<Vec<_>, _>>()?;
    let known = NullBuffer::from_iter(hits.iter().map(Option::is_some));
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, Some(known))?))
}

/// No match at all: empty lists, or nulls.
fn nothing(returns: &DataType, known: &NullBuffer) -> Result<ArrayRef, Error> {
    match returns {
        DataType::List(item) => {
            let values = arrow::array::new_empty_array(item.data_type());
            let offsets = OffsetBuffer::from_lengths(vec![0; known.len()]);
            Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, Some(known.clone()))?))
        }
        _ => Ok(new_null_array(returns, known.len())),
    }
}
