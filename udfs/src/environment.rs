//! Python environments of science modules: one venv per interpreter and lock, built once.
//!
//! A venv is built beside its final place and renamed, under a file lock, so that executors which share a cache
//! directory never see half of one. `uv` builds it when it is there, `venv` and `pip` otherwise.

mod locking;
mod package;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use crate::manifest;

pub use locking::{LockError, Locked, lock, lock_requirements};

/// How much of a failed command's output an error shows.
const SHOWN_LINES: usize = 12;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cache directory cannot be used.
    #[error("{}: {doing} failed: {source}", path.display())]
    Cache { path: PathBuf, doing: &'static str, source: io::Error },
    /// A command could not be started.
    #[error(
        "python {python}: cannot run `{command}`: {source}: install the interpreter or give its path in the manifest"
    )]
    Command { python: String, command: String, source: io::Error },
    /// A step of the building failed.
    #[error("{}: building its environment with python {python} failed at `{command}`:\n{output}", requirements.display())]
    Build { requirements: PathBuf, python: String, command: String, output: String },
    /// No versions of the packages meet all requirements.
    #[error("{}: it cannot be locked for python {python}:\n{output}\n{remedy}", requirements.display())]
    Resolve { requirements: PathBuf, python: String, output: String, remedy: Box<str> },
}

/// The environments and the worker's Python package below one cache directory.
#[derive(Debug, Clone)]
pub struct Environments {
    cache_dir: PathBuf,
}

impl Environments {
    pub fn new(cache_dir: impl AsRef<Path>) -> Result<Self, Error> {
        let path = cache_dir.as_ref();
        let absolute = std::path::absolute(path);
        let cache_dir =
            absolute.map_err(|source| Error::Cache { path: path.into(), doing: "finding the directory", source })?;
        Ok(Self { cache_dir })
    }

    /// Where all of it is kept.
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// The interpreter of an environment, which is built if it is not there. Blocks, for minutes when packages must
    /// be fetched.
    pub fn interpreter(&self, environment: &manifest::Environment) -> Result<PathBuf, Error> {
        let Some(requirements) = &environment.requirements else {
            return Ok(system_interpreter(&environment.python));
        };
        let dir = self.cache_dir.join("envs");
        let key = key(environment);
        let place = dir.join(&key);
        if !place.exists() {
            create_dir(&dir)?;
            let _lock = lock_file(&dir.join(format!("{key}.lock")))?;
            if !place.exists() {
                self.build(environment, requirements, &dir, &key)?;
            }
        }
        Ok(place.join("bin/python"))
    }

    /// The interpreter of an environment, if that is built or needs no building.
    pub fn built(&self, environment: &manifest::Environment) -> Option<PathBuf> {
        if environment.requirements.is_none() {
            return Some(system_interpreter(&environment.python));
        }
        Some(self.cache_dir.join("envs").join(key(environment)).join("bin/python")).filter(|path| path.exists())
    }

    /// The directory for `PYTHONPATH` that holds the worker's package, unpacked from this binary.
    pub fn worker_path(&self) -> Result<PathBuf, Error> {
        let dir = self.cache_dir.join("python");
        create_dir(&dir)?;
        package::unpack(&dir).map_err(|source| Error::Cache { path: dir, doing: "unpacking the worker", source })
    }

    fn build(
        &self,
        environment: &manifest::Environment,
        requirements: &Path,
        dir: &Path,
        key: &str,
    ) -> Result<(), Error> {
        let failed = |path: &Path, doing| {
            let path = path.to_path_buf();
            move |source| Error::Cache { path, doing, source }
        };
        let building = dir.join(format!(".{key}.{}", Uuid::new_v4().simple()));
        let lock = dir.join(format!("{key}.txt"));
        std::fs::write(&lock, environment.lock.text()).map_err(failed(&lock, "writing"))?;
        tracing::info!(python = %environment.python, requirements = %requirements.display(), "building an environment");
        let built = steps(&environment.python, &building, &lock)
            .into_iter()
            .try_for_each(|command| run(command, environment, requirements));
        if built.is_err() {
            // What is left of it would only take space: the next try starts anew.
            let _ = std::fs::remove_dir_all(&building);
        }
        built?;
        let place = dir.join(key);
        std::fs::rename(&building, &place).map_err(failed(&place, "moving the new environment"))
    }
}

/// Equal keys are equal environments.
pub fn key(environment: &manifest::Environment) -> String {
    if environment.requirements.is_none() {
        return environment.python.clone();
    }
    let content =
        [&environment.python, &environment.lock.text(), env!("CARGO_PKG_VERSION")].map(String::from).join("\0");
    format!("{:032x}", xxh3_128(content.as_bytes()))
}

fn steps(python: &str, venv: &Path, lock: &Path) -> Vec<Command> {
    let interpreter = venv.join("bin/python");
    // The lock is complete, so nothing is resolved: what runs is what it says.
    let install = ["install", "--no-deps", "--requirement"];
    if let Some(uv) = uv() {
        let mut create = command(&uv);
        create.args(["venv", "--no-python-downloads", "--python", python]).arg(venv);
        let mut fill = command(&uv);
        fill.args(["pip"]).args(install).arg(lock).arg("--python").arg(interpreter);
        return vec![create, fill];
    }
    let mut create = Command::new(system_interpreter(python));
    create.args(["-m", "venv"]).arg(venv);
    let mut fill = Command::new(interpreter);
    fill.args(["-m", "pip", "--no-input", "--disable-pip-version-check"]).args(install).arg(lock);
    vec![create, fill]
}

fn uv() -> Option<Vec<&'static str>> {
    [vec!["uv"], vec!["python3", "-m", "uv"]].into_iter().find(|words| {
        let version = command(words).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    })
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// A Python that finds the worker's package and nothing of the user's own.
pub(crate) fn python(interpreter: &Path, package: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.current_dir(package).env("PYTHONPATH", package).env_remove("PYTHONHOME");
    command.env("PYTHONNOUSERSITE", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// What a program that failed said last.
pub(crate) fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}

fn system_interpreter(python: &str) -> PathBuf {
    match python.contains('/') {
        true => python.into(),
        false => format!("python{python}").into(),
    }
}

fn run(mut command: Command, environment: &manifest::Environment, requirements: &Path) -> Result<(), Error> {
    let python = environment.python.clone();
    let text = command_text(&command);
    let output = command.env_remove("VIRTUAL_ENV").output().map_err(|source| Error::Command {
        python: python.clone(),
        command: text.clone(),
        source,
    })?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let requirements = requirements.to_path_buf();
            Err(Error::Build { requirements, python, command: text, output: last_lines(&output) })
        }
    }
}

fn command_text(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn last_lines(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat();
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

fn lock_file(path: &Path) -> Result<std::fs::File, Error> {
    let locked = std::fs::File::create(path).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| Error::Cache { path: path.to_path_buf(), doing: "locking", source })
}

fn create_dir(path: &Path) -> Result<(), Error> {
    let created = std::fs::create_dir_all(path);
    created.map_err(|source| Error::Cache { path: path.to_path_buf(), doing: "creating the directory", source })
}

#[cfg(test)]
mod tests;
