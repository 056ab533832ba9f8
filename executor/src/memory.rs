//! The memory of an executor process, divided among the splits that it works on.
//!
//! What a split takes on its way is proportional to its bytes: fetched records, decoded columns that refer to them, rows
//! that wait for a module's call, pages of Parquet in the making, records that brokers have not acknowledged. So a split
//! pays for its bytes before it fetches the first, and waits if others have taken all there is. Nothing else is needed
//! for back-pressure: a split that waits asks no broker for anything.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What the process takes without any split: code, threads, clients, plans.
const BASE: u64 = 176 << 20;
/// What a split takes beside its bytes: prefetched records, a producer, buffers of uploads.
const SPLIT_BASE: u64 = 32 << 20;
/// Copies of a split's bytes, about, at the worst moment.
const COPIES: u64 = 4;
/// Bytes of one unit, so that any memory is counted by 32 bits.
const UNIT: u64 = 64 << 10;

/// A bound on the splits at work.
#[derive(Debug)]
pub(crate) struct Memory {
    units: Arc<Semaphore>,
    all: u32,
}

impl Memory {
    /// For a process that is to take at most so many bytes. One split at a time always gets its place, whatever its
    /// size: the bound is kept by splits that are small against it.
    pub fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes.saturating_sub(BASE) / UNIT).unwrap_or(u32::MAX >> 3).clamp(1, u32::MAX >> 3);
        Self { units: Arc::new(Semaphore::new(all as usize)), all }
    }

    pub async fn admit(&self, split_bytes: u64) -> Option<OwnedSemaphorePermit> {
        let bytes = SPLIT_BASE.saturating_add(split_bytes.saturating_mul(COPIES));
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).clamp(1, self.all);
        self.units.clone().acquire_many_owned(units).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn splits_wait_for_memory_and_get_it_back() {
        let memory = Memory::new(512 << 20);
        let held: Vec<_> = [16 << 20; 3].iter().map_while(|bytes| memory.admit(*bytes).now_or_never()).collect();
        assert!(memory.admit(16 << 20).now_or_never().is_none(), "a fourth waits");
        drop(held);
        assert!(memory.admit(16 << 20).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_split_larger_than_all_memory_runs_alone() {
        let memory = Memory::new(200 << 20);
        let alone = memory.admit(1 << 40).now_or_never();
        assert!(alone.is_some() && memory.admit(1).now_or_never().is_none());
    }
}
