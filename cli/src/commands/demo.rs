//! `redpoll demo`: a small night of ZTF, simulated, run, accounted for and asked about, on this machine alone.

mod light_curve;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use redpoll_core::protocol::Pipeline;
use redpoll_scheduler::coordinator::{JobConfig, Mode};
use redpoll_simulator::{Config, Shares, Sink};
use redpoll_udfs::host::{Host, HostConfig};
use redpoll_udfs::registry::Registry;

use crate::args::{Local, Place};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::commands::run::{Consent, follow};
use crate::commands::simulate::simulate;
use crate::exit::Usage;
use crate::output::rows::{Format, Printer};
use crate::output::{self, ledger, paint, table};
use crate::values::{counted, span};
use crate::{pipeline_file, progress, shipped};

const EXAMPLES: &str = "\
Examples:
  redpoll demo
  redpoll demo --dir /tmp/night --count 10000

Everything is kept in the folder: the alerts, the pipeline, the tables, the topics. The next demo there replaces it.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder for everything that the demo makes
    #[arg(long, env = "REDPOLL_DIR", default_value = "./redpoll-demo", value_name = "FOLDER")]
    pub dir: PathBuf,
    /// Alerts to simulate
    #[arg(long, env = "REDPOLL_COUNT", default_value = "2000", value_name = "N", value_parser = clap::value_parser!(u64).range(10..))]
    pub count: u64,
    /// Everything random follows from it
    #[arg(long, env = "REDPOLL_SEED", default_value = "1", value_name = "N")]
    pub seed: u64,
    /// Run the Python science modules; by default if their environment can be built
    #[arg(long, env = "REDPOLL_SCIENCE", value_enum, default_value = "auto", value_name = "WHEN")]
    pub science: Science,
    #[command(flatten)]
    pub local: Local,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Science {
    Auto,
    On,
    Off,
}

/// The pipeline travels in the binary, so that the demo needs nothing beside it.
const PIPELINE: [(&str, &str); 2] = [
    ("night.sql", include_str!("../../../pipelines/ztf/night.sql")),
    ("schemas/alert.avsc", include_str!("../../../pipelines/ztf/schemas/alert.avsc")),
];
/// The modules that it calls.
const MODULES: [&str; 2] = ["roid_catcher", "nalerthist"];
const JOB: &str = "ztf-night";
/// Says that a folder is a demo's, so that the next one may replace it.
const MARKER: &str = ".redpoll-demo";
/// Fetching packages may take a while; a demo does not wait longer.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(240);

pub async fn run(args: Args) -> Result<()> {
    let begun = Instant::now();
    let dir = std::path::absolute(&args.dir).context("the working directory is gone")?;
    clear(&dir, &args.dir)?;
    output::text(format!("{} in {}\n\n", paint::bold("A small night of ZTF, start to end,"), args.dir.display()))?;
    step(1, "simulate", "variable stars, supernovae and asteroids, some of them of bad quality")?;
    simulate_night(&dir.join("night"), &args).await?;
    step(2, "prepare", "the science modules, in Python")?;
    let science = science(&args).await?;
    step(3, "run", &format!("{}/night.sql: to an archive, to topics, to a store", args.dir.display()))?;
    let place = Place { warehouse: dir.join("warehouse").display().to_string(), scheduler: None };
    let cluster = Cluster::of(&place, &args.local).await?;
    let told = tell(&cluster, pipeline(&dir, science)?).await;
    cluster.close().await;
    told?;
    done(&format!("all of it in {}", span(begun.elapsed())))?;
    next(&args.dir, science)
}

