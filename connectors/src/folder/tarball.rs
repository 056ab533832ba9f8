//! A tarball of `.avro` members.

use async_trait::async_trait;
use futures::stream::BoxStream;
use redpoll_core::source::{Error, Gone, OffsetRange, Offsets, Record, Source, Start, split_evenly};

use super::cursor::Cursors;
use super::held::held;
use super::listing::Listing;
use super::object::{self, Place};
use super::plain::next;

/// Each split of a compressed tarball unpacks all that lies before it.
const MAX_COMPRESSED_SPLITS: u64 = 4;

#[derive(Debug)]
pub(super) struct Tarball {
    place: Place,
    gzip: bool,
    listing: Listing,
    cursors: Cursors,
}

impl Tarball {
    pub fn new(place: Place, gzip: bool) -> Tarball {
        Tarball { place, gzip, listing: Listing::default(), cursors: Cursors::default() }
    }
}

#[async_trait]
impl Source for Tarball {
    async fn available(&self, from: &Offsets, start: Start, max_bytes: u64) -> Result<Vec<OffsetRange>, Error> {
        if start != Start::Earliest {
            let reason = "a tarball is read from its first member on; leave the option out".into();
            return Err(Error::Option { option: "start".into(), location: self.place.location.to_string(), reason });
        }
        let from = next(&self.place, from);
        let files = self.listing.after(&self.place, self.gzip, usize::try_from(from).unwrap_or(0), max_bytes).await?;
        Ok(object::range(&self.place, from, files, max_bytes))
    }

    async fn held(&self, ranges: Vec<OffsetRange>) -> Result<(Vec<OffsetRange>, Vec<Gone>), Error> {
        held(&self.place, ranges, |place, _| place.path.clone()).await
    }

    fn read(&self, range: OffsetRange) -> BoxStream<'static, Result<Record, Error>> {
        match self.gzip {
            true => self.cursors.read(&self.place, range),
            false => self.place.read(range, |place, _| place.path.clone()),
        }
    }

    fn split(&self, ranges: &[OffsetRange], max_bytes: u64) -> Vec<Vec<OffsetRange>> {
        let bytes = ranges.iter().fold(0, |bytes: u64, range| bytes.saturating_add(range.bytes));
        match self.gzip {
            true => split_evenly(ranges, max_bytes.max(bytes.div_ceil(MAX_COMPRESSED_SPLITS))),
            false => split_evenly(ranges, max_bytes),
        }
    }
}
