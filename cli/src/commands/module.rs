//! `redpoll module`: the science modules that pipelines call.

mod list;

mod add_package;
mod describe;
mod prepare;

use std::path::Path;

use anyhow::Result;
use clap::Subcommand;
use redpoll_udfs::environment;
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::Registry;

use crate::args::Modules;
use crate::shipped;

const EXAMPLES: &str = "\
Examples:
  redpoll module list
  redpoll module describe rise_rate
  redpoll module add-package fink-science
  redpoll module prepare                build and import all, before the night

A module is a folder with a module.toml and a Python function; SQL calls it by its name.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the modules
    List(list::Args),
    /// Show a module: inputs, result, environment
    Describe(describe::Args),
    /// Add the functions of a Python package, such as fink-science, all at once
    AddPackage(add_package::Args),
    /// Build the Python environments of modules and import them
    Prepare(prepare::Args),
}

pub async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::List(args) => list::run(&args),
        Command::Describe(args) => describe::run(&args),
        Command::AddPackage(args) => add_package::run(&args).await,
        Command::Prepare(args) => prepare::run(&args).await,
    }
}

fn registry(modules: &Modules) -> Result<Registry> {
    Ok(Registry::load(&shipped::modules(&modules.modules)?)?)
}

/// Without a lock file the interpreter is used as it is.
pub fn is_built(module: &Module, cache: &Path) -> bool {
    let environment = &module.environment;
    environment.requirements.is_none() || cache.join("envs").join(environment::key(environment)).exists()
}
