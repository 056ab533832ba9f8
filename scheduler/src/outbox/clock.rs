//! The time that senders wait by: the machine's, or a test's that stands still.

use std::time::{Duration, Instant};

use async_trait::async_trait;

#[async_trait]
pub trait Clock: Send + Sync {
    /// Since some start.
    fn now(&self) -> Duration;

    /// Until [`Clock::now`] is this or later.
    async fn until(&self, time: Duration);
}

/// The machine's own, which nobody sets.
pub struct Monotonic(Instant);

impl Default for Monotonic {
    fn default() -> Self {
        Self(Instant::now())
    }
}

#[async_trait]
impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    async fn until(&self, time: Duration) {
        tokio::time::sleep(time.saturating_sub(self.now())).await;
    }
}
