//! `redpoll simulate`: alerts of a survey that are made from a seed, or real ones replayed.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use redpoll_simulator::{Config, Framing, Kafka, Kind, Origin, Rate, Shares, Sink, Summary, Survey};
use serde_json::{Value, json};

use crate::commands::run::Format;
use crate::output::{self, paint};
use crate::progress;
use crate::values::{self, counted, grouped, span};

const EXAMPLES: &str = "\
Examples:
  redpoll simulate --to ./night --count 2000
  redpoll simulate --to night.tar.gz --to kafka://broker:9092/ztf --mixed
  redpoll simulate --survey lsst --framing confluent:1 \\
      --rate 10000/39s --to kafka://broker:9092/lsst
  redpoll simulate --from ztf_public_20200101.tar.gz \\
      --to kafka://broker:9092/ztf --rate 50

The same options give the same bytes on every machine.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where alerts go: a folder, a .tar or .tar.gz, kafka://host:port/topic; may be given several times
    #[arg(long, env = "REDPOLL_TO", value_name = "WHERE", required = true, value_parser = destination, value_delimiter = '\n')]
    pub to: Vec<Destination>,
    /// Replay real alerts of this folder, .avro, .tar.gz or .parquet instead of making some up
    #[arg(long, env = "REDPOLL_FROM", value_name = "PATH", conflicts_with = "survey")]
    pub from: Option<PathBuf>,
    /// Whose alerts are made up
    #[arg(long, env = "REDPOLL_SURVEY", value_enum, default_value = "ztf")]
    pub survey: SurveyName,
    /// Alerts in all
    #[arg(long, env = "REDPOLL_COUNT", default_value = "1000", value_name = "N")]
    pub count: u64,
    /// Everything random follows from it
    #[arg(long, env = "REDPOLL_SEED", default_value = "1", value_name = "N")]
    pub seed: u64,
    /// Time of the first exposure (UTC)
    #[arg(long, env = "REDPOLL_NIGHT", default_value = "2026-01-01T02:24", value_name = "TIME", value_parser = values::time)]
    pub night: DateTime<Utc>,
    /// Replayed alerts keep their ids when they run out and start again
    #[arg(long, env = "REDPOLL_KEEP_IDS", requires = "from")]
    pub keep_ids: bool,
    /// How fast: fastest, alerts a second as in 50, or bursts as in 10000/39s
    #[arg(long, env = "REDPOLL_RATE", default_value = "fastest", value_parser = rate, value_name = "RATE")]
    pub rate: Rate,
    /// How an alert is wrapped: ocf, confluent:SCHEMA_ID, schemaless or fink
    #[arg(long, env = "REDPOLL_FRAMING", default_value = "ocf", value_parser = framing, value_name = "FORM")]
    pub framing: Framing,
    /// Topic partitions, if the topic is to be created
    #[arg(long, env = "REDPOLL_PARTITIONS", default_value = "4", value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
    /// A setting of the Kafka client by librdkafka's name; may be given several times
    #[arg(long, env = "REDPOLL_OPTION", value_name = "NAME=VALUE", value_parser = values::setting, value_delimiter = '\n')]
    pub option: Vec<(String, String)>,
    /// A little of everything that is not plain: repeats, bad quality, i band, null scores
    #[arg(long, env = "REDPOLL_MIXED", help_heading = "Shares of alerts that are not plain, from 0 to 1")]
    pub mixed: bool,
    /// Exact repeats of earlier alerts
    #[arg(
        long,
        env = "REDPOLL_DUPLICATES",
        value_name = "SHARE",
        help_heading = "Shares of alerts that are not plain, from 0 to 1"
    )]
    pub duplicates: Option<f64>,
    /// Bad pixels or a low score
    #[arg(
        long,
        env = "REDPOLL_BAD_QUALITY",
        value_name = "SHARE",
        help_heading = "Shares of alerts that are not plain, from 0 to 1"
    )]
    pub bad_quality: Option<f64>,
    /// In the i band
    #[arg(
        long,
        env = "REDPOLL_I_BAND",
        value_name = "SHARE",
        help_heading = "Shares of alerts that are not plain, from 0 to 1"
    )]
    pub i_band: Option<f64>,
    /// Without a score
    #[arg(
        long,
        env = "REDPOLL_NULL_RB",
        value_name = "SHARE",
        help_heading = "Shares of alerts that are not plain, from 0 to 1"
    )]
    pub null_rb: Option<f64>,
    /// Form of the summary on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "text")]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SurveyName {
    /// ZTF, schema 4.02, with gzipped FITS cutouts
    Ztf,
    /// Rubin's LSST, schema 10.0, with plain FITS cutouts, as Rubin sends them
    Lsst,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Folder(PathBuf),
    Tarball(PathBuf),
    Kafka { servers: String, topic: String },
}

