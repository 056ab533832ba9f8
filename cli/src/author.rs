//! A module on alerts, before it is deployed: where the alerts come from, what its inputs are taken from, what it gave.

pub mod sample;

mod inputs;

pub mod trial;

pub mod verdict;

pub mod comparison;

pub mod pytest;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use redpoll_udfs::author::{self, Checked};
use redpoll_udfs::environment::{Environments, Locked, lock};
use redpoll_udfs::manifest::{FILE_NAME, Module};

use crate::exit::Usage;
use crate::progress;
use crate::values::counted;

/// The manifest that an author means by a path: its folder, or the file itself.
pub fn manifest(path: &Path) -> Result<PathBuf, Usage> {
    let file = if path.is_dir() { path.join(FILE_NAME) } else { path.to_path_buf() };
    match file.is_file() && file.file_name().is_some_and(|name| name == FILE_NAME) {
        true => Ok(file),
        false => Err(Usage(format!(
            "{}: there is no {FILE_NAME}; name the folder of a module, or make one with `redpoll module new`",
            path.display()
        ))),
    }
}

/// Locks the requirements of a module if need be, and builds its environment.
pub async fn built(path: &Path, cache: &Path, relock: bool) -> Result<Arc<Module>> {
    let (manifest, cache) = (manifest(path)?, cache.to_path_buf());
    let spinner = progress::spinner("locking and building the environment");
    let built = tokio::task::spawn_blocking(move || {
        let locked = lock(&manifest, relock)?;
        let module = Module::load(&manifest)?;
        let environments = Environments::new(&cache)?;
        environments.interpreter(&module.environment)?;
        anyhow::Ok((Arc::new(module), locked))
    });
    let built = built.await.context("building the environment ended early")?;
    spinner.finish_and_clear();
    let (module, locked) = built?;
    if let Locked::Made(path, n) = locked {
        progress::say(format!("{} locks {}", path.display(), counted(n as u64, "package")));
    }
    Ok(module)
}

/// What is wrong with the module's files.
pub async fn checked(module: &Arc<Module>, cache: &Path) -> Result<Checked> {
    let (module, environments) = (module.clone(), Environments::new(cache)?);
    let checked = tokio::task::spawn_blocking(move || author::check(&environments, &module)).await;
    Ok(checked.context("the check of its files ended early")??)
}
