//! Locks: exact versions for what a module's author asks for loosely.
//!
//! `uv` resolves where it is there, `pip` otherwise. What the worker itself needs is resolved together with the module's
//! own requirements, so that an author names only what the code imports.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::{Error, command, command_text, last_lines, system_interpreter, uv};
use crate::manifest::requirements::{head, is_ours, is_stale, place};
use crate::manifest::{self, Kind, Lock, Module};

/// What every worker imports.
const WORKER: &str = "pyarrow>=14\n";
/// The same for an environment with numpy 1, which pyarrow 26 refuses when it is imported: its metadata does not say so.
const WORKER_OF_NUMPY_1: &str = "pyarrow>=14,<26\n";
/// What it imports for functions on Series.
const PANDAS: &str = "pandas>=1.5\n";

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    #[error(transparent)]
    Environment(#[from] Error),
}

/// What became of a module's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locked {
    /// The interpreter is used as it is, or its author keeps the lock.
    Given,
    /// The lock was made of these very requirements before.
    Fresh(PathBuf),
    /// The lock is new, with so many packages.
    Made(PathBuf, usize),
}

/// Makes the lock of the module whose manifest this is, if its requirements have none or have changed since; with
/// `again` in any case. Blocks, and asks the package index.
pub fn lock(manifest: &Path, again: bool) -> Result<Locked, LockError> {
    let (module, _) = Module::declared(manifest)?;
    let Some(requirements) = &module.environment.requirements else { return Ok(Locked::Given) };
    let needs_pandas = matches!(module.kind, Kind::Pandas | Kind::Grouped);
    lock_requirements(requirements, &module.environment.python, needs_pandas, again)
}

/// Makes the lock beside these requirements; see [`lock`].
pub fn lock_requirements(
    requirements: &Path,
    python: &str,
    needs_pandas: bool,
    again: bool,
) -> Result<Locked, LockError> {
    let place = place(requirements);
    if !requirements.is_file() && place.is_file() {
        return Ok(Locked::Given);
    }
    let wanted = manifest::read(requirements)?;
    if let Some(known) = known(requirements, &place, &wanted, python, again)? {
        return Ok(known);
    }
    let pins = pins(requirements, python, needs_pandas, &wanted)?;
    let n_packages = Lock::parse(&place, &pins)?.packages().count();
    let written = std::fs::write(&place, head(python, &wanted) + &pins);
    written.map_err(|source| Error::Cache { path: place.clone(), doing: "writing the lock", source })?;
    Ok(Locked::Made(place, n_packages))
}

/// What need not be made: the author's own lock, or one of these very requirements.
fn known(
    requirements: &Path,
    place: &Path,
    wanted: &str,
    python: &str,
    again: bool,
) -> Result<Option<Locked>, manifest::Error> {
    if !place.is_file() {
        let is_lock = Lock::parse(requirements, wanted).is_ok_and(|lock| lock.is_complete());
        return Ok(is_lock.then_some(Locked::Given));
    }
    let text = manifest::read(place)?;
    Ok(match is_ours(&text) {
        false => Some(Locked::Given),
        true if !again && !is_stale(&text, python, wanted) => Some(Locked::Fresh(place.to_path_buf())),
        true => None,
    })
}

/// The versions that meet the requirements of the module and of its worker.
fn pins(requirements: &Path, python: &str, needs_pandas: bool, wanted: &str) -> Result<String, LockError> {
    let pandas = if needs_pandas { PANDAS } else { "" };
    let resolve = |worker: &str| {
        let own = format!("{worker}{pandas}");
        let pins = match uv() {
            Some(uv) => by_uv(&uv, requirements, python, &own),
            None => by_pip(requirements, python, &own),
        };
        pins.map_err(|failed| failed.of(requirements, wanted, python))
    };
    let pins = resolve(WORKER)?;
    let has_numpy_1 = |(name, version): (&str, &str)| name == "numpy" && version.starts_with("1.");
    match Lock::parse(requirements, &pins)?.packages().any(has_numpy_1) {
        true => Ok(resolve(WORKER_OF_NUMPY_1)?),
        false => Ok(pins),
    }
}