fn destination(text: &str) -> Result<Destination, String> {
    if let Some(rest) = text.strip_prefix("kafka://") {
        return match rest.split_once('/') {
            Some((servers, topic)) if !servers.is_empty() && !topic.is_empty() => {
                Ok(Destination::Kafka { servers: servers.to_owned(), topic: topic.to_owned() })
            }
            _ => Err(format!("'{text}' names no topic; write kafka://host:port/topic")),
        };
    }
    match text {
        url if url.contains("://") => {
            Err(format!("'{url}' is no place for alerts; use a folder, a .tar.gz or kafka://"))
        }
        tar if [".tar", ".tar.gz", ".tgz"].iter().any(|end| tar.ends_with(end)) => Ok(Destination::Tarball(tar.into())),
        folder => Ok(Destination::Folder(folder.into())),
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("'{text}' is no rate; write fastest, 50 (alerts a second) or 10000/39s");
    if text == "fastest" {
        return Ok(Rate::Fastest);
    }
    if let Some((alerts, every)) = text.split_once('/') {
        let alerts = alerts.trim().parse().map_err(|_| wrong())?;
        let every = values::duration(every).map_err(|_| wrong())?;
        return if alerts > 0 && every > Duration::ZERO { Ok(Rate::Visits { alerts, every }) } else { Err(wrong()) };
    }
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(Rate::PerSecond(rate)),
        _ => Err(wrong()),
    }
}

fn framing(text: &str) -> Result<Framing, String> {
    match (text, text.strip_prefix("confluent:").map(str::parse)) {
        ("ocf", _) => Ok(Framing::Ocf),
        ("schemaless", _) => Ok(Framing::Schemaless),
        ("fink", _) => Ok(Framing::Fink),
        (_, Some(Ok(schema_id))) => Ok(Framing::Confluent { schema_id }),
        _ => Err(format!("'{text}' is none of ocf, confluent:SCHEMA_ID, schemaless, fink")),
    }
}

/// Days from the epoch of MJD to 1970-01-01.
const MJD_OF_1970: f64 = 40_587.0;

impl Args {
    pub fn config(&self) -> Config {
        let start_mjd = MJD_OF_1970 + self.night.timestamp_millis() as f64 / 86_400e3;
        let survey = match self.survey {
            SurveyName::Ztf => Survey::Ztf,
            SurveyName::Lsst => Survey::Lsst,
        };
        let origin = match &self.from {
            Some(path) => Origin::Replayed { path: path.clone() },
            None => Origin::Made { survey, start_mjd },
        };
        let shares = if self.mixed { Shares::MIXED } else { Shares::default() };
        Config {
            origin,
            count: self.count,
            seed: self.seed,
            unique_ids: !self.keep_ids,
            shares: Shares {
                duplicates: self.duplicates.unwrap_or(shares.duplicates),
                bad_quality: self.bad_quality.unwrap_or(shares.bad_quality),
                i_band: self.i_band.unwrap_or(shares.i_band),
                null_rb: self.null_rb.unwrap_or(shares.null_rb),
            },
            framing: self.framing,
            rate: self.rate,
            sinks: self.to.iter().map(|to| self.sink(to)).collect(),
        }
    }

