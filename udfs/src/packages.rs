//! Python packages whose functions become science modules as they are, such as `fink-science` and `fink-filters`.
//!
//! A package is locked with what it needs, its environment is built, and `redpoll.package` looks in it for functions of
//! columns and runs them on sample alerts. Each that can be used is written as a folder with a `module.toml`:
//!
//! ```text
//! <folder>/requirements.txt             the package, and what it does not say that it needs
//! <folder>/requirements.lock            every version
//! <folder>/<function>/module.toml
//! ```

mod found;
mod written;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::environment::{self, Environments, LockError};
use crate::manifest;

pub use found::{Found, Input, State};
pub use written::{Written, write};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("package {package}: {source}")]
    Lock { package: String, source: Box<LockError> },
    #[error("package {package}: {source}")]
    Environment { package: String, source: Box<environment::Error> },
    #[error("package {package}: it cannot be looked at with {}: {reason}", interpreter.display())]
    Scan { package: String, interpreter: PathBuf, reason: String },
    #[error("{}: cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
}

/// A package, and where it runs.
#[derive(Debug, Clone)]
pub struct Package {
    /// As the package index has it: `fink-science`.
    pub name: String,
    /// As Python imports it: `fink_science`.
    pub import_name: String,
    /// Version or path of the interpreter.
    pub python: String,
    /// Lines of a requirements file: the package itself, and what it needs.
    pub requirements: Vec<String>,
    /// Folder for what is written.
    pub folder: PathBuf,
}

/// How functions are tried.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    /// Only functions that read alerts of this survey.
    pub survey: Option<String>,
    /// Folder with `<survey>.parquet`.
    pub samples: Option<PathBuf>,
    /// Longest time for one function.
    pub timeout: Duration,
}

impl Package {
    /// Locks the package, builds its environment and looks at all its functions. Blocks, for minutes when packages must
    /// be fetched.
    pub fn scan(&self, environments: &Environments, trial: &Trial) -> Result<Vec<Found>, Error> {
        let environment = self.environment()?;
        let wrong = |source| Error::Environment { package: self.name.clone(), source: Box::new(source) };
        let interpreter = environments.interpreter(&environment).map_err(wrong)?;
        let python_path = environments.worker_path().map_err(wrong)?;
        let found = ask(&interpreter, &python_path, &self.import_name, trial);
        found.map_err(|reason| Error::Scan { package: self.name.clone(), interpreter, reason })
    }

    fn environment(&self) -> Result<manifest::Environment, Error> {
        let requirements = self.folder.join("requirements.txt");
        let text: String = self.requirements.iter().map(|line| format!("{line}\n")).collect();
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Write { path, source }
        };
        std::fs::create_dir_all(&self.folder).map_err(failed(&self.folder))?;
        std::fs::write(&requirements, text).map_err(failed(&requirements))?;
        let locked = environment::lock_requirements(&requirements, &self.python, true, false);
        locked.map_err(|source| Error::Lock { package: self.name.clone(), source: Box::new(source) })?;
        Ok(manifest::Environment::locked(&self.python, &requirements)?)
    }
}

fn ask(interpreter: &Path, python_path: &Path, package: &str, trial: &Trial) -> Result<Vec<Found>, String> {
    let mut command = environment::python(interpreter, python_path);
    command.args(["-m", "redpoll.package", "scan", package, "--timeout", &trial.timeout.as_secs_f64().to_string()]);
    command.args(trial.survey.iter().flat_map(|survey| ["--survey", survey]));
    if let Some(samples) = &trial.samples {
        command.arg("--samples").arg(samples);
    }
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return serde_json::from_slice(&output.stdout).map_err(|error| format!("its answer cannot be read: {error}"));
    }
    Err(environment::last_line(&output.stderr))
}

#[cfg(test)]
mod tests;
