//! `redpoll ledger`: what became of every alert, read straight from the logs of the jobs; and its audit.

mod audit;

use anyhow::Result;
use clap::Subcommand;
use redpoll_core::ledger::Line;
use redpoll_core::revision::Revised;
use serde_json::Value;

use crate::args::{ListFormat, Place};
use crate::client::Client;
use crate::output::{self, table};
use crate::warehouse::Warehouse;

const EXAMPLES: &str = "\
Examples:
  redpoll ledger
  redpoll ledger --job ztf-night --format json | jq '.[].kept'
  redpoll ledger audit --job ztf-night
  redpoll sql \"SELECT * FROM redpoll.ledger\"

For each epoch: fetched = decoded + quarantined (records), alerts = kept + cut + unknown, where unknown is a rule that \
is NULL. Rows are listed for each sink.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Only this job's
    #[arg(long, env = "REDPOLL_JOB", value_name = "NAME")]
    pub job: Option<String>,
    /// Form of the ledger on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read a job's sources and sinks again, and name every alert that is missing, doubled or unexpected
    Audit(audit::Args),
}

pub async fn run(args: Args) -> Result<()> {
    if let Some(Command::Audit(args)) = args.command {
        return audit::run(args).await;
    }
    let jobs = read(&args.place, args.job.as_deref()).await?;
    match args.format {
        ListFormat::Json => output::line(serde_json::to_string(&json(&jobs)?)?)?,
        ListFormat::Table if jobs.is_empty() => output::line("no job has run in this warehouse")?,
        ListFormat::Table => {
            let width = table::terminal_width();
            let texts: Vec<String> =
                jobs.iter().map(|told| output::ledger::render(&told.job, &told.lines, &told.revised, width)).collect();
            output::text(texts.join("\n"))?;
        }
    }
    Ok(())
}

/// A job's part of the ledger.
struct Told {
    job: String,
    lines: Vec<Line>,
    revised: Vec<Revised>,
}

async fn read(place: &Place, job: Option<&str>) -> Result<Vec<Told>> {
    let mut jobs = Vec::new();
    if let Some(url) = &place.scheduler {
        let client = Client::new(url.clone())?;
        let names = match job {
            Some(job) => vec![job.to_owned()],
            None => client.jobs().await?.into_iter().map(|status| status.name).collect(),
        };
        for job in names {
            let (lines, revised) = (client.ledger(&job).await?, client.revisions(&job).await?);
            jobs.push(Told { job, lines, revised });
        }
        return Ok(jobs);
    }
    let warehouse = Warehouse::existing(&place.warehouse)?;
    for job in warehouse.select(job).await? {
        let (lines, revised) = (warehouse.ledger(&job).await?, warehouse.fold(&job).await?.revisions);
        jobs.push(Told { job, lines, revised });
    }
    Ok(jobs)
}

/// One array of lines, each with its job.
fn json(jobs: &[Told]) -> serde_json::Result<Vec<Value>> {
    let mut all = Vec::new();
    for Told { job, lines, .. } in jobs {
        for line in lines {
            let mut value = serde_json::to_value(line)?;
            value["job"] = job.as_str().into();
            all.push(value);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ledger::tests::line;

    #[test]
    fn lines_of_all_jobs_are_one_array_and_name_their_job() {
        let told = |job: &str, lines| Told { job: job.to_owned(), lines, revised: vec![] };
        let rows = json(&[told("a", vec![line(0, 0)]), told("b", vec![line(0, 1), line(1, 0)])]).unwrap();
        let jobs: Vec<&str> = rows.iter().filter_map(|row| row["job"].as_str()).collect();
        assert_eq!(jobs, ["a", "b", "b"]);
        assert_eq!((&rows[1]["quarantined"], &rows[1]["unknown"]["candidate.rb >= 0.55"]), (&1.into(), &10.into()));
    }
}