    fn sink(&self, to: &Destination) -> Sink {
        match to {
            Destination::Folder(path) => Sink::Folder(path.clone()),
            Destination::Tarball(path) => Sink::Tarball(path.clone()),
            Destination::Kafka { servers, topic } => Sink::Kafka(Kafka {
                servers: servers.clone(),
                topic: topic.clone(),
                n_partitions: self.partitions,
                options: self.option.iter().cloned().collect(),
            }),
        }
    }
}

pub async fn run(args: Args) -> Result<()> {
    let begun = Instant::now();
    let summary = simulate(args.config()).await?;
    match args.format {
        Format::Json => output::line(json(&summary).to_string())?,
        Format::Text => output::line(text(&summary, begun.elapsed()))?,
    }
    Ok(())
}

/// Runs with a bar on stderr.
pub async fn simulate(config: Config) -> Result<Summary> {
    let bar = std::io::stderr().is_terminal().then(|| progress::counter(config.count, "alerts"));
    let shown = bar.clone();
    let run = move || {
        redpoll_simulator::run(&config, |done, _| {
            if let Some(bar) = &shown {
                bar.set_position(done);
            }
        })
    };
    let summary = tokio::task::spawn_blocking(run).await.context("the simulator broke off")?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(summary?)
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Plain => "plain",
        Kind::BadQuality => "bad quality",
        Kind::IBand => "i band",
        Kind::NullRb => "without score",
        Kind::Duplicate => "repeats",
    }
}

fn text(summary: &Summary, took: Duration) -> String {
    let kinds: Vec<String> =
        summary.by_kind.iter().map(|(kind, n)| format!("{} {}", grouped(*n), name(*kind))).collect();
    format!(
        "{} {} in {}, {:.1} MB: {}",
        paint::good("✓"),
        counted(summary.alerts, "alert"),
        span(took),
        summary.bytes as f64 / 1e6,
        kinds.join(", ")
    )
}

fn json(summary: &Summary) -> Value {
    let kinds: BTreeMap<String, u64> =
        summary.by_kind.iter().map(|(kind, n)| (name(*kind).replace(' ', "_"), *n)).collect();
    json!({ "alerts": summary.alerts, "bytes": summary.bytes, "by_kind": kinds })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn config(args: &[&str]) -> Config {
        let args = ["redpoll", "simulate"].iter().chain(args);
        match Cli::try_parse_from(args).unwrap().command {
            Command::Simulate(args) => args.config(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_destination_is_known_by_its_form() {
        assert_eq!(destination("./night"), Ok(Destination::Folder("./night".into())));
        assert_eq!(destination("a/night.tar.gz"), Ok(Destination::Tarball("a/night.tar.gz".into())));
        let kafka = Destination::Kafka { servers: "a:9092,b:9092".into(), topic: "ztf".into() };
        assert_eq!(destination("kafka://a:9092,b:9092/ztf"), Ok(kafka));
        assert!(destination("kafka://a:9092").unwrap_err().contains("topic"));
        assert!(destination("s3://bucket/night").is_err());
    }

    #[test]
    fn rates_and_framings_are_read() {
        assert_eq!(rate("10000/39s"), Ok(Rate::LSST));
        assert_eq!(rate("50"), Ok(Rate::PerSecond(50.0)));
        assert!(rate("0").is_err() && rate("often").is_err());
        assert_eq!(framing("confluent:7"), Ok(Framing::Confluent { schema_id: 7 }));
        assert!(framing("confluent:x").unwrap_err().contains("SCHEMA_ID"));
    }

    #[test]
    fn a_mixed_night_may_still_set_a_share() {
        let config = config(&["--to", "x", "--mixed", "--i-band", "0.5", "--night", "2026-01-01T02:24"]);
        assert_eq!(config.shares, Shares { i_band: 0.5, ..Shares::MIXED });
        let Origin::Made { start_mjd, .. } = config.origin else { panic!("{:?}", config.origin) };
        assert!((start_mjd - 61_041.1).abs() < 1e-6, "{start_mjd}");
    }
}
