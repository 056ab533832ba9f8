//! `redpoll ledger audit`: is in every sink what should be there, each alert once?

use std::io::IsTerminal;

use anyhow::Result;
use redpoll_scheduler::service::{DEFAULT_LIMIT, Question, Report};

use crate::args::{ListFormat, Local, Place};
use crate::cluster::Cluster;
use crate::exit::{Told, Usage};
use crate::output;
use crate::progress;
use crate::warehouse::Warehouse;

const EXAMPLES: &str = "\
Examples:
  redpoll ledger audit --job ztf-night
  redpoll ledger audit --job ztf-night --night 20260102 \\
      --scheduler http://scheduler:50050
  redpoll ledger audit --job ztf-night --format json | jq .findings

Every committed epoch is computed again from the same offsets, pipeline and clock, and nothing is written. Then every \
sink is read and compared: archive tables by the position of each row, topics by the headers of each record as a reader \
of committed records sees them, topics in folders by the bytes of each alert, wide-column tables by row key. Findings \
name the alert by its id where the table of alerts has OPTIONS ('id' 'COLUMN'). Exit code 1 if anything is found.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Whose alerts are looked for
    #[arg(long, env = "REDPOLL_JOB", value_name = "NAME")]
    pub job: String,
    /// Only epochs that were planned on this UTC date, such as 20260102
    #[arg(long, env = "REDPOLL_NIGHT", value_name = "YYYYMMDD")]
    pub night: Option<u32>,
    /// Most findings to list; all are counted
    #[arg(long, env = "REDPOLL_LIMIT", value_name = "N", default_value_t = DEFAULT_LIMIT)]
    pub limit: usize,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

pub async fn run(args: Args) -> Result<()> {
    if let Some(night) = args.night.filter(|night| !is_date(*night)) {
        return Err(Usage(format!("--night {night} is no date; write YYYYMMDD, such as 20260102")).into());
    }
    if args.place.scheduler.is_none() {
        Warehouse::existing(&args.place.warehouse)?.select(Some(&args.job)).await?;
    }
    let cluster = Cluster::of(&args.place, &args.local).await?;
    let question = Question { night: args.night, limit: args.limit };
    let spinner = std::io::stderr().is_terminal().then(|| progress::spinner("reading everything again"));
    let report = cluster.client.audit(&args.job, &question).await;
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    cluster.close().await;
    tell(&report?, args.format)
}

fn tell(report: &Report, format: ListFormat) -> Result<()> {
    match format {
        ListFormat::Json => output::line(serde_json::to_string(report)?)?,
        ListFormat::Table => output::text(output::audit::render(report, output::table::terminal_width()))?,
    }
    match report.is_clean() {
        true => Ok(()),
        false => Err(Told(1).into()),
    }
}

fn is_date(night: u32) -> bool {
    let (year, month, day) = (night / 10_000, night / 100 % 100, night % 100);
    chrono::NaiveDate::from_ymd_opt(year as i32, month, day).is_some() && year < 10_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_is_a_date() {
        assert!(is_date(20260102) && is_date(20240229));
        assert!(!is_date(20260230) && !is_date(2026) && !is_date(20261301));
    }
}
