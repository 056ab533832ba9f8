//! The module's own tests, run with pytest in its environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};
use redpoll_udfs::environment::Environments;
use redpoll_udfs::manifest::Module;
use serde::Serialize;

/// Folder of tests, which is no part of what is deployed.
const FOLDER: &str = "tests";

/// What became of them.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Tests {
    /// There are none.
    None,
    Passed {
        summary: String,
    },
    Failed {
        output: String,
    },
    /// The environment has no pytest.
    Skipped {
        why: String,
    },
}

/// Runs the tests beside a module.
pub async fn run(module: &Arc<Module>, cache: &Path) -> Result<Tests> {
    let (module, environments) = (module.clone(), Environments::new(cache)?);
    let ran = tokio::task::spawn_blocking(move || {
        let places = places(&module.dir);
        if places.is_empty() {
            return Ok(Tests::None);
        }
        let interpreter = environments.interpreter(&module.environment)?;
        in_environment(&interpreter, &environments.worker_path()?, &module.dir, &places)
    });
    ran.await.context("the tests ended early")?
}

fn places(dir: &Path) -> Vec<PathBuf> {
    let is_test = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_file() && name.starts_with("test_") && name.ends_with(".py")
    };
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut places: Vec<PathBuf> = entries(dir).filter(|path| is_test(path)).collect();
    if entries(&dir.join(FOLDER)).any(|path| is_test(&path)) {
        places.push(dir.join(FOLDER));
    }
    places.sort();
    places
}

fn in_environment(interpreter: &Path, package: &Path, dir: &Path, places: &[PathBuf]) -> Result<Tests> {
    let python = |arguments: &[&str]| {
        let mut command = Command::new(interpreter);
        command.args(arguments).current_dir(dir).stdin(Stdio::null());
        // The module's files come first, as a worker finds them.
        let path = std::env::join_paths([dir, package]).unwrap_or_else(|_| package.into());
        command.env("PYTHONPATH", path).env("PYTHONNOUSERSITE", "1").env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    let has_pytest = python(&["-c", "import pytest"]).output().is_ok_and(|output| output.status.success());
    if !has_pytest {
        let why = "there is no pytest in its environment: add `pytest` to its requirements".to_owned();
        return Ok(Tests::Skipped { why });
    }
    let output = python(&["-m", "pytest", "-q", "-p", "no:cacheprovider"]).args(places).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
    Ok(match output.status.success() {
        true => Tests::Passed { summary: last },
        false => Tests::Failed { output: text },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_stand_beside_the_module_or_in_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(places(dir.path()), Vec::<PathBuf>::new());
        std::fs::create_dir(dir.path().join("tests")).unwrap();
        for file in ["test_a.py", "tests/test_b.py", "tests/data.py"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        assert_eq!(places(dir.path()), [dir.path().join("test_a.py"), dir.path().join("tests")]);
    }
}
