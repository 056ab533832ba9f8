//! What is deployed to a job while it runs: another plan, made ready beside the job and taken over between two epochs.
//!
//! The plan is made, its tables are prepared and its modules are warm before the job hears of it, so that taking it over
//! is one entry of the log.

use redpoll_core::ids::Epoch;
use redpoll_core::protocol::{Grown, Pipeline, Spec};
use redpoll_core::revision::{Change, Outline};
use tokio::sync::{mpsc, oneshot};

use super::revision::{Meant, changes};

/// Another plan for a job, ready to be run.
pub struct Swap {
    pub pipeline: Pipeline,
    pub outline: Outline,
    pub meant: Meant,
    /// What the job's alerts had when it was made.
    pub grown: Grown,
    /// Makes it the plan of the epochs that are run from now on. Called once the log says so.
    pub adopt: Box<dyn FnOnce() + Send + Sync>,
    pub answer: oneshot::Sender<Taken>,
}

/// What became of a swap. A job that ends, or gets a newer one, answers nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// From that epoch on, unless one was under way that could not pass without it.
    Over { revision: u32, first: Epoch, changes: Vec<Change> },
    /// No row differs by it.
    Same,
    /// The job is another than the one that it was planned for: plan it anew.
    Outdated,
}

/// The swaps of one job: one at most waits, a newer one takes its place, and one may be on its way into the log.
pub struct Swaps {
    asked: mpsc::Receiver<Swap>,
    waiting: Option<Swap>,
    logging: Option<(Swap, Spec)>,
}

impl Swaps {
    pub fn new(asked: mpsc::Receiver<Swap>) -> Self {
        Self { asked, waiting: None, logging: None }
    }

    /// Whether there is a newer one.
    pub fn has_come(&mut self) -> bool {
        let mut has_come = false;
        while let Ok(swap) = self.asked.try_recv() {
            self.waiting = Some(swap);
            has_come = true;
        }
        has_come
    }

    /// Waits for a newer one; nothing comes where nobody could ask.
    pub async fn comes(&mut self) -> Option<()> {
        self.waiting = Some(self.asked.recv().await?);
        Some(())
    }

    /// The spec that the log is to get after this one; none if nothing changes.
    pub fn after(&mut self, spec: &Spec) -> Option<Spec> {
        let swap = self.waiting.take()?;
        match swap.after(spec) {
            Ok(next) => {
                self.logging = Some((swap, next.clone()));
                Some(next)
            }
            Err(taken) => {
                if taken == Taken::Same {
                    (swap.adopt)();
                }
                // Who waits for the answer may be gone.
                _ = swap.answer.send(taken);
                None
            }
        }
    }

    /// The log has a spec: if it is that of a swap, its plan takes over. `first` is the first epoch that is planned by it.
    pub fn logged(&mut self, spec: &Spec, first: Epoch) {
        let Some((swap, _)) = self.logging.take_if(|(_, logged)| *logged == *spec) else { return };
        (swap.adopt)();
        let (revision, changes) = (spec.revision, spec.changes.clone());
        _ = swap.answer.send(Taken::Over { revision, first, changes });
    }
}

impl Swap {
    /// The spec after this one, or what the swap comes to without one.
    fn after(&self, spec: &Spec) -> Result<Spec, Taken> {
        let Self { pipeline, outline, meant, grown, .. } = self;
        if *grown != spec.grown {
            return Err(Taken::Outdated);
        }
        let before = spec.outline.as_ref();
        if spec.pipeline == *pipeline && before == Some(outline) {
            return Err(Taken::Same);
        }
        // A plan of another source is none of this job.
        let changes = before.map_or(Ok(Vec::new()), |before| changes(before, outline, meant));
        let changes = changes.map_err(|_| Taken::Outdated)?;
        let (revision, outline) = (spec.revision + 1, Some(outline.clone()));
        Ok(Spec { revision, pipeline: pipeline.clone(), outline, changes, moves: Vec::new(), ..spec.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    struct Desk {
        swaps: Swaps,
        ask: mpsc::Sender<Swap>,
        adopted: Arc<AtomicU32>,
    }

    fn desk() -> Desk {
        let (ask, asked) = mpsc::channel(4);
        Desk { swaps: Swaps::new(asked), ask, adopted: Arc::default() }
    }

    impl Desk {
        fn ask(&self, filter: &str, grown: Grown) -> oneshot::Receiver<Taken> {
            let (answer, answered) = oneshot::channel();
            let filters = [(filter.to_owned(), String::new())].into();
            let adopted = self.adopted.clone();
            let adopt = Box::new(move || _ = adopted.fetch_add(1, Relaxed));
            let (outline, meant) = (Outline::default(), Meant::default());
            let pipeline = Pipeline { filters, ..Pipeline::default() };
            self.ask.try_send(Swap { pipeline, outline, meant, grown, adopt, answer }).map_err(drop).unwrap();
            answered
        }

        fn adopted(&self) -> u32 {
            self.adopted.load(Relaxed)
        }
    }

    #[test]
    fn a_plan_takes_over_when_the_log_has_its_spec_and_not_by_another_one() {
        let mut desk = desk();
        let mut answered = desk.ask("bright", Grown::default());
        assert!(desk.swaps.has_come() && !desk.swaps.has_come());
        let next = desk.swaps.after(&Spec::default()).unwrap();
        assert_eq!((next.revision, next.pipeline.filters.len(), desk.adopted()), (1, 1, 0));
        desk.swaps.logged(&Spec { revision: 1, ..Spec::default() }, Epoch(4));
        assert_eq!(desk.adopted(), 0);
        // A newer one comes while the log does not answer: both take over, one after the other.
        desk.ask("brighter", Grown::default());
        assert!(desk.swaps.has_come());
        desk.swaps.logged(&next, Epoch(4));
        assert_eq!(desk.adopted(), 1);
        assert_eq!(answered.try_recv().unwrap(), Taken::Over { revision: 1, first: Epoch(4), changes: vec![] });
        assert_eq!(desk.swaps.after(&next).unwrap().revision, 2);
    }

    #[test]
    fn a_plan_for_alerts_that_have_grown_since_is_outdated() {
        let mut desk = desk();
        let mut answered = desk.ask("bright", Grown { closed: true, ..Grown::default() });
        desk.swaps.has_come();
        assert_eq!(desk.swaps.after(&Spec::default()), None);
        assert_eq!((answered.try_recv().unwrap(), desk.adopted()), (Taken::Outdated, 0));
    }
}
