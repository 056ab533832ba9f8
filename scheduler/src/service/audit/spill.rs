//! Rows of both sides on disk, in buckets by what tells them apart: equal rows are in the same bucket, and one bucket
//! fits into memory.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use redpoll_core::ids::Epoch;

/// Rows of one side that a bucket may hold, about.
const BUCKET_ROWS: u64 = 200_000;
/// Files that are open at a time.
const MAX_BUCKETS: u64 = 256;

/// A row that should be in a sink, or one that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Number of the sink.
    pub sink: u16,
    /// It was computed again; else it was found.
    pub wanted: bool,
    /// It was found, and the sink says that the job wrote it.
    pub ours: bool,
    /// Equal for rows that a reader of the sink cannot tell apart.
    pub key: u128,
    pub epoch: Epoch,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Number of the alert in its record.
    pub row: u32,
    pub id: Option<String>,
    /// Where it is in the sink, or its key there.
    pub at: String,
}

pub(super) struct Spill {
    buckets: Vec<BufWriter<File>>,
}

impl Spill {
    /// For about so many rows on each side.
    pub fn new(rows: u64) -> io::Result<Self> {
        let n = rows.div_ceil(BUCKET_ROWS).clamp(1, MAX_BUCKETS);
        let buckets = (0..n).map(|_| Ok(BufWriter::new(tempfile::tempfile()?)));
        Ok(Self { buckets: buckets.collect::<io::Result<_>>()? })
    }

    pub fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let n = self.buckets.len() as u128;
        let bucket = usize::try_from(entry.key % n).unwrap_or_default();
        entry.write(&mut self.buckets[bucket])
    }

    /// The buckets one after the other, each as a whole.
    pub fn into_buckets(self) -> impl Iterator<Item = io::Result<Vec<Entry>>> {
        self.buckets.into_iter().map(|bucket| {
            let mut file = bucket.into_inner().map_err(io::IntoInnerError::into_error)?;
            let bytes = file.stream_position()?;
            file.rewind()?;
            let mut reader = BufReader::new(file.take(bytes));
            let mut entries = Vec::new();
            while let Some(entry) = Entry::read(&mut reader)? {
                entries.push(entry);
            }
            Ok(entries)
        })
    }
}

impl Entry {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&[1])?;
        out.write_all(&self.sink.to_le_bytes())?;
        out.write_all(&[u8::from(self.wanted), u8::from(self.ours), u8::from(self.id.is_some())])?;
        out.write_all(&self.key.to_le_bytes())?;
        out.write_all(&self.epoch.0.to_le_bytes())?;
        out.write_all(&self.partition.to_le_bytes())?;
        out.write_all(&self.offset.to_le_bytes())?;
        out.write_all(&self.row.to_le_bytes())?;
        for text in [&self.topic, &self.at, self.id.as_ref().unwrap_or(&String::new())] {
            out.write_all(&(text.len() as u32).to_le_bytes())?;
            out.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0];
        if from.read(&mut head)? == 0 {
            return Ok(None);
        }
        let sink = u16::from_le_bytes(array(from)?);
        let [wanted, ours, named] = array(from)?;
        let key = u128::from_le_bytes(array(from)?);
        let epoch = Epoch(u64::from_le_bytes(array(from)?));
        let partition = i32::from_le_bytes(array(from)?);
        let offset = i64::from_le_bytes(array(from)?);
        let row = u32::from_le_bytes(array(from)?);
        let (topic, at, id) = (text(from)?, text(from)?, text(from)?);
        let (wanted, ours, id) = (wanted == 1, ours == 1, (named == 1).then_some(id));
        Ok(Some(Self { sink, wanted, ours, key, epoch, topic, partition, offset, row, id, at }))
    }
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn text(from: &mut impl Read) -> io::Result<String> {
    let len = u32::from_le_bytes(array(from)?);
    let mut bytes = vec![0; len as usize];
    from.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_from_their_buckets_and_equal_ones_from_the_same() {
        let entry = |n: u64, wanted| Entry {
            sink: (n % 3) as u16,
            wanted,
            ours: !wanted,
            key: u128::from(n) << 77 | u128::from(n * 31),
            epoch: Epoch(n / 10),
            topic: "ztf".to_owned(),
            partition: -1,
            offset: n as i64,
            row: n as u32 % 2,
            id: n.is_multiple_of(2).then(|| format!("{n}")),
            at: if wanted { String::new() } else { format!("out[0]@{n}") },
        };
        let mut spill = Spill::new(5 * BUCKET_ROWS).unwrap();
        for n in 0..1000 {
            spill.push(&entry(n, true)).unwrap();
            spill.push(&entry(n, false)).unwrap();
        }
        let (mut all, mut n_buckets) = (Vec::new(), 0);
        for bucket in spill.into_buckets() {
            let bucket = bucket.unwrap();
            let sides = |wanted| bucket.iter().filter(move |entry| entry.wanted == wanted).map(|entry| entry.key);
            assert_eq!(sides(true).collect::<Vec<_>>(), sides(false).collect::<Vec<_>>());
            n_buckets += 1;
            all.extend(bucket);
        }
        all.sort_by_key(|entry| (entry.offset, !entry.wanted));
        let expected: Vec<_> = (0..1000).flat_map(|n| [entry(n, true), entry(n, false)]).collect();
        assert_eq!((n_buckets, all), (5, expected));
    }
}
