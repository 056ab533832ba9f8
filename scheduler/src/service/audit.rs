//! The audit of a job: what its committed epochs should have written against what its sources and sinks hold now.
//!
//! Every epoch is computed again from its intent by a plan that writes nothing ([`epochs`]); every sink is read
//! ([`sinks`]); both sides go to buckets on disk ([`spill`]), where equal rows meet and what is left over is named
//! ([`compare`]). Memory is one bucket and one batch, whatever the night. What cannot be computed again is held against
//! the ledger's sums alone, and the report says so.

mod compare;
mod epochs;
mod lines;
mod plans;
mod quarantine;
mod report;
mod sinks;
mod spill;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use redpoll_core::ids::Epoch;
use redpoll_core::log::Fold;
use redpoll_core::source::OffsetRange;
use serde::{Deserialize, Serialize};

use super::jobs::job_names;
use super::{Error, Service};
use plans::Plans;
pub use report::{Finding, Kind, Report, SinkSums};
use sinks::{Sink, Tally};
use spill::Spill;

/// What is asked of an audit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Question {
    /// Only epochs that were planned on this UTC date, as the number YYYYMMDD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub night: Option<u32>,
    /// Most findings that are listed; all are counted.
    #[serde(default = "default_limit")]
    pub limit: usize,
}

pub const DEFAULT_LIMIT: usize = 1000;

fn default_limit() -> usize {
    DEFAULT_LIMIT
}

fn on_disk(error: std::io::Error) -> Error {
    Error::failed("temporary files of the audit", error)
}

/// An audit under way.
struct Audit<'a> {
    service: &'a Service,
    fold: Fold,
    plans: Plans<'a>,
    /// The epochs that are compared.
    epochs: BTreeSet<Epoch>,
    /// Those are all committed ones.
    whole: bool,
    sinks: Vec<Sink>,
    /// Names of sinks that other jobs of the warehouse write too.
    shared: BTreeSet<String>,
    /// The column that names an alert, by the newest pipeline.
    id: Option<String>,
    spill: Spill,
    /// Offsets of an epoch that the source no longer holds.
    gone: BTreeMap<Epoch, Vec<OffsetRange>>,
    /// Epochs and sinks whose rows the ledger's sums must answer for.
    tallies: HashMap<(Epoch, u16), Tally>,
    report: Report,
}

impl Service {
    /// Compares a job's committed epochs with its source and its sinks. Changes nothing. A call that is dropped ends.
    pub async fn audit(&self, job: &str, question: &Question) -> Result<Report, Error> {
        let log = self.log(job);
        let failed = |error: redpoll_core::log::Error| Error::failed(format!("the log of job {job}"), error);
        let fold = log.read().await.map_err(failed)?;
        if fold.next == 0 {
            return Err(Error::NoJob(job.to_owned()));
        }
        let mut report = Report::new(job, question);
        let survey = lines::survey(&log, &fold, question.night, &mut report).await?;
        if survey.epochs.is_empty() {
            report.note("no committed epoch is to be compared");
            return Ok(report);
        }
        let spill = Spill::new(survey.rows).map_err(on_disk)?;
        let plans = Plans::new(self, job);
        let id = match &fold.spec {
            Some(spec) => {
                plans.of(Some(spec), spec.revision).await.ok().and_then(|plan| plan.compiled.id().map(str::to_owned))
            }
            None => None,
        };
        let mut audit = Audit {
            service: self,
            plans,
            id,
            shared: self.sinks_of_others(job).await?,
            whole: question.night.is_none(),
            epochs: survey.epochs,
            sinks: Vec::new(),
            spill,
            gone: BTreeMap::new(),
            tallies: HashMap::new(),
            report,
            fold,
        };
        audit.compute_again(survey.records).await?;
        audit.read_sinks().await?;
        audit.compare()
    }
}

impl Service {
    /// Names of the sinks that other jobs have written.
    async fn sinks_of_others(&self, job: &str) -> Result<BTreeSet<String>, Error> {
        let (store, warehouse) = self.objects();
        let names = job_names(store.as_ref(), warehouse).await.map_err(|error| Error::failed("jobs", error))?;
        let mut sinks = BTreeSet::new();
        for name in names.into_iter().filter(|name| name != job) {
            let fold = self.log(&name).read().await.map_err(|error| Error::failed(&name, error))?;
            sinks.extend(fold.sums.sinks.into_keys());
        }
        Ok(sinks)
    }
}

impl Audit<'_> {
    fn job(&self) -> &str {
        &self.report.job
    }

    fn job_uid(&self) -> String {
        self.fold.spec.as_ref().map(|spec| spec.uid.clone()).unwrap_or_default()
    }
}
