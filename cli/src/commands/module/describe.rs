//! `redpoll module describe`: what one module takes, gives and needs.

use anyhow::Result;
use chrono::DateTime;
use redpoll_core::objects::Stores;
use redpoll_udfs::environment;
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::{Cost, Deployed};
use serde_json::{Value, json};

use super::list::added_at;
use super::{call, is_built, known};
use crate::args::{ListFormat, Modules};
use crate::output::{self, paint};
use crate::shipped;
use crate::values::{counted, grouped, span};

const EXAMPLES: &str = "\
Examples:
  redpoll module describe rise_rate
  redpoll module describe my_module --modules ./my-modules
  redpoll module describe my_score --warehouse s3://night/warehouse";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The module
    pub name: String,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    /// Folder or s3://bucket/prefix of the warehouse whose modules are known too
    #[arg(long, env = "REDPOLL_WAREHOUSE", default_value = "./warehouse", value_name = "URL", help_heading = "Where")]
    pub warehouse: String,
    #[command(flatten)]
    pub modules: Modules,
}

pub async fn run(args: &Args) -> Result<()> {
    let (registry, state) = known(&args.warehouse, &args.modules).await?;
    let module = registry.get(&args.name)?;
    let is_ready = is_built(module, &shipped::cache(args.modules.cache.as_deref()));
    let cost = Deployed::of(&Stores::new(std::env::vars()), &args.warehouse)?.cost(&module.fingerprint).await?;
    let added_at = added_at(&state, module);
    match args.format {
        ListFormat::Json => {
            let mut told = json(module, added_at, is_ready);
            told["cost"] = json!(cost);
            output::line(told.to_string())?;
        }
        ListFormat::Table => output::text(text(module, added_at, is_ready, cost.as_ref()))?,
    }
    Ok(())
}

fn text(module: &Module, added_at: Option<i64>, is_ready: bool, cost: Option<&Cost>) -> String {
    let from = match added_at.and_then(DateTime::from_timestamp_millis) {
        Some(time) => format!("the warehouse, since {}", time.format("%Y-%m-%d %H:%M UTC")),
        None => "redpoll itself".to_owned(),
    };
    let lines = [
        ("call", call(module)),
        ("returns", module.returns.to_string()),
        ("where", module.where_sql.clone().unwrap_or_default()),
        ("survey", module.survey.clone()),
        ("function", module.function.clone()),
        ("version", format!("{}, of {from}", module.fingerprint)),
        ("python", module.environment.python.clone()),
        ("packages", packages(module)),
        ("state", if is_ready { "ready" } else { "not built: redpoll module prepare" }.to_owned()),
        ("limits", limits(module)),
        ("cost", cost.map_or_else(|| "not measured: redpoll module bench".to_owned(), cost_text)),
        ("folder", module.dir.display().to_string()),
    ];
    let mut text = format!("{}  {}\n", paint::bold(&module.name), module.about);
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        text += &format!("  {name:<9} {value}\n");
    }
    text
}

fn packages(module: &Module) -> String {
    let Some(lock) = &module.environment.requirements else { return "those of the interpreter".to_owned() };
    let packages: Vec<String> =
        module.environment.lock.packages().map(|(name, version)| format!("{name} {version}")).collect();
    let lock = lock.canonicalize().unwrap_or_else(|_| lock.clone());
    format!("{}, locked in {}", packages.join(", "), lock.display())
}

fn cost_text(cost: &Cost) -> String {
    format!(
        "{:.1} µs and {} bytes per alert, measured on {}",
        cost.micros_per_alert,
        grouped(cost.bytes_per_alert.round() as u64),
        counted(cost.n_alerts as u64, "alert")
    )
}

fn limits(module: &Module) -> String {
    let processor = module.cpu_limit.map(|limit| format!(", {} of processor", span(limit))).unwrap_or_default();
    let memory = module.memory_limit_mb.map(|mib| format!(", {mib} MiB")).unwrap_or_default();
    let restarts = counted(u64::from(module.max_restarts), "lost worker");
    let network = if module.network { "network" } else { "no network" };
    let rows = counted(module.batch_rows as u64, "row");
    format!("{rows} a call, {}{processor}{memory}, {restarts}, {network}", span(module.timeout))
}

/// A module, as `list` and `describe` tell it to programs.
pub fn json(module: &Module, added_at: Option<i64>, is_ready: bool) -> Value {
    let inputs: Vec<Value> =
        module.inputs.iter().map(|input| json!({ "name": input.name, "type": input.sql_type.to_string() })).collect();
    json!({
        "name": module.name, "survey": module.survey, "about": module.about, "function": module.function,
        "kind": module.kind, "inputs": inputs, "returns": module.returns.to_string(), "where": module.where_sql,
        "python": module.environment.python, "requirements": module.environment.requirements, "folder": module.dir,
        "batch_rows": module.batch_rows, "timeout_seconds": module.timeout.as_secs_f64(),
        "cpu_limit_seconds": module.cpu_limit.map(|limit| limit.as_secs()), "memory_limit_mb": module.memory_limit_mb,
        "max_restarts": module.max_restarts, "max_failed": module.max_failed, "network": module.network,
        "fingerprint": module.fingerprint, "environment": environment::key(&module.environment),
        "added_at": added_at, "ready": is_ready,
    })
}

#[cfg(test)]
mod tests {
    use redpoll_udfs::registry::Registry;

    use super::*;

    #[test]
    fn a_module_is_described_by_its_call() {
        let registry = Registry::load(&shipped::modules(&[]).unwrap()).unwrap();
        let text = text(registry.get("rise_rate").unwrap(), None, false, None);
        assert!(text.contains("call      rise_rate(jd list<double>, magpsf list<float>"), "{text}");
        assert!(text.contains("state     not built: redpoll module prepare"), "{text}");
        assert!(text.contains("limits    8,192 rows a call, 30.0 s, 64 lost workers, no network"), "{text}");
        assert!(text.contains("packages  numpy 2.4.6, pandas 3.1.1, pyarrow 26.0.1"), "{text}");
        assert!(text.contains("of redpoll itself"), "{text}");
    }
}
