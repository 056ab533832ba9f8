//! Waiting: between two tries, and for calls that block a thread.

use std::time::Duration;

use crate::kafka::Config;

/// Growing pauses with jitter, and their limit.
pub(in crate::kafka) struct Retries {
    left: u64,
    pause: Duration,
}

impl Retries {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(5);

    pub(in crate::kafka) fn new(config: &Config) -> Self {
        Retries { left: config.retries, pause: Self::FIRST }
    }

    /// Waits before the next try; false if there is none.
    pub(in crate::kafka) async fn pause(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        tokio::time::sleep(self.pause.mul_f64(0.5 + rand::random::<f64>())).await;
        self.pause = (self.pause * 3).min(Self::LONGEST);
        true
    }
}

/// Runs what blocks on a thread where it may.
pub(in crate::kafka) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down and drops this future too.
        Err(_) => std::future::pending().await,
    }
}

/// The same for who cannot wait, such as `drop`; also without a runtime.
pub(in crate::kafka) fn in_background(work: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => drop(std::thread::spawn(work)),
    }
}
