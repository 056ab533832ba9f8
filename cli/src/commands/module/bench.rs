//! `redpoll module bench`: what an alert costs, by the rows of a call; kept where `redpoll check` finds it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arrow::compute::concat_batches;
use chrono::Utc;
use redpoll_core::objects::Stores;
use redpoll_udfs::host::{Host, HostConfig};
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::{Cost, Deployed, Registry, Step};
use serde_json::json;

use super::test::SampleArgs;
use crate::args::{ListFormat, Local, Place};
use crate::author::comparison::deployed;
use crate::author::trial::{self, Arguments, Trial};
use crate::author::{built, manifest};
use crate::client::Client;
use crate::output::table::{self, Align, Table};
use crate::output::{self, paint};
use crate::values::{counted, grouped};
use crate::{progress, shipped};

const EXAMPLES: &str = "\
Examples:
  redpoll module bench my_score                    a folder
  redpoll module bench rise_rate    a module that pipelines call
  redpoll module bench my_score --alerts night.tar.gz --rows 1000,8000

The cost at the module's own batch_rows is kept in the warehouse: redpoll check shows it for this version.";

/// Calls of each size, at most.
const CALLS: usize = 16;
/// Time for the calls of one size, about: a slow module makes fewer.
const PATIENCE: Duration = Duration::from_secs(8);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of a module, or the name of one
    #[arg(value_name = "MODULE")]
    pub module: PathBuf,
    #[command(flatten)]
    pub sample: SampleArgs,
    /// Rows of a call; may be given several times
    #[arg(long, env = "REDPOLL_ROWS", value_name = "N", value_delimiter = ',', default_values_t = [100, 1000, 8000])]
    pub rows: Vec<usize>,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub local: Local,
}

pub async fn run(args: Args) -> Result<()> {
    let cache = shipped::cache(args.local.modules.cache.as_deref());
    let module = module(&args).await?;
    let sample = args.sample.take(&module.survey, &args.place, &args.local).await?;
    let arguments = trial::arguments(&module, &sample).await?;
    let host = Host::start(HostConfig::new(&cache))?;
    let cost = measure(&host, &module, &arguments, &args.rows).await?;
    match &args.place.scheduler {
        Some(url) => Client::new(url.clone())?.keep_cost(&module.fingerprint, &cost).await?,
        None => {
            let registry = Deployed::of(&Stores::new(std::env::vars()), &args.place.warehouse)?;
            registry.put_cost(&module.fingerprint, &cost).await?;
        }
    }
    match args.format {
        ListFormat::Json => {
            let cost = json!({ "module": module.name, "fingerprint": module.fingerprint, "cost": cost });
            output::line(cost.to_string())?;
        }
        ListFormat::Table => output::text(text(&module, &cost, &sample.origin))?,
    }
    Ok(())
}

async fn module(args: &Args) -> Result<Arc<Module>> {
    let cache = shipped::cache(args.local.modules.cache.as_deref());
    let name = args.module.to_string_lossy();
    if manifest(&args.module).is_ok() {
        return built(&args.module, &cache, false).await;
    }
    let warehouse = args.place.scheduler.is_none().then_some(args.place.warehouse.as_str());
    match deployed(warehouse, &args.local.modules, &name, &cache).await? {
        Some(module) => Ok(module),
        // Its error has the nearest name.
        None => Ok(Registry::load(&shipped::modules(&args.local.modules.modules)?)?.get(&name)?.clone()),
    }
}

async fn measure(host: &Host, module: &Arc<Module>, arguments: &Arguments, rows: &[usize]) -> Result<Cost> {
    let mut sizes: Vec<usize> = rows.iter().copied().filter(|rows| *rows > 0).chain([module.batch_rows]).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let (mut by_rows, mut own) = (Vec::new(), None::<(Step, Trial)>);
    for rows in sizes {
        let spinner = progress::spinner(format!("calling {} for {}", module.name, counted(rows as u64, "row")));
        // The host itself cuts calls at `batch_rows`.
        let sized = Arc::new(Module { batch_rows: rows, ..module.as_ref().clone() });
        let trial = sized_trial(host, &sized, arguments, rows).await;
        spinner.finish_and_clear();
        let trial = trial?;
        let step = Step { rows, p50: trial.calls.micros(0.5), p99: trial.calls.micros(0.99) };
        by_rows.push(step.clone());
        if rows == module.batch_rows {
            own = Some((step, trial));
        }
    }
    let (step, trial) = own.context("the module's own size is among those that are measured")?;
    Ok(Cost {
        micros_per_alert: step.p50,
        bytes_per_alert: trial.bytes_per_alert,
        memory_mib: trial.memory_mib,
        by_rows,
        n_alerts: arguments.batch.num_rows(),
        measured_at: Utc::now().timestamp_millis(),
    })
}

/// The first call warms up and tells how many there is time for.
async fn sized_trial(host: &Host, module: &Arc<Module>, arguments: &Arguments, rows: usize) -> Result<Trial> {
    trial::in_calls(host, module, &repeated(arguments, 1)?.first(rows), rows).await?;
    let begun = Instant::now();
    trial::in_calls(host, module, &repeated(arguments, rows)?.first(rows), rows).await?;
    let calls = PATIENCE.as_secs_f64() / begun.elapsed().as_secs_f64().max(1e-6);
    let n = (calls as usize).clamp(1, CALLS) * rows;
    trial::in_calls(host, module, &repeated(arguments, n)?.first(n), rows).await
}

/// The same alerts again and again, until there are so many.
fn repeated(arguments: &Arguments, n: usize) -> Result<Arguments> {
    let batch = &arguments.batch;
    let times = n.div_ceil(batch.num_rows().max(1)).max(1);
    let batch = concat_batches(&batch.schema(), std::iter::repeat_n(batch, times))?;
    Ok(Arguments { ids: Vec::new(), batch, n_gated: 0 })
}

fn text(module: &Module, cost: &Cost, origin: &str) -> String {
    let mut table = Table::new([
        ("rows a call", Align::Right),
        ("µs per alert", Align::Right),
        ("99%", Align::Right),
        ("alerts/s, one worker", Align::Right),
        ("", Align::Left),
    ]);
    for step in &cost.by_rows {
        let own = if step.rows == module.batch_rows { "batch_rows of the module" } else { "" };
        table.row([
            grouped(step.rows as u64),
            format!("{:.1}", step.p50),
            format!("{:.1}", step.p99),
            grouped((1e6 / step.p50.max(1e-3)).round() as u64),
            own.to_owned(),
        ]);
    }
    let memory = cost.memory_mib.map(|mib| format!(", {} MiB", grouped(mib))).unwrap_or_default();
    format!(
        "{}  on {} {origin}, {} bytes per alert{memory}\n{}",
        paint::bold(&module.name),
        grouped(cost.n_alerts as u64),
        grouped(cost.bytes_per_alert.round() as u64),
        table.render(table::terminal_width())
    )
}
