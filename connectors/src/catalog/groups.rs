//! Row groups that were read, kept until others need their place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema};
use futures::TryStreamExt;
use parking_lot::Mutex;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

use super::index::{GroupId, Index};
use super::{CELL, Error};

/// The rows of a row group, in the order of their cells.
pub(super) struct Group {
    pub cells: Int64Array,
    /// Degrees.
    pub ra: Float64Array,
    pub dec: Float64Array,
    /// The columns that are asked for.
    pub rows: RecordBatch,
}

impl Group {
    fn bytes(&self) -> usize {
        let arrays: [&dyn Array; 3] = [&self.cells, &self.ra, &self.dec];
        arrays.iter().map(|array| array.get_array_memory_size()).sum::<usize>() + self.rows.get_array_memory_size()
    }
}

/// The index, by its place, the row group in it, and the columns that were read.
type Key = (String, GroupId, Vec<String>);

/// A bounded number of bytes; what was not used for longest goes first.
pub(super) struct Groups {
    max_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    bytes: usize,
    /// Counts uses.
    clock: u64,
    groups: HashMap<Key, (Arc<Group>, u64)>,
    by_use: BTreeMap<u64, Key>,
}

impl Groups {
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, kept: Mutex::default() }
    }

    /// A row group with these columns beside its positions, read if it is not kept. Two who need it at once may both
    /// read it.
    pub async fn group(&self, index: &Index, id: GroupId, columns: &[String]) -> Result<Arc<Group>, Error> {
        let key = (index.url(), id, columns.to_vec());
        if let Some(group) = self.kept.lock().used(&key) {
            return Ok(group);
        }
        let group = Arc::new(read(index, id, columns).await?);
        self.kept.lock().keep(key, group.clone(), self.max_bytes);
        Ok(group)
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }
}

impl Kept {
    fn used(&mut self, key: &Key) -> Option<Arc<Group>> {
        self.clock += 1;
        let (group, used) = self.groups.get_mut(key)?;
        if let Some(key) = self.by_use.remove(used) {
            self.by_use.insert(self.clock, key);
        }
        *used = self.clock;
        Some(group.clone())
    }

    fn keep(&mut self, key: Key, group: Arc<Group>, max_bytes: usize) {
        self.clock += 1;
        self.bytes += group.bytes();
        self.by_use.insert(self.clock, key.clone());
        if let Some((before, used)) = self.groups.insert(key, (group, self.clock)) {
            self.by_use.remove(&used);
            self.bytes -= before.bytes();
        }
        while self.bytes > max_bytes
            && let Some((_, key)) = self.by_use.pop_first()
        {
            self.bytes -= self.groups.remove(&key).map_or(0, |(group, _)| group.bytes());
        }
    }
}

async fn read(index: &Index, (part, group): GroupId, columns: &[String]) -> Result<Group, Error> {
    let object = index.object(part);
    let file = object.path.to_string();
    let wrong = |source| Error::Parquet { url: file.clone(), source };
    let footer = index.footer(part).await?;
    let metadata = footer.reader.metadata();
    let rows = usize::try_from(metadata.row_group(group).num_rows()).unwrap_or_default();
    let (ra, dec) = (&index.manifest.ra, &index.manifest.dec);
    let is_read = |name: &String| name == CELL || name == ra || name == dec || columns.contains(name);
    let names = footer.reader.schema().fields().iter().map(|field| field.name()).enumerate();
    let roots: Vec<usize> = names.filter(|(_, name)| is_read(name)).map(|(i, _)| i).collect();
    let mask = ProjectionMask::roots(metadata.file_metadata().schema_descr(), roots);
    let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(object, footer.reader.clone())
        .with_row_groups(vec![group])
        .with_projection(mask)
        .with_batch_size(rows.max(1))
        .build()
        .map_err(wrong)?;
    let schema = stream.schema().clone();
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(wrong)?;
    let batch = concat_batches(&schema, &batches)?;
    let column = |name: &str| Ok::<_, Error>(batch.column(batch.schema().index_of(name)?).clone());
    let angle =
        |name: &str| Ok::<_, Error>(cast(&column(name)?, &DataType::Float64)?.as_primitive::<Float64Type>().clone());
    let fields = columns.iter().map(|name| batch.schema().field_with_name(name).cloned());
    let wanted = columns.iter().map(|name| column(name)).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>, _>>()?));
    Ok(Group {
        cells: column(CELL)?.as_primitive::<Int64Type>().clone(),
        ra: angle(ra)?,
        dec: angle(dec)?,
        rows: RecordBatch::try_new_with_options(schema, wanted, &options)?,
    })
}
