//! `redpoll module list`: the modules there are.

use anyhow::Result;
use serde_json::{Value, json};

use super::{describe, is_built, registry};
use crate::args::{ListFormat, Modules};
use crate::output::table::{self, Align, Table};
use crate::{output, shipped};

const EXAMPLES: &str = "\
Examples:
  redpoll module list
  redpoll module list --modules ./my-modules          only those of this folder
  redpoll module list --format json | jq '.[] | select(.ready | not).name'";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Form of the list on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub modules: Modules,
}

pub fn run(args: &Args) -> Result<()> {
    let (registry, cache) = (registry(&args.modules)?, shipped::cache(args.modules.cache.as_deref()));
    if args.format == ListFormat::Json {
        let rows: Vec<Value> = registry.iter().map(|module| describe::json(module, &cache)).collect();
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

