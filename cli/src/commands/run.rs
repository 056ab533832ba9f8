//! `redpoll run`: submits a pipeline as a job, stays with it where that makes sense, and says what came of it.

mod consent;
mod outcome;

use std::time::Duration;

use anyhow::{Result, bail};
use chrono::{DateTime, Utc};
use redpoll_core::protocol::Pipeline;
use redpoll_core::source::Offsets;
use redpoll_scheduler::coordinator::{JobConfig, Mode, OnExpired, Point, Policy, Status};

use super::outbox::see_off;
use crate::args::{Local, Place};
use crate::cluster::Cluster;
use crate::exit::{INTERRUPTED, Told, Usage};
use crate::output::{self, paint};
use crate::pipeline_file::{self, PipelineArgs};
use crate::progress;
use crate::values::{self, Where};

pub use consent::Consent;
use outcome::start_job;
pub use outcome::{Outcome, follow};

const EXAMPLES: &str = "\
Examples:
  redpoll run pipelines/ztf/night.sql --set source=./night \\
      --set topics=./topics --available-now
  redpoll run pipelines/ztf/night.sql \\
      --set source=kafka://broker:9092/ztf_20260102 --until +10h
  redpoll run pipelines/lsst/night.sql --trigger 2s \\
      --scheduler http://scheduler:50050
  redpoll run pipelines/ztf/night.sql --name ztf-again \\
      --from 2026-01-02T03:00 --to 2026-01-02T05:00
  redpoll run pipelines/ztf/night.sql --from 'ztf[0]@1200,ztf[1]@1180'

A job that is run again continues where it ended, also with a changed file. Where rows would differ it shows what \
changes and asks first. Ctrl-C ends the epoch under way first; twice, it quits at once. \
Without --scheduler the job lives in this process.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Name of the job; by default the folder and name of the file, as in ztf-night
    #[arg(long, env = "REDPOLL_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// End when everything that the source holds now is read
    #[arg(long, env = "REDPOLL_AVAILABLE_NOW", conflicts_with = "until", help_heading = "When")]
    pub available_now: bool,
    /// End at this time (UTC), such as 2026-01-02T14:00, or +8h from now
    #[arg(long, env = "REDPOLL_UNTIL", value_name = "TIME", value_parser = values::time, help_heading = "When")]
    pub until: Option<DateTime<Utc>>,
    /// Least time between the starts of two epochs
    #[arg(long, env = "REDPOLL_TRIGGER", value_name = "SPAN", value_parser = values::duration, default_value = "200ms", help_heading = "When")]
    pub trigger: Duration,
    /// Where a new job begins: earliest (the default), latest, a time (UTC), or offsets of topics as in ztf[0]@100,ztf[1]@80
    ///
    /// A job that was run before is set there, if it did not begin there or was set there last: positions are then read
    /// again or skipped, which is shown and asked. Topic partitions that are not named stay where they are.
    #[arg(long, env = "REDPOLL_FROM", value_name = "WHERE", value_parser = values::position, value_delimiter = ',', help_heading = "When")]
    pub from: Vec<Where>,
    /// End before this point of the topics: a time that is past (UTC), or an offset for each topic partition
    #[arg(long, env = "REDPOLL_TO", value_name = "WHERE", value_parser = values::position, value_delimiter = ',', conflicts_with_all = ["available_now", "until"], help_heading = "When")]
    pub to: Vec<Where>,
    /// Longest time that finished epochs wait to be published in the archive together
    #[arg(long, env = "REDPOLL_ARCHIVE_INTERVAL", value_name = "SPAN", value_parser = values::duration, default_value = "60s", help_heading = "When")]
    pub archive_interval: Duration,
    /// Bytes of the source that one task reads, about
    #[arg(long, env = "REDPOLL_SPLIT_SIZE", value_name = "SIZE", value_parser = values::bytes, default_value = "16MiB", help_heading = "How")]
    pub split_size: u64,
    /// Most splits of an epoch, and writers to Kafka
    #[arg(long, env = "REDPOLL_LANES", value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value = "16", help_heading = "How")]
    pub lanes: u32,
    /// Agree to rows that differ from now on, because the pipeline changed or by --from
    #[arg(long, env = "REDPOLL_YES", help_heading = "How")]
    pub yes: bool,
    /// What becomes of offsets that the source has deleted before they were read: fail asks the operator, skip goes on
    /// and names them in the ledger
    #[arg(long, env = "REDPOLL_ON_EXPIRED", value_enum, default_value = "fail", help_heading = "When something fails")]
    pub on_expired: Expired,
    /// Tries of a step, or runs of an epoch, before the job is said to be degraded; it is tried on
    #[arg(long, env = "REDPOLL_MAX_TRIES", value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value = "5", help_heading = "When something fails")]
    pub max_tries: u32,
    /// Longest pause between two tries; they begin at 200ms and double
    #[arg(long, env = "REDPOLL_MAX_PAUSE", value_name = "SPAN", value_parser = values::duration, default_value = "60s", help_heading = "When something fails")]
    pub max_pause: Duration,
    /// Group of executors that runs the job
    #[arg(long, env = "REDPOLL_GROUP", value_name = "GROUP", help_heading = "How")]
    pub group: Option<String>,
    /// Form of the summary on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "text")]
    pub format: Format,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// The point that the values of `--from` or `--to` make up together.
