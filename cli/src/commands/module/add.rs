//! `redpoll module add`: a module into the warehouse, where every job and executor finds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use redpoll_scheduler::service::{Outcome, Wanting};
use redpoll_udfs::environment;
use redpoll_udfs::host::{Host, HostConfig};
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::pack;
use serde_json::json;

use super::test::SampleArgs;
use crate::args::{Local, Place};
use crate::author::trial;
use crate::author::verdict::{self, Figures};
use crate::author::{built, checked};
use crate::cluster::Cluster;
use crate::commands::run::Format;
use crate::output::{self, paint};
use crate::values::counted;
use crate::{progress, shipped};

const EXAMPLES: &str = "\
Examples:
  redpoll module add my_score
  redpoll module add my_score --alerts night.tar.gz    tried on these first
  redpoll module add my_score --scheduler http://scheduler:50050
  redpoll module add my_score --dry-run    only what stands in the way
  redpoll module add my_score --shadow   beside the version in use

Its files are checked, its requirements locked, its environment built, and it is called for some alerts; a module that \
fails is refused. Running jobs that call it take the new version over between two epochs.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of the module
    pub path: PathBuf,
    #[command(flatten)]
    pub sample: SampleArgs,
    /// Add it although it fails for some of the alerts that it is tried on
    #[arg(long, env = "REDPOLL_ALLOW_FAILURES")]
    pub allow_failures: bool,
    /// Run it beside the version in use: what differs is in `redpoll describe`, and no row changes
    #[arg(long, env = "REDPOLL_SHADOW")]
    pub shadow: bool,
    /// Change nothing
    #[arg(long, env = "REDPOLL_DRY_RUN")]
    pub dry_run: bool,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "text")]
    pub format: Format,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

pub async fn run(args: Args) -> Result<()> {
    let cache = shipped::cache(args.local.modules.cache.as_deref());
    let module = built(&args.path, &cache, false).await?;
    refuse_broken(&args, &module, &cache).await?;
    let cluster = match args.dry_run {
        true => Cluster::to_look(&args.place, &args.local).await?,
        false => Cluster::of(&args.place, &args.local).await?,
    };
    let deployed = deploy(&cluster, &module, &args).await;
    cluster.close().await;
    let jobs = deployed?;
    match args.format {
        Format::Json => {
            let key = environment::key(&module.environment);
            let answer = json!({
                "module": module.name, "fingerprint": module.fingerprint, "environment": key, "jobs": jobs,
                "added": !args.dry_run,
            });
            Ok(output::line(answer.to_string())?)
        }
        Format::Text => show(&args, &module, &jobs),
    }
}

/// What is misspelt, or fails on alerts, does not get as far as the night.
async fn refuse_broken(args: &Args, module: &Arc<Module>, cache: &Path) -> Result<()> {
    let checked = checked(module, cache).await?;
    if !checked.problems.is_empty() {
        output::text(verdict::problems(module, &checked.problems))?;
        bail!("module {} is not added: {}", module.name, counted(checked.problems.len() as u64, "problem"));
    }
    let sample = args.sample.take(&module.survey, &args.place, &args.local).await?;
    let arguments = trial::arguments(module, &sample).await?;
    let host = Host::start(HostConfig::new(cache))?;
    let spinner = progress::spinner(format!("calling {}", module.name));
    let trial = trial::run(&host, module, &arguments).await;
    spinner.finish_and_clear();
    let figures = Figures::of(module, &sample.origin, &arguments, &trial?)?;
    if figures.failed > 0 && !args.allow_failures {
        output::text(figures.text())?;
        bail!(
            "module {} is not added: it fails for {} of {}; mend it, or say --allow-failures",
            module.name,
            figures.failed,
            counted(figures.rows as u64, "alert")
        );
    }
    Ok(())
}

async fn deploy(cluster: &Cluster, module: &Arc<Module>, args: &Args) -> Result<BTreeMap<String, Outcome>> {
    let packing = module.clone();
    let bundle = tokio::task::spawn_blocking(move || pack(&packing)).await.context("packing ended early")??;
    let spinner = progress::spinner(format!("adding {}", module.name));
    let client = &cluster.client;
    let deployed = async {
        client.keep_bundle(&module.fingerprint, bundle).await?;
        let (name, fingerprint) = (module.name.clone(), module.fingerprint.clone());
        client.deploy_module(&Wanting { name, fingerprint, shadow: args.shadow, dry_run: args.dry_run }).await
    };
    let deployed = deployed.await;
    spinner.finish_and_clear();
    Ok(deployed?)
}

fn show(args: &Args, module: &Module, jobs: &BTreeMap<String, Outcome>) -> Result<()> {
    let version: String = module.fingerprint.chars().take(8).collect();
    if args.dry_run {
        return Ok(output::line(format!("{} {} {version} may be added", paint::good("✓"), module.name))?);
    }
    let beside = if args.shadow { " in the shadow of the one in use" } else { "" };
    output::line(format!("{} {} {version} is added{beside}: {}", paint::good("✓"), module.name, super::call(module)))?;
    output::text(super::outcomes(jobs))?;
    let sample = args.path.join("samples").join(format!("{}.sql", module.name));
    let pipeline = if sample.is_file() { sample.display().to_string() } else { "PIPELINE.sql".to_owned() };
    let run = format!("redpoll run {pipeline} --set source=FOLDER --available-now {}", args.place.as_options());
    Ok(output::line(format!("next: {}", paint::command(run)))?)
}
