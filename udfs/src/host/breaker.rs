//! Which modules rest because their workers kept dying.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub struct Breaker(Mutex<HashMap<String, (Instant, String)>>);

impl Breaker {
    /// Lets a version of a module rest until then, by its fingerprint: the next version may be better.
    pub fn open(&self, module: &str, reason: &str, until: Instant) {
        self.0.lock().insert(module.to_string(), (until, reason.to_string()));
    }

    /// Why the module rests, if it does.
    pub fn reason(&self, module: &str, now: Instant) -> Option<String> {
        let mut resting = self.0.lock();
        match resting.get(module) {
            Some((until, reason)) if now < *until => Some(reason.clone()),
            Some(_) => {
                resting.remove(module);
                None
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_module_rests_until_its_time() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let minute = Duration::from_secs(60);
        breaker.open("it", "worker died: signal 9", now + minute);
        assert_eq!(breaker.reason("it", now).as_deref(), Some("worker died: signal 9"));
        assert_eq!(breaker.reason("other", now), None);
        assert_eq!(breaker.reason("it", now + minute), None);
    }
}
