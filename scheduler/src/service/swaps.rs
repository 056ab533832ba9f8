//! Running jobs brought to what is deployed: planned anew beside the job, made ready, and handed over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redpoll_core::protocol::Spec;
use redpoll_core::sink::SinkSpec;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use super::deployed::Current;
use super::growth::JobPlanner;
use super::modules::Outcome;
use super::{Error, Service};
use crate::coordinator::growth::{self, Planner};
use crate::coordinator::{Cluster, Swap, Taken};
use crate::pipeline::Compiled;

/// How long whoever deploys is kept waiting for the end of an epoch. The job takes it over whenever that comes.
const EPOCH_END: Duration = Duration::from_secs(10);
/// How often a plan is made again for alerts that have grown meanwhile.
const TRIES: u32 = 3;

/// What a running job runs by.
#[derive(Clone)]
pub(super) struct Live {
    pub cluster: Arc<Cluster>,
    pub planner: Arc<JobPlanner>,
    pub lanes: u32,
    /// Of the state of what is deployed that it is at.
    pub number: u64,
    /// Why it is not as it says, if it is not.
    pub refused: Option<String>,
}

/// A plan for a job, ready but for its tables and modules.
pub(super) struct Replanned {
    spec: Spec,
    compiled: Compiled,
    planner: Arc<JobPlanner>,
}

impl Service {
    /// Brings every running job to what is deployed, unless it is at that already. What came of it, by job.
    pub(super) async fn bring_jobs_to(&self, current: &Current) -> BTreeMap<String, Outcome> {
        let mut outcomes = BTreeMap::new();
        for (job, live) in self.live_jobs().await {
            if live.number < current.state.number {
                let outcome = self.bring(&job, live, current).await;
                outcomes.insert(job, outcome);
            }
        }
        outcomes
    }

    pub(super) async fn live_jobs(&self) -> Vec<(String, Live)> {
        let jobs = self.inner.jobs.lock().await;
        let running = jobs.iter().filter(|(_, job)| !job.is_over());
        running.filter_map(|(name, job)| Some((name.clone(), job.live.clone()?))).collect()
    }

    async fn bring(&self, job: &str, live: Live, current: &Current) -> Outcome {
        let mut outcome = Outcome::Pending;
        for _ in 0..TRIES {
            outcome = match self.replan(job, &live, current).await {
                Ok(None) => Outcome::Unchanged,
                Ok(Some(replanned)) => match self.hand_over_plan(job, &live, replanned, current).await {
                    Ok(None) => continue,
                    Ok(Some(outcome)) => outcome,
                    Err(error) => refused(error),
                },
                Err(error) => refused(error),
            };
            break;
        }
        match &outcome {
            Outcome::Refused { reason } => warn!(job, reason, "what is deployed is refused; the job goes on as it was"),
            // Asked again at the next look.
            Outcome::Failed { reason } => {
                warn!(job, reason, "what is deployed is not taken over yet");
                return outcome;
            }
            Outcome::Taken { revision, epoch, .. } => info!(job, revision, epoch, "what is deployed is taken over"),
            Outcome::Unchanged | Outcome::Pending => {}
        }
        let reason = match &outcome {
            Outcome::Refused { reason } => Some(reason.clone()),
            _ => None,
        };
        self.note_live(job, |live| (live.number, live.refused) = (current.state.number, reason)).await;
        outcome
    }

    async fn note_live(&self, job: &str, note: impl FnOnce(&mut Live)) {
        if let Some(live) = self.inner.jobs.lock().await.get_mut(job).and_then(|job| job.live.as_mut()) {
            note(live);
        }
    }

    /// A plan of the job with what is deployed; none if it is planned so already.
    pub(super) async fn replan(&self, job: &str, live: &Live, current: &Current) -> Result<Option<Replanned>, Error> {
        let pipeline = current.pipeline(job, live.planner.pipeline().clone())?;
        let now = live.cluster.compiled();
        let is_same = |(name, lock): (&String, &String)| {
            current.registry.get(name).is_ok_and(|module| module.fingerprint == *lock)
        };
        if pipeline == *live.planner.pipeline() && now.modules.iter().all(is_same) {
            return Ok(None);
        }
        let fold = self.log(job).read().await.map_err(|error| Error::failed(job, error))?;
        let spec = fold.spec.ok_or_else(|| Error::failed(job, "its log has no spec"))?;
        let planner = Arc::new(live.planner.for_swap(pipeline, current.registry.clone(), &now));
        let compiled = planner.plan(&spec.grown).await.map_err(|error| match error {
            growth::Error::Moment(reason) => Error::failed(job, reason),
            growth::Error::Problems(problems) => Error::Pipeline(problems),
            error => Error::Refused(error.to_string()),
        })?;
        Ok(Some(Replanned { spec, compiled, planner }))
    }

    /// Makes ready what a plan needs and gives it to the job; nothing comes back if the job is another by now.
    async fn hand_over_plan(
        &self,
        job: &str,
        live: &Live,
        replanned: Replanned,
        current: &Current,
    ) -> Result<Option<Outcome>, Error> {
        let Replanned { spec, compiled, planner } = replanned;
        self.ready(&compiled, &current.registry).await?;
        let now = live.cluster.compiled();
        let is_known = |sink: &SinkSpec| now.sinks.iter().any(|(known, _)| known == sink);
        let new: Vec<_> = compiled.sinks.iter().filter(|(sink, _)| !is_known(sink)).cloned().collect();
        self.prepare_sinks(&new, live.lanes).await?;
        let (answer, answered) = oneshot::channel();
        let (outline, pipeline, grown) = (compiled.outline(), planner.pipeline().clone(), spec.grown);
        let meant = current.meant(Some(live.planner.pipeline()), &pipeline);
        let (cluster, adopted) = (live.cluster.clone(), planner.clone());
        let adopt = Box::new(move || cluster.adopt(compiled, adopted));
        let swap = Swap { pipeline, outline, meant, grown, adopt, answer };
        let swaps = self.inner.jobs.lock().await.get(job).map(|job| job.swaps.clone());
        let Some(swaps) = swaps else { return Ok(Some(Outcome::Unchanged)) };
        swaps.try_send(swap).map_err(|_| Error::Busy(job.to_owned()))?;
        let taken = timeout(EPOCH_END, answered).await;
        if !matches!(taken, Ok(Ok(Taken::Outdated))) {
            self.note_live(job, |live| live.planner = planner).await;
        }
        Ok(match taken {
            Ok(Ok(Taken::Over { revision, first, changes })) => {
                let changes = changes.iter().map(ToString::to_string).collect();
                Some(Outcome::Taken { revision, epoch: first.0, changes })
            }
            Ok(Ok(Taken::Same)) => Some(Outcome::Unchanged),
            Ok(Ok(Taken::Outdated)) => None,
            // A job that ends takes nothing over.
            Ok(Err(_)) => Some(Outcome::Unchanged),
            Err(_) => Some(Outcome::Pending),
        })
    }
}

fn refused(error: Error) -> Outcome {
    let reason = error.to_string();
    match error {
        Error::Pipeline(_) | Error::Refused(_) => Outcome::Refused { reason },
        _ => Outcome::Failed { reason },
    }
}
