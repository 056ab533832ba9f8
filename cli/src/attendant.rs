//! An executor's side of deployments: it asks the scheduler which versions of modules to make ready, and says which are.
//!
//! So a version is fetched, its environment built and its workers warm before an epoch calls it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redpoll_core::runtime::{Runtime as _, Version};
use redpoll_executor::Runtime;
use redpoll_scheduler::service::{Attendance, Awaited};
use tokio::task::JoinHandle;

use crate::client::Client;

/// Between two questions. What is deployed takes over within two seconds, and this is a part of them.
const PAUSE: Duration = Duration::from_millis(250);
/// A version that could not be made ready is tried again after this: a registry of packages may have been down.
const RETRY: Duration = Duration::from_secs(30);

/// Asks until it is dropped.
pub struct Attendant(JoinHandle<()>);

impl Drop for Attendant {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Attendant {
    pub fn start(client: Client, runtime: Arc<Runtime>) -> Self {
        Self(tokio::spawn(attend(client, runtime)))
    }
}

#[derive(Clone, Default)]
struct Books(Arc<Mutex<Attendance>>);

impl Books {
    fn open(&self) -> MutexGuard<'_, Attendance> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn attend(client: Client, runtime: Arc<Runtime>) {
    let (books, mut begun) = (Books::default(), BTreeMap::new());
    loop {
        let attendance = books.open().clone();
        // A scheduler that is away, or of an older version, is asked again: epochs then fetch what they call.
        if let Ok(Awaited { versions }) = client.attend(runtime.executor(), &attendance).await {
            // What is no longer awaited is forgotten, so that it is tried anew if it ever is again.
            begun.retain(|lock, _| versions.iter().any(|version| version.lock == *lock));
            books.open().failed.retain(|lock, _| begun.contains_key(lock));
            for version in versions {
                let rests = |begun: &Instant| begun.elapsed() < RETRY || !attendance.failed.contains_key(&version.lock);
                if !begun.get(&version.lock).is_some_and(rests) {
                    begun.insert(version.lock.clone(), Instant::now());
                    tokio::spawn(make_ready(runtime.clone(), version, books.clone()));
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn make_ready(runtime: Arc<Runtime>, version: Version, books: Books) {
    let prepared = runtime.prepare(&version).await;
    let mut books = books.open();
    books.failed.remove(&version.lock);
    match prepared {
        Ok(()) => _ = books.ready.insert(version.lock),
        Err(reason) => _ = books.failed.insert(version.lock, reason),
    }
}
