//! `redpoll quarantine replay`: sends records again through the pipeline as it is now, and says what came of it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use redpoll_core::quarantine::Item;
use redpoll_scheduler::coordinator::Accepted;
use redpoll_scheduler::service::Wanted;
use serde_json::{Value, json};

use super::record::Record;
use super::{EXAMPLES, Of, read, select};
use crate::args::{ListFormat, Local, Place};
use crate::client::Error;
use crate::cluster::Cluster;
use crate::output::{self, paint};
use crate::progress;
use crate::values::counted;

const POLL: Duration = Duration::from_millis(200);
/// A scheduler that was killed and comes back takes less.
const PATIENCE: u32 = 600;
/// How often what a scheduler forgot, as it died before it logged it, is asked for again.
const ROUNDS: u32 = 5;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which records, as the list names them
    #[arg(required_unless_present = "all")]
    pub records: Vec<String>,
    /// Every record that was not sent again yet
    #[arg(long, env = "REDPOLL_ALL", conflicts_with = "records")]
    pub all: bool,
    /// The job that set them aside
    #[arg(long, env = "REDPOLL_JOB", value_name = "NAME")]
    pub job: String,
    /// Send those too that were sent again before; tables that have their rows get them twice
    #[arg(long, env = "REDPOLL_AGAIN")]
    pub again: bool,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

/// What became of the items that were asked for.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    replayed: u64,
    failed_again: u64,
    /// Not sent again.
    left: u64,
    epochs: BTreeSet<i64>,
}

pub async fn run(args: Args) -> Result<()> {
    let of = Of { job: Some(args.job.clone()), place: args.place.clone() };
    let all = read(&of).await?;
    let items = chosen(&all, &args)?;
    if items.is_empty() {
        return tell(&args, Accepted::default(), &Outcome::default());
    }
    let cluster = Cluster::of(&args.place, &args.local).await?;
    let sent = send(&cluster, &args, &items, &of).await;
    cluster.close().await;
    let (accepted, outcome) = sent?;
    tell(&args, accepted, &outcome)?;
    match outcome.left {
        0 => Ok(()),
        left => bail!("{} not sent again; ask once more", counted(left, "item")),
    }
}

/// The items that are meant: what becomes of them is told.
fn chosen(all: &[Record], args: &Args) -> Result<Vec<Item>> {
    let chosen = match args.all {
        true => all.iter().filter(|record| args.again || record.status == "set aside").collect(),
        false => select(all, &args.records)?,
    };
    Ok(chosen.iter().map(|record| record.item).collect())
}

/// Asks until everything is sent again, once if that is to be done whatever was done before.
async fn send(cluster: &Cluster, args: &Args, items: &[Item], of: &Of) -> Result<(Accepted, Outcome)> {
    let named = if args.all { Vec::new() } else { items.to_vec() };
    let wanted = Wanted { items: named, all: args.all, again: args.again };
    let mut first = None;
    let mut outcome = Outcome::default();
    for _ in 0..ROUNDS {
        let accepted = ask(cluster, &args.job, &wanted, first.is_some()).await?;
        first.get_or_insert(accepted);
        if accepted.records > 0 {
            progress::say(format!("{}: {} on the way again", args.job, counted(accepted.records, "record")));
        }
        until_committed(cluster, &args.job).await?;
        outcome = Outcome::of(&read_patiently(of).await?, items);
        if outcome.left == 0 || args.again {
            break;
        }
    }
    Ok((first.unwrap_or_default(), outcome))
}