async fn tell(cluster: &Cluster, pipeline: Pipeline) -> Result<()> {
    let config = JobConfig::new(JOB, Mode::AvailableNow);
    let outcome = follow(cluster, &config, &pipeline, Consent::Given).await?;
    let status = &outcome.ended.status;
    if status.state == "failed" {
        bail!("the night failed: {}", status.reason.as_deref().unwrap_or("it gave no reason"));
    }
    done(&format!("{} in {}", counted(status.decoded, "alert"), span(outcome.took)))?;
    step(4, "account", "every alert ends in exactly one place")?;
    output::text(ledger::render(JOB, &outcome.lines, &[], table::terminal_width()))?;
    output::text("\n")?;
    step(5, "ask", "the archive with SQL")?;
    for question in QUESTIONS {
        ask(&cluster.client, question).await?;
    }
    light_curve::show(&cluster.client).await
}

const QUESTIONS: [&str; 2] = [
    "\
SELECT candidate.fid AS band, count(*) AS alerts, min(candidate.magpsf) AS brightest
FROM ztf.science GROUP BY candidate.fid ORDER BY band",
    "\
SELECT objectId, max(nalerthist) AS detections, min(candidate.magpsf) AS brightest
FROM ztf.science GROUP BY objectId ORDER BY detections DESC, objectId LIMIT 5",
];

async fn ask(client: &Client, query: &str) -> Result<()> {
    say_query(query)?;
    let (schema, batches) = client.sql(query).await?.collect().await?;
    let mut rows = Vec::new();
    let mut printer = Printer::new(Format::Table, schema, table::terminal_width(), &mut rows)?;
    for batch in batches {
        printer.write(batch)?;
    }
    printer.finish()?;
    Ok(output::line(String::from_utf8_lossy(&rows))?)
}

/// As it may be pasted into `redpoll sql`, in lines for the eye.
fn say_query(query: &str) -> Result<()> {
    let mut text = String::new();
    for line in query.lines() {
        text += &format!("  {}\n", paint::command(line));
    }
    Ok(output::text(text)?)
}

fn step(number: u32, name: &str, what: &str) -> Result<()> {
    Ok(output::line(format!("{}  {}", paint::bold(format!("{number} {name:<9}")), paint::dim(what)))?)
}

fn done(what: &str) -> Result<()> {
    Ok(output::text(format!("{} {what}\n\n", paint::good("✓")))?)
}

/// Removes an earlier demo, and nothing else.
fn clear(dir: &Path, shown: &Path) -> Result<()> {
    let failed = |what: &str| format!("{}: {what}", shown.display());
    let is_empty = fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty && !dir.join(MARKER).exists() {
        return Err(Usage(failed("there is something else in this folder; name another with --dir")).into());
    }
    if !is_empty {
        fs::remove_dir_all(dir).with_context(|| failed("the last demo cannot be removed"))?;
    }
    fs::create_dir_all(dir).and_then(|()| fs::write(dir.join(MARKER), "")).with_context(|| failed("cannot be written"))
}

async fn simulate_night(night: &Path, args: &Args) -> Result<()> {
    let begun = Instant::now();
    let config = Config {
        count: args.count,
        seed: args.seed,
        shares: Shares::MIXED,
        sinks: vec![Sink::Folder(night.to_owned())],
        ..Config::default()
    };
    let summary = simulate(config).await?;
    damage(night)?;
    let alerts = counted(summary.alerts, "alert");
    done(&format!(
        "{alerts}, {:.0} MB in {}; one file more is cut short on purpose",
        summary.bytes as f64 / 1e6,
        span(begun.elapsed())
    ))
}

/// Adds a file that ends in the middle, as a broken transfer leaves it.
fn damage(night: &Path) -> Result<()> {
    let names = fs::read_dir(night)?.map(|entry| entry.map(|entry| entry.path()));
    let mut names: Vec<PathBuf> = names.collect::<std::io::Result<_>>()?;
    names.sort();
    let first = names.first().context("the simulator wrote no file")?;
    let whole = fs::read(first).with_context(|| first.display().to_string())?;
    Ok(fs::write(night.join("damaged.avro"), &whole[..whole.len() * 2 / 3])?)
}

