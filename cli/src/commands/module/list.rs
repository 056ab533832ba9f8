//! `redpoll module list`: the modules there are.

use anyhow::Result;
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::State;
use serde_json::{Value, json};
use url::Url;

use super::{describe, is_built, known};
use crate::args::{ListFormat, Modules, Place};
use crate::client::Client;
use crate::output::table::{self, Align, Table};
use crate::{output, shipped};

const EXAMPLES: &str = "\
Examples:
  redpoll module list
  redpoll module list --modules ./my-modules    only those of this folder
  redpoll module list --format json | jq '.[] | select(.ready | not).name'

Those that were added to the warehouse stand before those of the same name that come with redpoll.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Form of the list on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub modules: Modules,
}

pub async fn run(args: &Args) -> Result<()> {
    let rows = match &args.place.scheduler {
        Some(url) => known_there(url).await?,
        None => here(args).await?,
    };
    if args.format == ListFormat::Json {
        return Ok(output::line(json!(rows).to_string())?);
    }
    let mut table =
        Table::new(["module", "survey", "version", "from", "environment", "about"].map(|name| (name, Align::Left)));
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let first = |key: &str| text(key).chars().take(8).collect::<String>();
        let state = match row["ready"].as_bool() {
            Some(false) => format!("{} not built", first("environment")),
            _ => first("environment"),
        };
        let from = if row["added_at"].is_null() { "redpoll" } else { "warehouse" };
        table.row([text("name"), text("survey"), first("fingerprint"), from.to_owned(), state, text("about")]);
    }
    match table.is_empty() {
        true => {
            output::line("no science modules; make one with `redpoll module new`, or name a folder with --modules")?
        }
        false => output::text(table.render(table::terminal_width()))?,
    }
    Ok(())
}

async fn known_there(scheduler: &Url) -> Result<Vec<Value>> {
    let known = Client::new(scheduler.clone())?.modules().await?;
    Ok(known.iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
}

async fn here(args: &Args) -> Result<Vec<Value>> {
    let (registry, state) = known(&args.place.warehouse, &args.modules).await?;
    let cache = shipped::cache(args.modules.cache.as_deref());
    let row = |module: &Module| describe::json(module, added_at(&state, module), is_built(module, &cache));
    Ok(registry.iter().map(|module| row(module)).collect())
}

/// When a module was added to the warehouse; never, if it comes with redpoll.
pub fn added_at(state: &State, module: &Module) -> Option<i64> {
    state.modules.get(&module.name).map(|deployment| deployment.added_at)
}
