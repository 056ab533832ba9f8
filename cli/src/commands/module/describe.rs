//! `redpoll module describe`: what one module takes, gives and needs.

use std::path::Path;

use anyhow::Result;
use redpoll_udfs::manifest::Module;
use serde_json::{Value, json};

use super::{is_built, registry};
use crate::args::{ListFormat, Modules};
use crate::output::{self, paint};
use crate::shipped;
use crate::values::{counted, span};

const EXAMPLES: &str = "\
Examples:
  redpoll module describe rise_rate
  redpoll module describe my_module --modules ./my-modules";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The module
    pub name: String,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
    #[command(flatten)]
    pub modules: Modules,
}

pub fn run(args: &Args) -> Result<()> {
    let registry = registry(&args.modules)?;
    let module = registry.get(&args.name)?;
    let cache = shipped::cache(args.modules.cache.as_deref());
    match args.format {
        ListFormat::Json => output::line(json(module, &cache).to_string())?,
        ListFormat::Table => output::text(text(module, &cache))?,
    }
    Ok(())
}

fn text(module: &Module, cache: &Path) -> String {
    let packages = module
        .environment
        .requirements
        .as_ref()
        .map(|path| path.canonicalize().as_ref().unwrap_or(path).display().to_string());
    let lines = [
        ("call", format!("{}({})", module.name, module.signature())),
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
    let memory = module.memory_limit_mb.map(|mib| format!(", {mib} MiB")).unwrap_or_default();
    format!("{} a call, {}{memory}", counted(module.batch_rows as u64, "row"), span(module.timeout))
}

/// A module, as `list` and `describe` tell it to programs.
pub fn json(module: &Module, cache: &Path) -> Value {
    let inputs: Vec<Value> =
        module.inputs.iter().map(|input| json!({ "name": input.name, "type": input.sql_type.to_string() })).collect();
    json!({
        "name": module.name, "survey": module.survey, "about": module.about, "function": module.function,
        "kind": module.kind, "inputs": inputs, "returns": module.returns.to_string(), "where": module.where_sql,
        "python": module.environment.python, "requirements": module.environment.requirements, "folder": module.dir,
        "fingerprint": module.fingerprint, "ready": is_built(module, cache),
    })
}

#[cfg(test)]
mod tests {
    use redpoll_udfs::registry::Registry;

    use super::*;

    #[test]
    fn a_module_is_described_by_its_call() {
        let registry = Registry::load(&shipped::modules(&[]).unwrap()).unwrap();
        let text = text(registry.get("rise_rate").unwrap(), Path::new("/nowhere"));
        assert!(text.contains("call      rise_rate(jd list<double>, magpsf list<float>"), "{text}");
        assert!(text.contains("state     not built: redpoll module prepare"), "{text}");
        assert!(text.contains("limits    8,192 rows a call, 30.0 s"), "{text}");
    }
}