/// Whether the modules run, and why not.
async fn science(args: &Args) -> Result<bool> {
    if args.science == Science::Off {
        done("off, as asked")?;
        return Ok(false);
    }
    let (begun, spinner) = (Instant::now(), progress::spinner("their environment is built once"));
    let prepared = tokio::time::timeout(PREPARE_TIMEOUT, prepare(&args.local)).await;
    spinner.finish_and_clear();
    let prepared = prepared.unwrap_or_else(|_| bail!("not ready after {}", span(PREPARE_TIMEOUT)));
    match prepared {
        Ok(()) => {
            done(&format!("{} in {}", MODULES.join(" and "), span(begun.elapsed())))?;
            Ok(true)
        }
        Err(error) if args.science == Science::On => Err(error.context("the science modules cannot be prepared")),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or_default().trim_end_matches(':');
            output::line(format!("{} they are left out: {reason}", paint::warning("!")))?;
            output::text(format!("  try it with: {}\n\n", paint::command("redpoll module prepare")))?;
            Ok(false)
        }
    }
}

async fn prepare(local: &Local) -> Result<()> {
    let folders = shipped::modules(&local.modules.modules)?;
    if folders.is_empty() {
        bail!("no science modules beside this binary");
    }
    let registry = Registry::load(&folders)?;
    let modules: Vec<_> = MODULES.iter().map(|name| registry.get(name).cloned()).collect::<Result<_, _>>()?;
    let host = Host::start(HostConfig::new(shipped::cache(local.modules.cache.as_deref())))?;
    Ok(host.prepare(&modules).await?)
}

fn pipeline(dir: &Path, science: bool) -> Result<Pipeline> {
    for (name, text) in PIPELINE {
        let file = dir.join(name);
        let folder = file.parent().unwrap_or(dir);
        fs::create_dir_all(folder).and_then(|()| fs::write(&file, text)).with_context(|| file.display().to_string())?;
    }
    let path = |name: &str| dir.join(name).display().to_string();
    let science = if science { "on" } else { "off" };
    let variables = [("source", path("night")), ("topics", path("topics")), ("science", science.to_owned())];
    pipeline_file::read(&dir.join("night.sql"), variables.map(|(name, value)| (name.to_owned(), value)).into())
}

fn next(dir: &Path, science: bool) -> Result<()> {
    let dir = dir.display();
    let without = if science { "" } else { " --set science=off" };
    let own =
        format!("redpoll run {dir}/night.sql --set source=FOLDER --set topics={dir}/topics{without} --available-now");
    let lines = [
        ("name this warehouse", format!("export REDPOLL_WAREHOUSE={dir}/warehouse")),
        ("what did not decode", "redpoll quarantine list".to_owned()),
        ("ask yourself", "redpoll sql \"SELECT * FROM ztf.science LIMIT 5\"".to_owned()),
        ("what the topics got", format!("redpoll topics {dir}/topics")),
        ("how it was said", format!("less {dir}/night.sql")),
        ("your own alerts", own),
    ];
    output::line(paint::bold("Next"))?;
    for (what, call) in lines {
        output::line(format!("  {what:<20} {}", paint::command(call)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_other_things_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let notes = folder.path().join("notes.txt");
        fs::write(&notes, "mine").unwrap();
        let error = clear(folder.path(), folder.path()).unwrap_err();
        assert_eq!(crate::exit::code(&error), 2);
        assert!(notes.exists());
    }

    #[test]
    fn the_next_demo_replaces_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("demo");
        clear(&dir, &dir).unwrap();
        fs::create_dir(dir.join("warehouse")).unwrap();
        clear(&dir, &dir).unwrap();
        assert!(!dir.join("warehouse").exists() && dir.join(MARKER).exists());
    }

    #[test]
    fn the_pipeline_of_the_binary_is_unpacked_with_its_schema() {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = pipeline(folder.path(), false).unwrap();
        assert!(pipeline.text.contains("STORED AS ALERTS"));
        assert_eq!(pipeline.variables["science"], "off");
        assert!(folder.path().join("schemas/alert.avsc").exists());
    }
}
