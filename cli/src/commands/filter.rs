//! `redpoll filter`: topics of alerts that a condition picks, added to a job and taken from it while it runs.

mod add;
mod list;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Subcommand;
use redpoll_scheduler::service::Outcome;

use crate::args::{ListFormat, Local, Place};
use crate::cluster::Cluster;
use crate::output::{self, paint};
use crate::values::grouped;

const EXAMPLES: &str = "\
Examples:
  redpoll filter test bright --where 'candidate.magpsf < 16'
  redpoll filter add bright --where 'candidate.magpsf < 16' --topic fink_bright
  redpoll filter list
  redpoll filter remove bright

A filter belongs to a job and is no part of its file. A running job takes it over at the end of an epoch.";

const REMOVE_EXAMPLES: &str = "\
Examples:
  redpoll filter remove bright
  redpoll filter remove bright --scheduler http://host:50050

The topic stays, with the alerts that it has.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a filter to a job, after showing what it would have picked of a past night
    Add(add::Args),
    /// Check a filter, and show what it would have picked of a past night
    Test(add::TestArgs),
    /// List the filters of all jobs
    List(list::Args),
    /// Take a filter from its job
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    /// The filter
    pub name: String,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

pub async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Add(args) => add::add(args).await,
        Command::Test(args) => add::test(args).await,
        Command::List(args) => list::run(args).await,
        Command::Remove(args) => remove(args).await,
    }
}

async fn remove(args: RemoveArgs) -> Result<()> {
    let cluster = Cluster::of(&args.place, &args.local).await?;
    let removed = cluster.client.remove_filter(&args.name).await;
    cluster.close().await;
    let outcomes = removed?;
    match args.format {
        ListFormat::Json => output::line(serde_json::to_string(&outcomes)?)?,
        ListFormat::Table => {
            output::line(format!("{} filter {} is removed", paint::good("✓"), paint::bold(&args.name)))?;
            output::text(told(&outcomes))?;
        }
    }
    Ok(())
}

/// What running jobs made of a change, a line each.
pub fn told(jobs: &BTreeMap<String, Outcome>) -> String {
    jobs.iter().map(|(job, outcome)| format!("  {}\n", one(job, outcome))).collect()
}

fn one(job: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Taken { revision, epoch, .. } => {
            format!("job {job} runs by it from epoch {} on, as revision {revision}", grouped(*epoch))
        }
        Outcome::Unchanged => format!("job {job} goes on unchanged"),
        Outcome::Pending => format!("job {job} takes it over at the end of the epoch under way"),
        Outcome::Refused { reason } => format!("job {job} goes on as it was: {reason}"),
        Outcome::Failed { reason } => format!("job {job} goes on as it was, and tries again: {reason}"),
    }
}