/// A job that is just beginning or ending is asked a moment later, and so is a scheduler that has answered before.
async fn ask(cluster: &Cluster, job: &str, wanted: &Wanted, has_answered: bool) -> Result<Accepted> {
    let mut tries = 0;
    let passes = |error: &Error| error.is_conflict() || (has_answered && matches!(error, Error::Unreachable { .. }));
    loop {
        match cluster.client.replay(job, wanted).await {
            Err(error) if passes(&error) && tries < PATIENCE => tries += 1,
            answer => return Ok(answer?),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A scheduler that was just started again has no executors for a moment, and so no answer.
async fn read_patiently(of: &Of) -> Result<Vec<Record>> {
    let mut tries = 0;
    loop {
        match read(of).await {
            Err(_) if of.place.scheduler.is_some() && tries < PATIENCE => tries += 1,
            answer => return answer,
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until nothing that was asked for is under way. A scheduler that is started again is waited for.
async fn until_committed(cluster: &Cluster, job: &str) -> Result<()> {
    let mut missed = 0;
    loop {
        match cluster.client.job(job).await {
            Ok(status) if status.state == "failed" => {
                bail!("job {job} failed: {}", status.reason.unwrap_or_default())
            }
            Ok(status) if status.is_over() || status.replaying == 0 => return Ok(()),
            Ok(_) => missed = 0,
            Err(Error::Unreachable { .. }) if missed < PATIENCE => missed += 1,
            Err(error) => {
                return Err(error).with_context(|| format!("job {job} was lost from sight; it may still run"));
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

impl Outcome {
    fn of(records: &[Record], items: &[Item]) -> Self {
        let items: BTreeSet<Item> = items.iter().copied().collect();
        let mut outcome = Self::default();
        for record in records.iter().filter(|record| items.contains(&record.item)) {
            let count = match record.status.as_str() {
                "replayed" => &mut outcome.replayed,
                "failed again" => &mut outcome.failed_again,
                _ => &mut outcome.left,
            };
            *count += 1;
            outcome.epochs.extend(record.replayed_in);
        }
        outcome
    }

    fn json(&self, job: &str, accepted: Accepted) -> Value {
        json!({
            "job": job, "records": accepted.records, "left_out": accepted.left_out, "replayed": self.replayed,
            "failed_again": self.failed_again, "left": self.left, "epochs": self.epochs,
        })
    }
}

fn tell(args: &Args, accepted: Accepted, outcome: &Outcome) -> Result<()> {
    if args.format == ListFormat::Json {
        return Ok(output::line(outcome.json(&args.job, accepted).to_string())?);
    }
    let mut text = match (accepted.records, accepted.left_out) {
        (0, 0) => format!("{}: nothing is left to be sent again\n", args.job),
        (0, n) => format!("{}: {} sent again before; --again sends them once more\n", args.job, counted(n, "record")),
        (n, _) => {
            let epochs: Vec<String> = outcome.epochs.iter().map(i64::to_string).collect();
            format!(
                "{} {}: {} sent again in epoch {}\n",
                paint::good("✓"),
                args.job,
                counted(n, "record"),
                epochs.join(", ")
            )
        }
    };
    if outcome.failed_again > 0 {
        let failed = paint::warning(format!("! {} failed again", counted(outcome.failed_again, "item")));
        let list = format!("redpoll quarantine list --job {} {}", args.job, args.place.as_options());
        text += &format!("{failed}: {}\n", paint::command(list));
    }
    Ok(output::text(text)?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    fn item(row: u32, status: &str, epoch: Option<i64>) -> Record {
        let record = record("torn");
        let item = Item { row, ..record.item };
        Record { item, status: status.into(), replayed_in: epoch, ..record }
    }

    #[test]
    fn the_outcome_counts_what_was_asked_for_and_nothing_else() {
        let records = [
            item(0, "replayed", Some(3)),
            item(1, "failed again", Some(3)),
            item(2, "set aside", None),
            item(3, "replayed", Some(4)),
        ];
        let items: Vec<Item> = records[..3].iter().map(|record| record.item).collect();
        let outcome = Outcome::of(&records, &items);
        let expected = Outcome { replayed: 1, failed_again: 1, left: 1, epochs: [3].into() };
        assert_eq!(outcome, expected);
        let json = outcome.json("ztf", Accepted { records: 3, left_out: 1 });
        assert_eq!((&json["failed_again"], &json["epochs"]), (&json!(1), &json!([3])));
    }
}
