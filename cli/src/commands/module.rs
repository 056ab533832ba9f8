//! `redpoll module`: the science modules that pipelines call.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Subcommand;
use redpoll_udfs::environment;
use redpoll_udfs::host::{Host, HostConfig};
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::Registry;
use serde_json::{Value, json};

use crate::args::{ListFormat, Modules};
use crate::output::table::{self, Align, Table};
use crate::output::{self, paint};
use crate::values::{counted, span};
use crate::{progress, shipped};

const EXAMPLES: &str = "\
Examples:
  redpoll module list
  redpoll module describe rise_rate
  redpoll module prepare                build and import all, before the night

A module is a folder with a module.toml and a Python function; SQL calls it by its name.";

const LIST_EXAMPLES: &str = "\
Examples:
  redpoll module list
  redpoll module list --modules ./my-modules          only those of this folder
  redpoll module list --format json | jq '.[] | select(.ready | not).name'";

const DESCRIBE_EXAMPLES: &str = "\
Examples:
  redpoll module describe rise_rate
  redpoll module describe my_module --modules ./my-modules";

const PREPARE_EXAMPLES: &str = "\
Examples:
  redpoll module prepare
  redpoll module prepare roid_catcher nalerthist

An environment is built once, from the lock file of the module, and kept in --cache. Exit code 1 if a module cannot run.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the modules
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show a module: inputs, result, environment
    #[command(after_help = DESCRIBE_EXAMPLES)]
    Describe(DescribeArgs),
    /// Build the Python environments of modules and import them
    #[command(after_help = PREPARE_EXAMPLES)]
    Prepare(PrepareArgs),
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Form of the list on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub modules: Modules,
}

#[derive(Debug, clap::Args)]
pub struct DescribeArgs {
    /// The module
    pub name: String,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub modules: Modules,
}

#[derive(Debug, clap::Args)]
pub struct PrepareArgs {
    /// Only these modules
    pub names: Vec<String>,
    #[command(flatten)]
    pub modules: Modules,
}

pub async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::List(args) => list(&args),
        Command::Describe(args) => describe(&args),
        Command::Prepare(args) => prepare(&args).await,
    }
}

fn registry(modules: &Modules) -> Result<Registry> {
    Ok(Registry::load(&shipped::modules(&modules.modules)?)?)
}

fn list(args: &ListArgs) -> Result<()> {
    let (registry, cache) = (registry(&args.modules)?, shipped::cache(args.modules.cache.as_deref()));
    if args.format == ListFormat::Json {
        let rows: Vec<Value> = registry.iter().map(|module| json(module, &cache)).collect();
        return Ok(output::line(json!(rows).to_string())?);
    }
    let mut table = Table::new(["module", "survey", "environment", "about"].map(|name| (name, Align::Left)));
    for module in registry.iter() {
        let state = if is_built(module, &cache) { "ready" } else { "not built" };
        table.row([&module.name, &module.survey, state, &module.about]);
    }
    match table.is_empty() {
        true => output::line("no science modules; name their folder with --modules")?,
        false => output::text(table.render(table::terminal_width()))?,
    }
    Ok(())
}

fn describe(args: &DescribeArgs) -> Result<()> {
    let registry = registry(&args.modules)?;
    let module = registry.get(&args.name)?;
    let cache = shipped::cache(args.modules.cache.as_deref());
    match args.format {
        ListFormat::Json => output::line(json(module, &cache).to_string())?,
        ListFormat::Table => output::text(describe_text(module, &cache))?,
    }
    Ok(())
}

fn describe_text(module: &Module, cache: &Path) -> String {
    let inputs: Vec<String> = module.inputs.iter().map(|input| format!("{} {}", input.name, input.sql_type)).collect();
    let packages = module
        .environment
        .requirements
        .as_ref()
        .map(|path| path.canonicalize().as_ref().unwrap_or(path).display().to_string());
    let lines = [
        ("call", format!("{}({})", module.name, inputs.join(", "))),
        ("returns", module.returns.to_string()),
        ("where", module.where_sql.clone().unwrap_or_default()),
        ("survey", module.survey.clone()),
        ("function", module.function.clone()),
        ("python", module.environment.python.clone()),
        ("packages", packages.unwrap_or_else(|| "those of the interpreter".to_owned())),
        ("state", if is_built(module, cache) { "ready" } else { "not built: redpoll module prepare" }.to_owned()),
        ("limits", limits(module)),
        ("folder", module.dir.display().to_string()),
    ];
    let mut text = format!("{}  {}\n", paint::bold(&module.name), module.about);
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        text += &format!("  {name:<9} {value}\n");
    }
    text
}

fn limits(module: &Module) -> String {
    let processor = module.cpu_limit.map(|limit| format!(", {} of processor", span(limit))).unwrap_or_default();
    let memory = module.memory_limit_mb.map(|mib| format!(", {mib} MiB")).unwrap_or_default();
    let restarts = counted(u64::from(module.max_restarts), "lost worker");
    let network = if module.network { "network" } else { "no network" };
    let rows = counted(module.batch_rows as u64, "row");
    format!("{rows} a call, {}{processor}{memory}, {restarts}, {network}", span(module.timeout))
}

fn json(module: &Module, cache: &Path) -> Value {
    let inputs: Vec<Value> =
        module.inputs.iter().map(|input| json!({ "name": input.name, "type": input.sql_type.to_string() })).collect();
    json!({
        "name": module.name, "survey": module.survey, "about": module.about, "function": module.function,
        "kind": module.kind, "inputs": inputs, "returns": module.returns.to_string(), "where": module.where_sql,
        "python": module.environment.python, "requirements": module.environment.requirements, "folder": module.dir,
        "batch_rows": module.batch_rows, "timeout_seconds": module.timeout.as_secs_f64(),
        "cpu_limit_seconds": module.cpu_limit.map(|limit| limit.as_secs()), "memory_limit_mb": module.memory_limit_mb,
        "max_restarts": module.max_restarts, "max_failed": module.max_failed, "network": module.network,
        "fingerprint": module.fingerprint, "ready": is_built(module, cache),
    })
}

/// Without a lock file the interpreter is used as it is.
pub fn is_built(module: &Module, cache: &Path) -> bool {
    let environment = &module.environment;
    environment.requirements.is_none() || cache.join("envs").join(environment::key(environment)).exists()
}

async fn prepare(args: &PrepareArgs) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_described_by_its_call() {
        let registry = Registry::load(&shipped::modules(&[]).unwrap()).unwrap();
        let text = describe_text(registry.get("rise_rate").unwrap(), Path::new("/nowhere"));
        assert!(text.contains("call      rise_rate(jd list<double>, magpsf list<float>"), "{text}");
        assert!(text.contains("state     not built: redpoll module prepare"), "{text}");
        assert!(text.contains("limits    8,192 rows a call, 30.0 s, 64 lost workers, no network"), "{text}");
    }
}
