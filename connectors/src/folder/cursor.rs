//! Readers of a compressed tarball, which can only go forward.
//!
//! A range begins somewhere inside; to get there, a reader unpacks all that lies before. Epoch after epoch from the
//! beginning would unpack a night hundreds of times. So a reader that has given its range waits where it stands, and the
//! next range is read by the one that stands nearest before it.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Weak, mpsc as blocking};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parking_lot::Mutex;
use redpoll_core::source::{Error, FileRef, OffsetRange, Record};
use tokio::sync::mpsc;

use super::archive::{Member, Packed};
use super::object::{CHANGED, Place};

/// Readers that wait; one is given up when there would be more. Each is a thread and an open object.
const MAX_WAITING: usize = 4;
/// A member is given this much memory before it is read.
const TRUSTED_BYTES: u64 = 1 << 20;
/// Members on their way from a reader's thread.
const AHEAD: usize = 8;

/// A range to read, and where to.
struct Order {
    range: OffsetRange,
    records: mpsc::Sender<io::Result<Record>>,
}

/// A reader that waits for its next order.
#[derive(Debug)]
struct Waiting {
    /// The member it gives next.
    next: i64,
    etag: Option<String>,
    orders: blocking::Sender<Order>,
}

/// The readers of one archive that wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursors(Arc<Mutex<Vec<Waiting>>>);

impl Cursors {
    /// The records of a range.
    pub fn read(&self, place: &Place, range: OffsetRange) -> BoxStream<'static, Result<Record, Error>> {
        let reading = Reading { cursors: self.clone(), place: place.clone(), left: range, open: None, reused: false };
        stream::try_unfold(
            reading,
            |mut reading| async move { Ok(reading.next().await?.map(|record| (record, reading))) },
        )
        .boxed()
    }

    /// Gives the order to the reader that stands nearest before its range.
    fn reuse(&self, order: Order) -> Result<(), Order> {
        let mut waiting = self.0.lock();
        let etag = order.range.files.first().and_then(|file| file.etag.clone());
        let fits = |cursor: &Waiting| cursor.next <= order.range.start && cursor.etag == etag;
        let nearest =
            waiting.iter().enumerate().filter(|(_, cursor)| fits(cursor)).max_by_key(|(_, cursor)| cursor.next);
        match nearest.map(|(i, _)| i) {
            Some(i) => waiting.swap_remove(i).orders.send(order).map_err(|unsent| unsent.0),
            None => Err(order),
        }
    }

    fn wait(&self, cursor: Waiting) {
        let mut waiting = self.0.lock();
        waiting.push(cursor);
        if waiting.len() > MAX_WAITING {
            // The one farthest back: epochs move on.
            waiting.sort_by_key(|cursor| cursor.next);
            waiting.remove(0);
        }
    }
}

/// A range on its way to the caller.
struct Reading {
    cursors: Cursors,
    place: Place,
    left: OffsetRange,
    open: Option<mpsc::Receiver<io::Result<Record>>>,
    reused: bool,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Record>, Error> {
        while !self.left.is_empty() {
            let Some(open) = &mut self.open else {
                self.open().await?;
                continue;
            };
            match open.recv().await {
                Some(Ok(record)) => {
                    self.left = self.left.slice(record.offset + 1, self.left.end);
                    return Ok(Some(record));
                }
                // A reader that has waited long may have lost its connection meanwhile: begin again, once.
                Some(Err(_)) | None if self.reused => (self.open, self.reused) = (Some(self.fresh().await?), false),
                Some(Err(error)) => return Err(self.place.error(error)),
                None => return Err(self.place.error("its reader ended without a word")),
            }
        }
        Ok(None)
    }

    async fn open(&mut self) -> Result<(), Error> {
        let (records, open) = mpsc::channel(AHEAD);
        self.reused = self.cursors.reuse(Order { range: self.left.clone(), records }).is_ok();
        self.open = Some(if self.reused { open } else { self.fresh().await? });
        Ok(())
    }

    /// A reader that begins at the first member.
    async fn fresh(&self) -> Result<mpsc::Receiver<io::Result<Record>>, Error> {
        let packed = Packed::open(&self.place, true).await?;
        if self.left.files.first().is_some_and(|file| file.etag != packed.etag) {
            return Err(self.place.error(CHANGED));
        }
        let (records, open) = mpsc::channel(AHEAD);
        let order = Order { range: self.left.clone(), records };
        let cursors = Arc::downgrade(&self.cursors.0);
        let thread = std::thread::Builder::new().name("tarball".into());
        thread.spawn(move || run(packed, order, cursors)).map_err(|error| self.place.error(error))?;
        Ok(open)
    }
}

