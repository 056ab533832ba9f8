//! What a run did, from its start to its end, and the summary of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use redpoll_core::ledger::Line;
use redpoll_core::protocol::Pipeline;
use redpoll_scheduler::coordinator::{JobConfig, Status};
use serde_json::json;

use super::consent::{Consent, agree, tell};
use crate::args::Place;
use crate::client::{Client, Error};
use crate::cluster::Cluster;
use crate::output::ledger::{Totals, sums};
use crate::output::{paint, table};
use crate::values::{counted, grouped, span};
use crate::watch::{self, Ended};
use crate::{pipeline_file, progress};

/// What a run did.
pub struct Outcome {
    pub ended: Ended,
    /// Epochs of this run.
    pub lines: Vec<Line>,
    pub took: Duration,
}

/// Starts a job and stays until it ends.
pub async fn follow(cluster: &Cluster, config: &JobConfig, pipeline: &Pipeline, consent: Consent) -> Result<Outcome> {
    let client = &cluster.client;
    let n_before = match client.ledger(&config.name).await {
        Ok(lines) => lines.len(),
        Err(error) if error.is_missing() => 0,
        Err(error) => return Err(error.into()),
    };
    let begun = Instant::now();
    let first = start_job(client, config, pipeline, consent).await?;
    let ended = watch::until_ended(cluster, first).await?;
    let lines = client.ledger(&config.name).await?.split_off(n_before);
    Ok(Outcome { ended, lines, took: begun.elapsed() })
}

pub(super) async fn start_job(
    client: &Client,
    config: &JobConfig,
    pipeline: &Pipeline,
    consent: Consent,
) -> Result<Status> {
    // What is wrong is told by the submission itself.
    if let Ok(checked) = client.check(pipeline).await {
        progress::aside(|| eprint!("{}", pipeline_file::warn(&checked.warnings, &pipeline.text)));
    }
    let mut answer = client.submit(config, pipeline, None).await;
    if let Err(Error::Unconfirmed(revision)) = &answer {
        agree(&config.name, revision, consent)?;
        answer = client.submit(config, pipeline, Some(revision)).await;
    }
    match answer {
        Err(Error::Pipeline(problems)) => {
            progress::aside(|| eprint!("{}", pipeline_file::show(&problems, &pipeline.text)));
            bail!("{}: {}, nothing was run", problems.file, counted(problems.problems.len() as u64, "problem"))
        }
        answer => {
            let status = answer?;
            tell(&status);
            Ok(status)
        }
    }
}

impl Outcome {
    pub fn json(&self) -> serde_json::Value {
        let totals = Totals::of(&self.lines);
        let status = &self.ended.status;
        json!({
            "job": status.name, "state": status.state, "reason": status.reason, "seconds": self.took.as_secs_f64(),
            "epochs": totals.epochs, "fetched": totals.fetched, "absent": totals.absent, "decoded": totals.decoded,
            "quarantined": totals.quarantined, "kept": totals.kept, "cut": totals.cut, "unknown": totals.unknown,
            "sinks": totals.sinks, "failures": totals.failures, "refused": totals.refused,
            "withheld": totals.withheld,
        })
    }

    pub fn text(&self, place: &Place) -> String {
        let totals = Totals::of(&self.lines);
        let status = &self.ended.status;
        let rate = totals.decoded as f64 / self.took.as_secs_f64().max(0.001);
        let mut text = format!(
            "{} {}: {} in {} of {}, {}/s\n",
            if status.state == "failed" { paint::warning("✗") } else { paint::good("✓") },
            paint::bold(&status.name),
            counted(totals.decoded, "alert"),
            span(self.took),
            counted(totals.epochs, "epoch"),
            grouped(rate.round() as u64),
        );
        if totals.fetched == 0 {
            text += "  nothing new at the source; what was read before is in the ledger\n";
            return text;
        }
        let sum = |rules: &BTreeMap<String, u64>| rules.values().sum::<u64>();
        let _ = writeln!(
            text,
            "  {} kept, {} cut, {} unknown\n\n{}",
            grouped(totals.kept),
            grouped(sum(&totals.cut)),
            grouped(sum(&totals.unknown)),
            sums(&totals, table::terminal_width()),
        );
        text += &warnings(&totals, &status.name, place);
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

/// What did not go as the night's people hope, and the command that shows it.
fn warnings(totals: &Totals, job: &str, place: &Place) -> String {
    let mut text = String::new();
    let list = || paint::command(format!("redpoll quarantine list --job {job} {}", place.as_options()));
    if totals.quarantined > 0 {
        let were = if totals.quarantined == 1 { "was" } else { "were" };
        let what = format!("! {} did not decode and {were} set aside", counted(totals.quarantined, "record"));
        let _ = writeln!(text, "{}: {}", paint::warning(what), list());
    }
    for (sink, rows) in &totals.refused {
        let what = format!("! {sink} refused {}, set aside", counted(*rows, "row"));
        let _ = writeln!(text, "{}: {}", paint::warning(what), list());
    }
    for (by, rows) in &totals.withheld {
        let by = if by.starts_with("view ") { by.clone() } else { format!("module {by}") };
        let what = format!("! {} set aside where {by} failed", counted(*rows, "alert"));
        let _ = writeln!(text, "{}: {}", paint::warning(what), list());
    }
    for (module, rows) in &totals.failures {
        let what = format!("! module {module} failed on {}", counted(*rows, "row"));
        let _ = writeln!(text, "{}: its values are null there, the reasons are in redpoll_notes", paint::warning(what));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ledger::tests::line;

    fn outcome(quarantined: u64) -> Outcome {
        let status = Status { name: "ztf-night".into(), state: "stopped".into(), ..Status::default() };
        let ended = Ended { status, interrupted: false };
        Outcome { ended, lines: vec![line(0, quarantined)], took: Duration::from_secs(2) }
    }

    #[test]
    fn the_summary_warns_of_quarantined_records_and_says_how_to_see_them() {
        let place = Place { warehouse: "/data/w".into(), scheduler: None };
        let text = outcome(3).text(&place);
        assert!(text.starts_with("✓ ztf-night: 997 alerts in 2.0 s of 1 epoch, 499/s\n"), "{text}");
        assert!(text.contains("897 kept, 90 cut, 10 unknown"), "{text}");
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            "! 3 records did not decode and were set aside: redpoll quarantine list --job ztf-night --warehouse /data/w"
        );
        assert!(!outcome(0).text(&place).contains("set aside"));
    }

    #[test]
    fn the_summary_as_json_has_the_ledgers_words() {
        let json = outcome(3).json();
        assert_eq!((&json["decoded"], &json["cut"]["candidate.nbad = 0"]), (&json!(997), &json!(60)));
    }
}
