//! `redpoll module`: the science modules that pipelines call, from the first line of one to its place in a warehouse.

mod add;
mod add_package;
mod bench;
mod describe;
mod list;
mod new;
mod prepare;
mod remove;
mod test;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::Subcommand;
use redpoll_core::objects::Stores;
use redpoll_udfs::environment::Environments;
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::{Deployed, Registry, State};

use crate::args::Modules;
use crate::commands::filter::told as outcomes;
use crate::shipped;

const EXAMPLES: &str = "\
Examples:
  redpoll module new my_score --survey lsst     a folder with a working module
  redpoll module test my_score    on alerts, in its own environment
  redpoll module add my_score                   where every job finds it
  redpoll module list
  redpoll module add-package fink-science
  redpoll module prepare                        build all, before the night

A module is a folder with a module.toml and a Python function; SQL calls it by its name.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a folder with a working module, its tests and docs
    New(new::Args),
    /// Check a module, run its tests, and call it for alerts
    Test(test::Args),
    /// Measure what an alert costs, by the rows of a call
    Bench(bench::Args),
    /// Add a module to the warehouse
    Add(add::Args),
    /// Take a module out of the warehouse
    Remove(remove::Args),
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
        Command::New(args) => new::run(&args),
        Command::Test(args) => test::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Add(args) => add::run(args).await,
        Command::Remove(args) => remove::run(args).await,
        Command::List(args) => list::run(&args).await,
        Command::Describe(args) => describe::run(&args).await,
        Command::AddPackage(args) => add_package::run(&args).await,
        Command::Prepare(args) => prepare::run(&args).await,
    }
}

/// The modules that a process of this machine calls: those of the warehouse before those of folders. With what the
/// warehouse says of its own.
async fn known(warehouse: &str, modules: &Modules) -> Result<(Registry, State)> {
    let own = Registry::load(&shipped::modules(&modules.modules)?)?;
    let deployed = Deployed::of(&Stores::new(std::env::vars()), warehouse)?;
    let state = deployed.read().await?;
    let fetched = deployed.modules(&state, &shipped::cache(modules.cache.as_deref())).await?;
    Ok((own.with(fetched), state))
}

/// How SQL calls a module.
fn call(module: &Module) -> String {
    format!("{}({})", module.name, module.signature())
}

/// Without a lock file the interpreter is used as it is.
fn is_built(module: &Module, cache: &Path) -> bool {
    Environments::new(cache).is_ok_and(|environments| environments.built(&module.environment).is_some())
}

/// The modules of these names; all without names.
fn chosen(registry: &Registry, names: &[String]) -> Result<Vec<Arc<Module>>> {
    Ok(match names.is_empty() {
        true => registry.iter().cloned().collect(),
        false => names.iter().map(|name| registry.get(name).cloned()).collect::<Result<_, _>>()?,
    })
}