/// Unpacks members for one order after the other, until nobody waits for more.
fn run(packed: Packed, order: Order, cursors: Weak<Mutex<Vec<Waiting>>>) {
    let etag = packed.etag.clone();
    let mut order = Some(order);
    let mut n: i64 = 0;
    let walked = packed.walk(|member| {
        let (offset, Some(Order { range, records })) = (n, &order) else { return Ok(ControlFlow::Break(())) };
        n += 1;
        if offset < range.start {
            return Ok(ControlFlow::Continue(()));
        }
        let record = record(member, &range.files[(offset - range.start) as usize], offset)?;
        // Before the last record is out: whoever has it finds this reader for the range behind it.
        let mut next = (n >= range.end).then(|| wait(n, &etag, &cursors));
        if records.blocking_send(Ok(record)).is_err() && next.is_none() {
            next = Some(wait(n, &etag, &cursors));
        }
        if let Some(orders) = next {
            order = orders.and_then(|orders| orders.recv().ok());
        }
        Ok(if order.is_some() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    });
    if let Some(Order { range, records }) = order {
        let ended = || io::Error::other(format!("ends at member {n}, before {}", range.end));
        // Whoever ordered may be gone: then nobody is left to tell.
        let _ = records.blocking_send(Err(walked.err().unwrap_or_else(ended)));
    }
}

/// Stands among the readers that wait; `None` if the archive is no longer in use.
fn wait(next: i64, etag: &Option<String>, cursors: &Weak<Mutex<Vec<Waiting>>>) -> Option<blocking::Receiver<Order>> {
    let (sender, orders) = blocking::channel();
    Cursors(cursors.upgrade()?).wait(Waiting { next, etag: etag.clone(), orders: sender });
    Some(orders)
}

fn record(member: Member<'_>, planned: &FileRef, offset: i64) -> io::Result<Record> {
    if member.file.name != planned.name || member.file.size != planned.size {
        return Err(io::Error::other(format!("{}: {CHANGED}", planned.name)));
    }
    // An archive may claim any size: only what is there may cost memory.
    let mut value = Vec::with_capacity(planned.size.min(TRUSTED_BYTES) as usize);
    member.bytes.read_to_end(&mut value)?;
    if value.len() as u64 != planned.size {
        let reason =
            format!("{}: it has {} bytes of {} that the archive claims", planned.name, value.len(), planned.size);
        return Err(io::Error::other(reason));
    }
    let topic = planned.name.as_str().into();
    Ok(Record { topic, partition: 0, offset, timestamp: None, key: None, value: Bytes::from(value) })
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;
    use crate::folder::listing::Listing;
    use crate::folder::tests::{archive, gzip};

    #[tokio::test(flavor = "multi_thread")]
    async fn the_next_epoch_goes_on_where_the_last_one_stopped() {
        let (store, path) = (Arc::new(InMemory::new()), Path::from("n.tar.gz"));
        store.put(&path, gzip(&archive(90)).into()).await.unwrap();
        let place = Place { location: "s3://b/n.tar.gz".into(), store, path };
        let files = Listing::default().after(&place, true, 0, u64::MAX).await.unwrap();
        let whole = OffsetRange { topic: "n".into(), end: 90, files, ..Default::default() };
        let cursors = Cursors::default();
        let read = async |start, end| {
            let read = cursors.read(&place, whole.slice(start, end)).try_collect::<Vec<_>>().await.unwrap();
            assert_eq!(read.iter().map(|record| record.offset).collect::<Vec<_>>(), (start..end).collect::<Vec<_>>());
            let mut waiting: Vec<_> = cursors.0.lock().iter().map(|cursor| cursor.next).collect();
            waiting.sort();
            waiting
        };
        assert_eq!(read(0, 10).await, [10]);
        assert_eq!(read(10, 20).await, [20], "the same reader");
        assert_eq!(read(25, 30).await, [30]);
        assert_eq!(read(5, 10).await, [10, 30], "none stands before: a new one");
        assert_eq!(read(28, 40).await, [30, 40], "the nearest before it");
        for start in [3, 2, 1, 0] {
            read(start, start + 1).await;
        }
        assert_eq!(cursors.0.lock().len(), MAX_WAITING, "the farthest back are given up");
    }
}
