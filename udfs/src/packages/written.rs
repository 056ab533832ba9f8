//! Functions that were found, as folders with a `module.toml`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{Error, Found, Input, Package, State};
use crate::manifest::{FILE_NAME, Module};

/// Most rows per call: modules of others hold several arrays of many numbers for each row.
const BATCH_ROWS: usize = 1024;
/// Catalogues and models are read in the first call.
const TIMEOUT: &str = "300s";

/// A function, and the module that it became.
#[derive(Debug, Clone)]
pub struct Written {
    pub found: Found,
    pub module: Option<Module>,
}

/// Writes a module for each function that can be used. Names are those of the functions; a name that is `taken`, or that
/// another function of the package has, gets a part of the package's path before it.
pub fn write(package: &Package, found: Vec<Found>, taken: &dyn Fn(&str) -> bool) -> Result<Vec<Written>, Error> {
    let mut names = BTreeSet::new();
    let mut written = Vec::new();
    for found in found {
        let mut module = None;
        if let (Some(function), false) = (&found.function, found.state == State::No) {
            let free = |name: &str| !names.contains(name) && !taken(name);
            let name = name(&found.module, function, &free);
            module = Some(one(package, &found, &name)?);
            names.insert(name);
        }
        written.push(Written { found, module });
    }
    Ok(written)
}

/// `magnitude_rate`, else `ztf_magnitude_rate`, else with the next part of the path before it.
fn name(module: &str, function: &str, free: &dyn Fn(&str) -> bool) -> String {
    let mut name = function.to_owned();
    for part in module.split('.').skip(1) {
        if free(&name) {
            break;
        }
        name = format!("{part}_{function}");
    }
    match free(&name) {
        true => name,
        false => format!("{}_{function}", module.replace('.', "_")),
    }
}

fn one(package: &Package, found: &Found, name: &str) -> Result<Module, Error> {
    let folder = package.folder.join(name);
    let path = folder.join(FILE_NAME);
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Write { path, source }
    };
    std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
    std::fs::write(&path, text(package, found, name)).map_err(failed(&path))?;
    Ok(Module::load(&path)?)
}

fn text(package: &Package, found: &Found, name: &str) -> String {
    // A string of JSON is one of TOML.
    let quoted = |text: &str| Value::from(text).to_string();
    let function = format!("{}:{}", found.module, found.function.as_deref().unwrap_or_default());
    let kind = serde_json::to_string(&found.kind.unwrap_or_default()).unwrap_or_default();
    let inputs: String = found.inputs.iter().map(|input| format!("  {},\n", line(input, &quoted))).collect();
    format!(
        "# Written by `redpoll module add-package {}`.\nname = {}\nsurvey = {}\nabout = {}\nfunction = {}\nkind = {kind}\n\
         inputs = [\n{inputs}]\nreturns = {}\nbatch_rows = {BATCH_ROWS}\ntimeout = \"{TIMEOUT}\"\n\n\
         [environment]\npython = {}\nrequirements = \"../requirements.txt\"\n",
        package.name,
        quoted(name),
        quoted(found.survey.as_deref().unwrap_or("any")),
        quoted(found.about.as_deref().unwrap_or_default()),
        quoted(&function),
        quoted(found.returns.as_deref().unwrap_or_default()),
        quoted(&package.python),
    )
}

fn line(input: &Input, quoted: &dyn Fn(&str) -> String) -> String {
    let mut parts = vec![format!("name = {}", quoted(&input.name))];
    parts.extend(input.sql_type.as_ref().map(|sql_type| format!("type = {}", quoted(sql_type))));
    parts.extend(input.optional.then(|| "optional = true".to_owned()));
    parts.extend(input.key.then(|| "key = true".to_owned()));
    format!("{{ {} }}", parts.join(", "))
}
