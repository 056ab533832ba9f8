//! A job as its sender sees it: has it committed, has it ended.

use tokio::sync::watch;

use crate::coordinator::Status;

/// A job as it is run here, if it is.
pub(super) struct Watched {
    status: watch::Receiver<Status>,
    /// Epochs that it had committed at the last look.
    committed: u64,
    is_over: bool,
}

impl Watched {
    pub fn new(status: watch::Receiver<Status>) -> Self {
        Self { status, committed: u64::MAX, is_over: false }
    }

    pub fn is_over(&mut self) -> bool {
        self.is_over = self.status.has_changed().is_err() || self.status.borrow().is_over();
        self.is_over
    }

    /// Since the last look.
    pub fn has_committed(&mut self) -> bool {
        let committed = self.status.borrow_and_update().committed;
        std::mem::replace(&mut self.committed, committed) != committed
    }

    /// Until it commits an epoch or ends.
    pub async fn changed(&mut self) {
        let (committed, was_over) = (self.committed, self.is_over);
        let changed = |status: &Status| status.committed != committed || status.is_over() && !was_over;
        if self.status.wait_for(changed).await.is_err() && was_over {
            std::future::pending().await
        }
    }
}
