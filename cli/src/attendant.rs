//! An executor's side of deployments: it asks the scheduler which versions of modules to make ready, and says which are.
//!
//! So a version is fetched, its environment built and its workers warm before an epoch calls it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redpoll_core::runtime::{Runtime as _, Version};
use redpoll_executor::Runtime;
use redpoll_scheduler::service::Attendance;
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
    let (books, mut begun) = (Books::default(), BTreeSet::new());
    loop {
        let attendance = books.open().clone();
        // A scheduler that is away, or of an older version, is asked again: epochs then fetch what they call.
        if let Ok(awaited) = client.attend(runtime.executor(), &attendance).await {
            for version in awaited.versions {
                if begun.insert(version.lock.clone()) {
                    tokio::spawn(make_ready(runtime.clone(), version, books.clone()));
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Tries until the version is ready; in between the reason is told.
async fn make_ready(runtime: Arc<Runtime>, version: Version, books: Books) {
    loop {
        match runtime.prepare(&version).await {
            Ok(()) => break,
            Err(reason) => _ = books.open().failed.insert(version.lock.clone(), reason),
        }
        tokio::time::sleep(RETRY).await;
    }
    let mut books = books.open();
    books.failed.remove(&version.lock);
    books.ready.insert(version.lock);
}
