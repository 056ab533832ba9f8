//! The workers of one module, and who waits for them.
//!
//! A call takes a place, whose worker is forked if none is idle. It gives the worker back only after an answer: a
//! worker that died, timed out or was left in mid-call is ended, and the next call forks another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::parent::{NoWorker, Parent};
use super::worker::{Asked, Death, Worker};
use super::{Error, assemble, frames};
use crate::manifest::Module;

/// The first start is immediate, later ones wait twice as long each while none succeeds.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// Workers that fail to start in a row before the call fails.
const START_TRIES: u32 = 3;

/// What became of a call.
pub enum Call {
    Answered(Answer),
    /// The worker died or was killed.
    Died(Death),
}

/// Values of one call, of the declared type, and the rows that failed.
pub struct Answer {
    pub values: ArrayRef,
    pub failures: Vec<(u32, String)>,
    pub cost: Cost,
}

/// What one call took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Waiting for a worker, with its start if there was none.
    pub queue: Duration,
    /// From sending the arguments to having the values.
    pub call: Duration,
    /// Arguments and values, as they crossed.
    pub bytes: u64,
    /// Memory of the worker in RAM, in KiB.
    pub resident_kib: u64,
    /// Whether this is a new worker that had to import the module itself.
    pub imported: bool,
}

#[derive(Debug)]
pub struct Pool {
    module: Arc<Module>,
    parent: Parent,
    free: Semaphore,
    n_workers: usize,
    idle: Mutex<Vec<(Instant, Worker)>>,
    failed_starts: AtomicU32,
}

impl Pool {
    pub fn new(module: Arc<Module>, parent: Parent, n_workers: usize) -> Self {
        let n_workers = n_workers.max(1);
        let (idle, failed_starts) = Default::default();
        Self { module, parent, free: Semaphore::new(n_workers), n_workers, idle, failed_starts }
    }

    pub fn module(&self) -> &Module {
        &self.module
    }

    pub fn n_workers(&self) -> usize {
        self.n_workers
    }

    pub fn idle_pids(&self) -> Vec<u32> {
        self.idle.lock().iter().map(|(_, worker)| worker.pid()).collect()
    }

    /// Calls that would find a place now.
    pub fn n_free(&self) -> usize {
        self.free.available_permits()
    }

    /// Imports the module and forks its first worker: others come when calls wait.
    pub async fn warm(&self) -> Result<(), Error> {
        let (worker, permit) = self.take().await?;
        self.give_back(worker, permit);
        Ok(())
    }

    /// Ends workers that nobody has called for so long.
    pub fn end_idle(&self, longer_than: Duration) {
        self.idle.lock().retain(|(since, _)| since.elapsed() <= longer_than);
    }

    /// Sends one batch to one worker.
    pub async fn call(&self, args: &RecordBatch) -> Result<Call, Error> {
        let begun = Instant::now();
        let (mut worker, permit) = self.take().await?;
        let sent = Instant::now();
        let module = &self.module;
        let failed = |source| Error::Arrow { module: module.name.clone(), source };
        let body = frames::encode(args).map_err(failed)?;
        match worker.evaluate(module, &body).await {
            Asked::Died(death) => Ok(Call::Died(death)),
            Asked::Answered(reply, _) if !reply.ok => {
                Err(Error::Answer { module: module.name.clone(), reason: reply.error })
            }
            Asked::Answered(reply, answer) => {
                let imported = worker.take_imported();
                self.give_back(worker, permit);
                let cost = Cost {
                    queue: sent - begun,
                    call: sent.elapsed(),
                    bytes: (body.len() + answer.len()) as u64,
                    resident_kib: reply.resident_kib,
                    imported,
                };
                let values = frames::decode(answer).map_err(failed)?;
                if values.num_rows() != args.num_rows() {
                    let reason = format!("{} values for {} rows", values.num_rows(), args.num_rows());
                    return Err(Error::Answer { module: module.name.clone(), reason });
                }
                let values = assemble::declared_values(module, values.column(0))?;
                Ok(Call::Answered(Answer { values, failures: reply.failures, cost }))
            }
        }
    }

    async fn take(&self) -> Result<(Worker, SemaphorePermit<'_>), Error> {
        let closed = |_| Error::Start("its pool is closed".into());
        let permit = self.free.acquire().await.map_err(closed)?;
        if let Some((_, worker)) = self.idle.lock().pop() {
            return Ok((worker, permit));
        }
        let mut tries = 0;
        loop {
            self.back_off().await;
            let reason = match Worker::start(&self.parent, &self.module).await {
                Ok(worker) => {
                    self.failed_starts.store(0, Relaxed);
                    return Ok((worker, permit));
                }
                Err(NoWorker::Refused(error)) => return Err(error),
                Err(NoWorker::Died(reason)) => reason,
            };
            tracing::warn!(module = self.module.name, reason, "a module's worker does not start");
            self.failed_starts.fetch_add(1, Relaxed);
            tries += 1;
            if tries == START_TRIES {
                return Err(Error::Worker { module: self.module.name.clone(), reason });
            }
        }
    }

    fn give_back(&self, worker: Worker, permit: SemaphorePermit<'_>) {
        self.idle.lock().push((Instant::now(), worker));
        drop(permit);
    }

    async fn back_off(&self) {
        let failed = self.failed_starts.load(Relaxed);
        if failed > 0 {
            let delay = FIRST_DELAY * 2_u32.saturating_pow(failed.min(8) - 1);
            tokio::time::sleep(delay.min(LONGEST_DELAY)).await;
        }
    }
}
