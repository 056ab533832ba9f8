//! `redpoll module test`: a module on alerts, in its own environment, before anybody deploys it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use redpoll_udfs::host::{Host, HostConfig};
use redpoll_udfs::manifest::Module;

use crate::args::{Local, Place};
use crate::author::comparison::{self, Comparison};
use crate::author::pytest::{self, Tests};
use crate::author::sample::Sample;
use crate::author::trial::{self};
use crate::author::verdict::{self, Figures, Verdict};
use crate::author::{built, checked};
use crate::cluster::Cluster;
use crate::commands::run::Format;
use crate::exit::Told;
use crate::output::{self, paint};
use crate::{progress, shipped};

const EXAMPLES: &str = "\
Examples:
  redpoll module test my_score                        on simulated alerts
  redpoll module test my_score --alerts night.tar.gz
  redpoll module test my_score --night 20260102    of the archive
  redpoll module test my_score --format json | jq .trial.exceptions

Names and imports are checked, its tests are run with pytest, then the module is called for every alert. A version that \
is deployed already is run beside it. Exit code 1 if anything fails.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of the module
    pub path: PathBuf,
    #[command(flatten)]
    pub sample: SampleArgs,
    /// Make the lock anew, with the newest versions that its requirements allow
    #[arg(long, env = "REDPOLL_RELOCK")]
    pub relock: bool,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "text")]
    pub format: Format,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

/// The alerts that a module is tried on.
#[derive(Debug, Clone, clap::Args)]
pub struct SampleArgs {
    /// Alerts of this file, folder or tarball: Avro, or Parquet as an archive has it. By default they are simulated
    #[arg(long, env = "REDPOLL_ALERTS", value_name = "PATH", conflicts_with = "night", help_heading = "Alerts")]
    pub alerts: Option<PathBuf>,
    /// Alerts of this night of the archive, as its column `night` has it
    #[arg(long, env = "REDPOLL_NIGHT", value_name = "NIGHT", help_heading = "Alerts")]
    pub night: Option<i64>,
    /// Table that --night is taken from; by default the survey's, as in ztf.raw
    #[arg(long, env = "REDPOLL_TABLE", value_name = "TABLE", requires = "night", help_heading = "Alerts")]
    pub table: Option<String>,
    /// Most alerts
    #[arg(long, env = "REDPOLL_COUNT", value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Alerts")]
    pub count: u64,
}

impl SampleArgs {
    pub async fn take(&self, survey: &str, place: &Place, local: &Local) -> Result<Sample> {
        let count = self.count as usize;
        let spinner = progress::spinner("taking alerts");
        let sample = match (&self.alerts, self.night) {
            (Some(path), _) => Sample::read(path, survey, count).await,
            (None, Some(night)) => {
                let table = self.table.clone().unwrap_or_else(|| format!("{survey}.raw"));
                let cluster = Cluster::to_look(place, local).await?;
                let sample = Sample::night(&cluster.client, &table, night, count).await;
                cluster.close().await;
                sample
            }
            (None, None) => Sample::simulated(survey, count).await,
        };
        spinner.finish_and_clear();
        sample
    }
}

pub async fn run(args: Args) -> Result<()> {
    let cache = shipped::cache(args.local.modules.cache.as_deref());
    let module = built(&args.path, &cache, args.relock).await?;
    let told = Told(1);
    let is_text = args.format == Format::Text;
    if is_text {
        output::line(format!("{}  {}", paint::bold(&module.name), module.about))?;
    }
    let checked = checked(&module, &cache).await?;
    let tests = match checked.problems.is_empty() {
        true => pytest::run(&module, &cache).await?,
        false => Tests::None,
    };
    if is_text {
        output::text(verdict::problems(&module, &checked.problems))?;
        output::text(verdict::tests(&tests))?;
    }
    let tried = match checked.problems.is_empty() {
        true => Some(tried(&args, &module, &cache).await?),
        false => None,
    };
    let (figures, comparison) = tried.map_or((None, None), |(figures, comparison)| (Some(figures), comparison));
    let (checked, tests, figures, comparison) = (&checked, &tests, figures.as_ref(), comparison.as_ref());
    let verdict = Verdict { module: &module, checked, tests, figures, comparison };
    match is_text {
        true => show(&args, &verdict)?,
        false => output::line(verdict.json().to_string())?,
    }
    if verdict.is_good() { Ok(()) } else { Err(told.into()) }
}

async fn tried(args: &Args, module: &Arc<Module>, cache: &Path) -> Result<(Figures, Option<Comparison>)> {
    let sample = args.sample.take(&module.survey, &args.place, &args.local).await?;
    let arguments = trial::arguments(module, &sample).await?;
    let host = Host::start(HostConfig::new(cache))?;
    let spinner = progress::spinner(format!("calling {}", module.name));
    let trial = trial::run(&host, module, &arguments).await;
    spinner.finish_and_clear();
    let trial = trial?;
    let figures = Figures::of(module, &sample.origin, &arguments, &trial)?;
    let warehouse = args.place.scheduler.is_none().then_some(args.place.warehouse.as_str());
    let deployed = comparison::deployed(warehouse, &args.local.modules, &module.name, cache).await?;
    let comparison = match deployed {
        Some(deployed) => Some(comparison::compare(&host, &deployed, module, &sample, (&arguments, &trial)).await?),
        None => None,
    };
    Ok((figures, comparison))
}

fn show(args: &Args, verdict: &Verdict<'_>) -> Result<()> {
    if let Some(figures) = verdict.figures {
        output::text(figures.text())?;
    }
    if let Some(comparison) = verdict.comparison {
        output::text(verdict::comparison(comparison))?;
    }
    let path = args.path.display();
    match verdict.is_good() {
        true => {
            output::line(format!("{} {} runs", paint::good("✓"), verdict.module.name))?;
            let add = format!("redpoll module add {path} {}", args.place.as_options());
            output::line(format!("next: {}", paint::command(add)))?;
        }
        false => output::line(format!("{} {} is not ready to be added", paint::warning("✗"), verdict.module.name))?,
    }
    Ok(())
}
