//! `redpoll module prepare`: builds environments and imports modules, before the night.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use redpoll_udfs::host::{Host, HostConfig};
use redpoll_udfs::manifest::Module;

use super::registry;
use crate::args::Modules;
use crate::output::{self, paint};
use crate::values::{counted, span};
use crate::{progress, shipped};

const EXAMPLES: &str = "\
Examples:
  redpoll module prepare
  redpoll module prepare roid_catcher nalerthist

An environment is built once, from the lock file of the module, and kept in --cache. Exit code 1 if a module cannot run.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only these modules
    pub names: Vec<String>,
    #[command(flatten)]
    pub modules: Modules,
}

pub async fn run(args: &Args) -> Result<()> {
    let registry = registry(&args.modules)?;
    let modules: Vec<Arc<Module>> = match args.names.is_empty() {
        true => registry.iter().cloned().collect(),
        false => args.names.iter().map(|name| registry.get(name).cloned()).collect::<Result<_, _>>()?,
    };
    let host = Host::start(HostConfig::new(shipped::cache(args.modules.cache.as_deref())))?;
    let mut n_failed = 0;
    for module in &modules {
        let (begun, spinner) = (Instant::now(), progress::spinner(format!("preparing {}", module.name)));
        let prepared = host.prepare(std::slice::from_ref(module)).await;
        spinner.finish_and_clear();
        match prepared {
            Ok(()) => output::line(format!("{} {}  {}", paint::good("✓"), module.name, span(begun.elapsed())))?,
            Err(error) => {
                n_failed += 1;
                output::line(format!("{} {}  {error}", paint::warning("✗"), module.name))?;
            }
        }
    }
    match n_failed {
        0 => Ok(()),
        n => bail!("{} of {} cannot run", n, counted(modules.len() as u64, "module")),
    }
}