fn point(option: &str, positions: &[Where]) -> Result<Option<Point>, Usage> {
    match positions {
        [] => Ok(None),
        [Where::Earliest] => Ok(Some(Point::Earliest)),
        [Where::Latest] => Ok(Some(Point::Latest)),
        [Where::Time(time)] => Ok(Some(Point::Timestamp(time.timestamp_millis()))),
        several => {
            let mut offsets = Offsets::new();
            for position in several {
                let Where::Offset(at, offset) = position else {
                    return Err(Usage(format!("{option}: give one word or time, or offsets alone")));
                };
                if offsets.insert(at.clone(), *offset).is_some() {
                    return Err(Usage(format!("{option}: {at} is named twice")));
                }
            }
            Ok(Some(Point::Offsets(offsets)))
        }
    }
}

/// Where the job ends. What is still to come has no position yet.
fn end(positions: &[Where]) -> Result<Option<Point>, Usage> {
    let words = |text: &str| Err(Usage(format!("--to {text}")));
    match point("--to", positions)? {
        Some(Point::Earliest) => words("earliest: nothing lies before it"),
        Some(Point::Latest) => words("latest: give --available-now"),
        Some(Point::Timestamp(time)) if time > Utc::now().timestamp_millis() => {
            words("a time to come: alerts may still be dated before it; give --until, which ends the job at that time")
        }
        end => Ok(end),
    }
}

/// What becomes of offsets that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Expired {
    Fail,
    Skip,
}

impl Args {
    pub fn config(&self) -> Result<JobConfig, Usage> {
        let name = self.name.clone().unwrap_or_else(|| pipeline_file::job_name(&self.pipeline.file));
        check_name(&name)?;
        let mode = match (self.available_now, self.until) {
            (true, _) => Mode::AvailableNow,
            (_, None) => end(&self.to)?.map_or(Mode::Continuous, Mode::To),
            (_, Some(time)) if time <= Utc::now() => {
                return Err(Usage(format!("--until {}: this time is past", time.format("%Y-%m-%d %H:%M:%S UTC"))));
            }
            (_, Some(time)) => Mode::Until(time.timestamp_millis()),
        };
        let policy = Policy {
            mode: mode.clone(),
            trigger: self.trigger,
            archive_interval: self.archive_interval,
            max_tries: self.max_tries,
            max_pause: self.max_pause,
            on_expired: match self.on_expired {
                Expired::Fail => OnExpired::Fail,
                Expired::Skip => OnExpired::Skip,
            },
            ..Policy::default()
        };
        Ok(JobConfig {
            policy,
            from: point("--from", &self.from)?,
            split_bytes: self.split_size.max(1),
            lanes: self.lanes,
            group: self.group.clone(),
            ..JobConfig::new(&name, mode)
        })
    }
}

impl Args {
    fn consent(&self) -> Consent {
        if self.yes { Consent::Given } else { Consent::Ask }
    }
}

/// Jobs name folders and transactions, so their names are kept plain.
fn check_name(name: &str) -> Result<(), Usage> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !name.is_empty() && !name.starts_with('.') && name.chars().all(plain) {
        true => Ok(()),
        false => Err(Usage(format!("--name '{name}': use letters, digits, '-', '_' and '.', no '.' at the start"))),
    }
}

