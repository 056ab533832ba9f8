//! The workers of one environment, and who waits for them.
//!
//! A call takes a slot, whose worker is started if it is not up. It gives the worker back only after an answer: a
//! worker that died, timed out or was left in mid-call is killed, and the next call of the slot starts another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::worker::{Asked, Loaded, Start, Worker};
use super::{Error, assemble, frames};
use crate::environment;
use crate::manifest::Module;

/// The first restart is immediate, later ones in a row wait twice as long each.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// Workers that fail to start in a row before the call fails.
const START_TRIES: u32 = 3;

/// Modules of equal keys share workers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    environment: String,
    memory_limit_mb: Option<u64>,
}

impl PoolKey {
    pub fn of(module: &Module) -> Self {
        Self { environment: environment::key(&module.environment), memory_limit_mb: module.memory_limit_mb }
    }
}

/// What became of a call.
pub enum Call {
    Answered(Answer),
    /// The worker died or was killed: the reason, as rows that cause it are told.
    Died(String),
}

/// Values of one call, of the declared type, and the rows that failed.
pub struct Answer {
    pub values: ArrayRef,
    pub failures: Vec<(u32, String)>,
}

#[derive(Debug)]
pub struct Pool {
    start: Start,
    n_workers: usize,
    free: Semaphore,
    idle: Mutex<Vec<Worker>>,
    deaths_in_a_row: AtomicU32,
}

impl Pool {
    pub fn new(start: Start, n_workers: usize) -> Self {
        let n_workers = n_workers.max(1);
        Self {
            start,
            n_workers,
            free: Semaphore::new(n_workers),
            idle: Mutex::default(),
            deaths_in_a_row: AtomicU32::default(),
        }
    }

    pub fn idle_pids(&self) -> Vec<u32> {
        self.idle.lock().iter().map(Worker::pid).collect()
    }

    /// Starts all workers and imports the module in each.
    pub async fn warm(&self, module: &Arc<Module>) -> Result<(), Error> {
        let mut warm = Vec::new();
        for _ in 0..self.n_workers {
            warm.push(self.take(module).await?);
        }
        for (worker, permit) in warm {
            self.give_back(worker, permit);
        }
        Ok(())
    }

    /// Sends one batch to one worker.
    pub async fn call(&self, module: &Arc<Module>, args: &RecordBatch) -> Result<Call, Error> {
        let (mut worker, permit) = self.take(module).await?;
        let failed = |source| Error::Arrow { module: module.name.clone(), source };
        let body = frames::encode(args).map_err(failed)?;
        let call = frames::CallKind::Evaluate { module: &module.fingerprint };
        match worker.ask(call, &body, module.timeout).await {
            Asked::Died(reason) => {
                self.deaths_in_a_row.fetch_add(1, Relaxed);
                Ok(Call::Died(reason))
            }
            Asked::Answered(reply, _) if !reply.ok => {
                Err(Error::Answer { module: module.name.clone(), reason: reply.error })
            }
            Asked::Answered(reply, body) => {
                self.deaths_in_a_row.store(0, Relaxed);
                self.give_back(worker, permit);
                let values = frames::decode(body).map_err(failed)?;
                if values.num_rows() != args.num_rows() {
                    let reason = format!("{} values for {} rows", values.num_rows(), args.num_rows());
                    return Err(Error::Answer { module: module.name.clone(), reason });
                }
                let values = assemble::declared_values(module, values.column(0))?;
                Ok(Call::Answered(Answer { values, failures: reply.failures }))
            }
        }
    }

    /// A worker that is up and has the module imported.
    async fn take(&self, module: &Arc<Module>) -> Result<(Worker, SemaphorePermit<'_>), Error> {
        let closed = |_| Error::Start("its pool is closed".into());
        let permit = self.free.acquire().await.map_err(closed)?;
        let mut tries = 0;
        loop {
            let idle = self.idle.lock().pop();
            let ready = match idle {
                Some(worker) => Ok(worker),
                None => {
                    self.back_off().await;
                    Worker::start(&self.start).await
                }
            };
            let reason = match ready {
                Ok(mut worker) => match worker.load(module, self.start.timeout).await {
                    Loaded::Ready => return Ok((worker, permit)),
                    Loaded::Refused(error) => {
                        // The other modules of the environment still want this worker.
                        self.give_back(worker, permit);
                        return Err(error);
                    }
                    Loaded::Died(reason) => reason,
                },
                Err(reason) => reason,
            };
            self.deaths_in_a_row.fetch_add(1, Relaxed);
            tries += 1;
            if tries == START_TRIES {
                return Err(Error::Worker { module: module.name.clone(), reason });
            }
        }
    }

    fn give_back(&self, worker: Worker, permit: SemaphorePermit<'_>) {
        self.idle.lock().push(worker);
        drop(permit);
    }

    async fn back_off(&self) {
        let deaths = self.deaths_in_a_row.load(Relaxed);
        if deaths > 1 {
            let delay = FIRST_DELAY * 2_u32.saturating_pow(deaths.min(8) - 2);
            tokio::time::sleep(delay.min(LONGEST_DELAY)).await;
        }
    }
}
