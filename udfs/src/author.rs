//! What is wrong with a module's files, told before it sees an alert: misspelt names, imports that are missing,
//! parameters that do not fit the manifest. Python does the looking, `redpoll.author.check` in the module's environment.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use serde::{Deserialize, Serialize};

use crate::environment::{self, Environments};
use crate::host::frames::Declared;
use crate::manifest::Module;

/// Reads Python where a module's own environment is not built.
const ANY_PYTHON: &str = "python3";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("module {module}: {source}")]
    Environment { module: String, source: environment::Error },
    #[error("module {module}: its files cannot be checked with {}: {reason}", interpreter.display())]
    Python { module: String, interpreter: PathBuf, reason: String },
}

/// One thing to mend. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Relative to the module's folder.
    pub file: PathBuf,
    pub line: u64,
    pub column: u64,
    pub message: String,
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.message)
    }
}

/// What was found, and how much was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    pub problems: Vec<Problem>,
    /// Whether imports were tried, in the module's own environment. Without it only names and parameters were looked at.
    pub in_environment: bool,
}

/// Checks a module's files. What was found for a fingerprint is kept in the cache, so that it is asked once; an
/// environment that is not built is not built for this. Blocks.
pub fn check(environments: &Environments, module: &Module) -> Result<Checked, Error> {
    let wrong = |source| Error::Environment { module: module.name.clone(), source };
    let package = environments.worker_path().map_err(wrong)?;
    let own = environments.built(&module.environment);
    let in_environment = own.is_some();
    let version = package.file_name().unwrap_or_default().to_string_lossy();
    let kept = format!("{}-{}-{version}.json", module.fingerprint, if in_environment { "own" } else { "any" });
    let kept = environments.cache_dir().join("checked").join(kept);
    // An interpreter that is used as it is may get another package at any time.
    let keeps = module.environment.requirements.is_some();
    let known = std::fs::read(&kept).ok().filter(|_| keeps);
    if let Some(checked) = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return Ok(checked);
    }
    let interpreter = own.unwrap_or_else(|| ANY_PYTHON.into());
    let problems = ask(&interpreter, &package, module, in_environment).map_err(|reason| Error::Python {
        module: module.name.clone(),
        interpreter,
        reason,
    })?;
    let checked = Checked { problems, in_environment };
    if keeps && let (Some(folder), Ok(bytes)) = (kept.parent(), serde_json::to_vec(&checked)) {
        // It only saves time: the next one asks again.
        _ = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&kept, bytes));
    }
    Ok(checked)
}

fn ask(interpreter: &PathBuf, package: &PathBuf, module: &Module, imports: bool) -> Result<Vec<Problem>, String> {
    let mut declared = serde_json::to_value(Declared::of(module)).map_err(|error| error.to_string())?;
    declared["imports"] = imports.into();
    let mut command = environment::python(interpreter, package);
    command.args(["-m", "redpoll.author.check"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(declared.to_string().as_bytes()).map_err(|error| error.to_string())?;
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let answer = serde_json::from_slice(&output.stdout);
    let mut problems: Vec<Problem> = answer.map_err(|_| environment::last_line(&output.stderr))?;
    for problem in &mut problems {
        if let Ok(file) = problem.file.strip_prefix(&module.dir) {
            problem.file = file.to_path_buf();
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests;