pub async fn run(args: Args) -> Result<()> {
    let config = args.config()?;
    let pipeline = args.pipeline.read()?;
    let cluster = Cluster::of(&args.place, &args.local).await?;
    let done = submit(&cluster, &args, &config, &pipeline).await;
    cluster.close().await;
    done
}

async fn submit(cluster: &Cluster, args: &Args, config: &JobConfig, pipeline: &Pipeline) -> Result<()> {
    if config.policy.mode == Mode::Continuous && !cluster.is_embedded() {
        let status = start_job(&cluster.client, config, pipeline, args.consent()).await?;
        return submitted(args, &status);
    }
    if config.policy.mode == Mode::Continuous {
        progress::say(format!("{} runs until Ctrl-C", config.name));
    }
    let outcome = follow(cluster, config, pipeline, args.consent()).await?;
    if cluster.is_embedded() && !outcome.ended.interrupted {
        see_off(cluster, &config.name).await?;
    }
    match args.format {
        Format::Json => output::line(outcome.json().to_string())?,
        Format::Text => output::text(outcome.text(&args.place))?,
    }
    if outcome.ended.status.state == "failed" {
        bail!("job {} failed: {}", config.name, outcome.ended.status.reason.as_deref().unwrap_or("it gave no reason"));
    }
    match outcome.ended.interrupted && config.policy.mode != Mode::Continuous {
        true => Err(Told(INTERRUPTED).into()),
        false => Ok(()),
    }
}

fn submitted(args: &Args, status: &Status) -> Result<()> {
    if args.format == Format::Json {
        output::line(serde_json::to_string(status)?)?;
        return Ok(());
    }
    output::line(format!("job {} is {}", status.name, status.state))?;
    let call = |verb: &str| paint::command(format!("redpoll {verb} {} {}", status.name, args.place.as_options()));
    Ok(output::text(format!("  watch it  {}\n  stop it   {}\n", call("describe"), call("stop")))?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(args: &[&str]) -> Args {
        let args = ["redpoll", "run", "pipelines/ztf/night.sql"].iter().chain(args);
        match Cli::try_parse_from(args).unwrap().command {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_become_a_job() {
        let config = parse(&["--available-now", "--trigger", "2s", "--split-size", "1MiB", "--from", "latest"])
            .config()
            .unwrap();
        assert_eq!(config.name, "ztf-night");
        assert_eq!(config.policy.mode, Mode::AvailableNow);
        assert_eq!((config.policy.trigger, config.split_bytes), (Duration::from_secs(2), 1 << 20));
        assert_eq!(config.from, Some(Point::Latest));
        assert_eq!(parse(&[]).config().unwrap().policy.mode, Mode::Continuous);
    }

    #[test]
    fn points_are_a_word_a_time_or_offsets() {
        let config = parse(&["--from", "ztf[0]@100,ztf[1]@80", "--from", "other[0]@7", "--to", "2026-01-02T05:00"]);
        let config = config.config().unwrap();
        let Some(Point::Offsets(offsets)) = config.from else { panic!("{:?}", config.from) };
        let offsets: Vec<_> = offsets.into_iter().map(|(at, offset)| format!("{at}@{offset}")).collect();
        assert_eq!(offsets, ["other[0]@7", "ztf[0]@100", "ztf[1]@80"]);
        assert_eq!(config.policy.mode, Mode::To(Point::Timestamp(1_767_330_000_000)));
        assert_eq!(parse(&[]).config().unwrap().from, None);
    }

    #[test]
    fn points_that_cannot_be_meant_are_wrong_use() {
        let refused = |args: &[&str]| parse(args).config().unwrap_err().to_string();
        assert!(refused(&["--from", "ztf[0]@100,ztf[0]@80"]).contains("twice"));
        assert!(refused(&["--from", "ztf[0]@100,latest"]).contains("offsets alone"));
        assert!(refused(&["--to", "latest"]).contains("--available-now"));
        assert!(refused(&["--to", "+1h"]).contains("--until"));
    }

    #[test]
    fn a_time_that_is_past_and_a_name_with_a_slash_are_wrong_use() {
        let error = parse(&["--until", "2020-01-01"]).config().unwrap_err();
        assert!(error.to_string().contains("is past"), "{error}");
        let error = parse(&["--name", "a/b"]).config().unwrap_err();
        assert!(error.to_string().contains("'a/b'"), "{error}");
    }
}
