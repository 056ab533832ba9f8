//! What is in a job's way: which step does not work, since when, how often it was tried, and what to do about it.
//!
//! It is told to those who watch, and ends with the first try that works.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A step of a job that may fail and is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Taking the job up after a start of the scheduler.
    Begin,
    /// Asking the source what there is.
    Source,
    /// Writing the job's log.
    Log,
    /// Reading what attempts left.
    Receipts,
    /// Running an epoch.
    Run,
    /// Committing to the archive.
    Publish,
    /// Planning for fields that alerts turned out to have.
    Plan,
    /// The source no longer holds what is to be read: the operator is asked.
    Expired,
}

/// Reasons that say what to do by themselves, whatever step they stop.
const KNOWN: [(&str, &str); 3] = [
    ("No space left on device", "make room on that disk; nothing is lost, and the job goes on by itself"),
    ("created anew", "stop the job, and run its pipeline under another --name to read the new topic"),
    ("the topic is missing", "create the topic, or stop the job; it reads on by itself once the topic is back"),
];

/// A step that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub step: Step,
    pub reason: String,
    /// The first failure, milliseconds since 1970-01-01 UTC.
    pub since: i64,
    /// How often it has failed in a row.
    pub tries: u32,
    /// The next try, milliseconds since 1970-01-01 UTC.
    pub next: i64,
    pub remedy: String,
}

impl Step {
    pub const ALL: [Step; 8] =
        [Step::Begin, Step::Source, Step::Log, Step::Receipts, Step::Run, Step::Publish, Step::Plan, Step::Expired];

    /// As in `source`, for labels.
    pub fn name(self) -> &'static str {
        match self {
            Step::Begin => "begin",
            Step::Source => "source",
            Step::Log => "log",
            Step::Receipts => "receipts",
            Step::Run => "run",
            Step::Publish => "publish",
            Step::Plan => "plan",
            Step::Expired => "expired",
        }
    }

    /// What its user can do when it fails for this reason.
    pub fn remedy(self, reason: &str) -> &'static str {
        let known = KNOWN.iter().find(|(words, _)| reason.contains(words));
        if let Some((_, remedy)) = known.filter(|_| self != Step::Expired) {
            return remedy;
        }
        match self {
            Step::Begin => "see the reason; the job is taken up by itself once what it needs answers",
            Step::Source => "see that the source can be reached; the job reads on by itself from where it stands",
            Step::Log | Step::Receipts => {
                "see that the object store of the warehouse answers; nothing is lost, and the job goes on by itself"
            }
            Step::Run => "see the reason and the executors' logs; the epoch is run again by itself",
            Step::Publish => {
                "see that the object store of the archive answers; what is prepared waits and is published by itself"
            }
            Step::Plan => "see the reason; new fields are planned for by itself once what that needs answers",
            Step::Expired => {
                "`redpoll resume JOB --skip` goes on without them and names them in the ledger; `--rerun` tries them once \
                 more, where they were put back"
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Begin => "taking the job up",
            Step::Source => "asking the source",
            Step::Log => "writing the job's log",
            Step::Receipts => "reading receipts",
            Step::Run => "running the epoch",
            Step::Publish => "publishing to the archive",
            Step::Plan => "planning for new fields",
            Step::Expired => "reading what has expired",
        })
    }
}

impl Trouble {
    /// A further failure of a step, or the first one of another step.
    pub fn after(before: Option<Trouble>, step: Step, reason: String, now: i64, pause: std::time::Duration) -> Self {
        let before = before.filter(|before| before.step == step);
        Self {
            step,
            since: before.as_ref().map_or(now, |before| before.since),
            tries: before.map_or(0, |before| before.tries) + 1,
            next: now + i64::try_from(pause.as_millis()).unwrap_or(i64::MAX),
            remedy: step.remedy(&reason).to_owned(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tries_of_one_step_add_up_and_those_of_another_begin_anew() {
        let fail = |before, step, now| Trouble::after(before, step, "down".into(), now, Duration::from_secs(1));
        let first = fail(None, Step::Source, 1_000);
        let second = fail(Some(first.clone()), Step::Source, 5_000);
        assert_eq!((second.since, second.tries, second.next), (1_000, 2, 6_000));
        let other = fail(Some(second), Step::Log, 9_000);
        assert_eq!((other.since, other.tries), (9_000, 1));
    }

    #[test]
    fn a_full_disk_and_a_topic_that_is_another_have_their_own_remedies() {
        let full = "Generic LocalFileSystem error: No space left on device (os error 28)";
        assert!([Step::Log, Step::Run, Step::Publish].iter().all(|step| step.remedy(full).starts_with("make room")));
        assert!(Step::Source.remedy("topic ztf was deleted and created anew (…)").contains("another --name"));
        assert!(Step::Log.remedy("503").contains("object store"));
    }
}