fn by_uv(uv: &[&str], requirements: &Path, python: &str, own: &str) -> Result<String, Failed> {
    let mut command = command(uv);
    command.args(["pip", "compile", "--no-header", "--no-annotate", "--no-python-downloads", "--python", python]);
    command.arg(requirements).arg("-").env_remove("VIRTUAL_ENV");
    let output = run(command, own)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn by_pip(requirements: &Path, python: &str, own: &str) -> Result<String, Failed> {
    let mut command = Command::new(system_interpreter(python));
    command.args(["-m", "pip", "--no-input", "--disable-pip-version-check", "install", "--quiet", "--dry-run"]);
    command.args(["--ignore-installed", "--report", "-", "--requirement"]).arg(requirements);
    command.args(own.lines()).env_remove("VIRTUAL_ENV");
    let text = command_text(&command);
    let output = run(command, "")?;
    let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| Failed {
        command: text,
        reason: Reason::Said(format!("its report cannot be read: {error}")),
    })?;
    let packages = report["install"].as_array().into_iter().flatten();
    let pin = |package: &Value| {
        let word = |key: &str| package["metadata"][key].as_str().map(str::to_owned);
        Some(format!("{}=={}\n", word("name")?.to_lowercase().replace('_', "-"), word("version")?))
    };
    Ok(packages.filter_map(pin).collect())
}

/// Runs a command that reads `input`.
fn run(mut command: Command, input: &str) -> Result<Output, Failed> {
    let text = command_text(&command);
    let failed = |reason| Failed { command: text.clone(), reason };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| failed(Reason::NotStarted(source)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who does not read it says why by its end.
        _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|source| failed(Reason::NotStarted(source)))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(failed(Reason::Said(last_lines(&output)))),
    }
}

/// Why there is no lock.
struct Failed {
    command: String,
    reason: Reason,
}

enum Reason {
    NotStarted(std::io::Error),
    Said(String),
}

impl Failed {
    fn of(self, requirements: &Path, text: &str, python: &str) -> Error {
        let python = python.to_owned();
        match self.reason {
            Reason::NotStarted(source) => Error::Command { python, command: self.command, source },
            Reason::Said(output) => {
                let remedy = remedy(requirements, text, &output);
                Error::Resolve { requirements: requirements.to_path_buf(), python, output, remedy: remedy.into() }
            }
        }
    }
}

/// The lines of the requirements whose packages the resolver speaks of.
fn remedy(requirements: &Path, text: &str, output: &str) -> String {
    let words: Vec<String> = output.split(|c: char| !is_of_name(c)).map(plain).collect();
    let named = |line: &str| {
        let name: String = line.trim().chars().take_while(|c| is_of_name(*c)).collect();
        !name.is_empty() && words.contains(&plain(&name))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| named(line));
    let lines: Vec<String> =
        lines.map(|(index, line)| format!("  {}:{}: {}", requirements.display(), index + 1, line.trim())).collect();
    match lines.is_empty() {
        true => "change the requirements, or `environment.python` in module.toml".to_owned(),
        false => {
            format!(
                "correct or loosen what is named, or change `environment.python` in module.toml:\n{}",
                lines.join("\n")
            )
        }
    }
}

fn is_of_name(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.')
}

/// As package names are compared.
fn plain(name: &str) -> String {
    name.trim_matches(['.', '-', '_']).to_lowercase().replace(['_', '.'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_cannot_be_met_is_named() {
        let text = "# what it imports\nnumpy>=2\nscikit_learn==9.9\n";
        let said = "Because there is no version of scikit-learn==9.9 and you require scikit-learn==9.9, \
                    we can conclude that your requirements are unsatisfiable.";
        let remedy = remedy(Path::new("requirements.txt"), text, said);
        assert!(remedy.ends_with("module.toml:\n  requirements.txt:3: scikit_learn==9.9"), "{remedy}");
    }

    #[test]
    fn a_complete_lock_is_left_to_its_author() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let manifest = "name = \"a\"\nsurvey = \"ztf\"\nfunction = \"a:a\"\nreturns = \"int\"\n\
                        inputs = [{ name = \"x\", type = \"int\" }]\n[environment]\npython = \"3.11\"\n";
        write("module.toml", manifest);
        let path = dir.path().join("module.toml");
        assert_eq!(lock(&path, false).unwrap(), Locked::Given);
        write("module.toml", &format!("{manifest}requirements = \"requirements.txt\"\n"));
        write("requirements.txt", "numpy==2.4.6\npyarrow==26.0.1\n");
        assert_eq!(lock(&path, true).unwrap(), Locked::Given);
        write("requirements.txt", "numpy\n");
        write("requirements.lock", &format!("{}numpy==2.4.6\n", head("3.11", "numpy\n")));
        assert_eq!(lock(&path, false).unwrap(), Locked::Fresh(dir.path().join("requirements.lock")));
        write("requirements.lock", "numpy==2.4.6\n");
        assert_eq!(lock(&path, true).unwrap(), Locked::Given);
    }
}
