//! `redpoll module add-package`: the functions of a Python package as science modules, all at once.

mod shown;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use redpoll_core::objects::Stores;
use redpoll_udfs::environment::{self, Environments};
use redpoll_udfs::manifest::Module;
use redpoll_udfs::packages::{Package, Trial, write};
use redpoll_udfs::registry::{Deployed, DeployedError, Deployment};

use crate::exit::Usage;
use crate::{progress, shipped, values};

const EXAMPLES: &str = "\
Examples:
  redpoll module add-package fink-science
  redpoll module add-package fink-filters==7.45 --survey ztf
  redpoll module add-package fink-science --with tensorflow-cpu
  redpoll module add-package my-package --to ./my-modules     for --modules

Functions decorated for Spark (pandas_udf, udf) or with redpoll.science_module, and Fink's filters of Rubin alerts, are
taken as they are and tried on sample alerts. The table tells which run, and why the others cannot be used.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The package, as the package index has it; with a version as in fink-science==7.4.0
    #[arg(value_name = "NAME[==VERSION]")]
    pub package: String,
    /// Only functions that read alerts of this survey, such as ztf or lsst
    #[arg(long, env = "REDPOLL_SURVEY", value_name = "SURVEY")]
    pub survey: Option<String>,
    /// Version or path of the Python that it runs in
    #[arg(long, env = "REDPOLL_PYTHON", value_name = "VERSION", default_value = "3.11")]
    pub python: String,
    /// Another package that it needs; may be given several times
    #[arg(long, env = "REDPOLL_WITH", value_name = "PACKAGE", value_delimiter = ' ')]
    pub with: Vec<String>,
    /// File of requirements, in the place of those that Redpoll knows of the package
    #[arg(long, env = "REDPOLL_REQUIREMENTS", value_name = "FILE")]
    pub requirements: Option<PathBuf>,
    /// Name by which Python imports it, if that is not the package's own
    #[arg(long, env = "REDPOLL_IMPORT", value_name = "NAME")]
    pub import: Option<String>,
    /// Folder with <survey>.parquet, alerts on which functions are tried; by default simulated ones
    #[arg(long, env = "REDPOLL_SAMPLES", value_name = "FOLDER")]
    pub samples: Option<PathBuf>,
    /// Longest time for trying one function
    #[arg(long, env = "REDPOLL_TIMEOUT", value_name = "SPAN", value_parser = values::duration, default_value = "120s")]
    pub timeout: Duration,
    /// Write the modules to this folder, for --modules, instead of registering them
    #[arg(long, env = "REDPOLL_TO", value_name = "FOLDER")]
    pub to: Option<PathBuf>,
    /// Folder or s3://bucket/prefix whose registry gets the modules
    #[arg(long, env = "REDPOLL_WAREHOUSE", default_value = "./warehouse", value_name = "URL")]
    pub warehouse: String,
    /// Folder that keeps the Python environments of modules; by default in the user's cache
    #[arg(long, env = "REDPOLL_CACHE", value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
    /// Form of the table on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: Format,
}

/// How the table is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Markdown,
}

pub async fn run(args: &Args) -> Result<()> {
    let cache = shipped::cache(args.cache.as_deref());
    let package = args.package(&cache)?;
    let registry = match args.to {
        Some(_) => None,
        None => Some(Deployed::of(&Stores::new(std::env::vars()), &args.warehouse)?),
    };
    let taken = taken(registry.as_ref(), &package, &cache).await?;
    let spinner = progress::spinner(format!("looking at {}", args.package));
    let (environments, trial, looked) = (Environments::new(&cache)?, args.trial(), package.clone());
    let written = tokio::task::spawn_blocking(move || {
        let found = looked.scan(&environments, &trial)?;
        write(&looked, found, &|name| taken.contains(name))
    });
    let written = written.await;
    spinner.finish_and_clear();
    let written = written??;
    shown::table(&written, args.format)?;
    let modules: Vec<Arc<Module>> = written.iter().filter_map(|one| one.module.clone()).map(Arc::new).collect();
    if modules.is_empty() {
        bail!("{}: it has no function that can be used", package.name);
    }
    if let Some(registry) = &registry {
        register(registry, &args.package, &modules).await?;
    }
    if args.format == Format::Table {
        let place =
            args.to.as_ref().map_or(format!("registered in {}", args.warehouse), |to| format!("in {}", to.display()));
        shown::summary(&args.package, &written, &place)?;
    }
    Ok(())
}

impl Args {
    fn package(&self, cache: &std::path::Path) -> Result<Package> {
        let is_of_name = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
        let name: String = self.package.chars().take_while(|char| is_of_name(*char)).collect();
        if name.is_empty() {
            return Err(Usage(format!("`{}` is no package: write NAME or NAME==VERSION", self.package)).into());
        }
        let known = shipped::find(&format!("udfs/packages/{}.txt", name.to_lowercase().replace('_', "-")));
        let mut requirements = vec![self.package.clone()];
        if let Some(path) = self.requirements.as_ref().or(known.as_ref()) {
            let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
            requirements.extend(text.lines().map(str::to_owned));
        }
        requirements.extend(self.with.iter().cloned());
        let folder = self.to.clone().unwrap_or_else(|| cache.join("packages").join(&name));
        let import_name = self.import.clone().unwrap_or_else(|| name.replace('-', "_"));
        Ok(Package { name, import_name, python: self.python.clone(), requirements, folder })
    }

    fn trial(&self) -> Trial {
        let samples = self.samples.clone().or_else(|| shipped::find("udfs/packages/samples"));
        let samples = samples.map(|folder| std::path::absolute(&folder).unwrap_or(folder));
        Trial { survey: self.survey.clone(), samples, timeout: self.timeout }
    }
}

/// Names that mean something else: native functions, and modules of other packages that are registered.
async fn taken(registry: Option<&Deployed>, package: &Package, cache: &std::path::Path) -> Result<BTreeSet<String>> {
    let mut taken: BTreeSet<String> =
        redpoll_udfs::functions::all().iter().map(|function| function.name().to_owned()).collect();
    if let Some(registry) = registry {
        let state = registry.read().await?;
        let own = |module: &Arc<Module>| module.function.split(['.', ':']).next() == Some(package.import_name.as_str());
        let others = registry.modules(&state, cache).await?.into_iter().filter(|module| !own(module));
        taken.extend(others.map(|module| module.name.clone()));
    }
    Ok(taken)
}

/// All in one change, so that nobody sees half of a package.
async fn register(registry: &Deployed, package: &str, modules: &[Arc<Module>]) -> Result<()> {
    for module in modules {
        registry.upload(module).await?;
    }
    let added_at = chrono::Utc::now().timestamp_millis();
    let change = |state: &mut redpoll_udfs::registry::State| {
        for module in modules {
            let (fingerprint, environment) = (module.fingerprint.clone(), environment::key(&module.environment));
            // What is there already stays as it is: adding a package again changes what changed.
            if state.modules.get(&module.name).is_none_or(|there| there.fingerprint != fingerprint) {
                let deployment = Deployment { fingerprint, environment, added_at, shadow: None };
                state.modules.insert(module.name.clone(), deployment);
            }
        }
        Ok::<_, DeployedError>(format!("add-package {package}: {} modules", modules.len()))
    };
    registry.change(change).await?;
    Ok(())
}
