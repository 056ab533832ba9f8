//! What comes with the binary: pipelines and science modules, beside its source or installed beside itself.

use std::path::{Path, PathBuf};

use anyhow::Result;
use redpoll_connectors::catalog;

use crate::args::Catalogs;
use crate::exit::Usage;

/// `given`, or the modules that came with this binary; none if it came alone.
pub fn modules(given: &[PathBuf]) -> Result<Vec<PathBuf>, Usage> {
    if let Some(missing) = given.iter().find(|dir| !dir.is_dir()) {
        return Err(Usage(format!("--modules {}: there is no such folder", missing.display())));
    }
    match given.is_empty() {
        true => Ok(find("udfs/modules").into_iter().collect()),
        false => Ok(given.to_vec()),
    }
}

/// Catalogues of a process with this cache.
pub fn catalogs(cache: &Path, args: &Catalogs) -> catalog::Config {
    let memory = usize::try_from(args.catalog_memory).unwrap_or(usize::MAX);
    catalog::Config { memory, ..catalog::Config::new(cache) }
}

/// `given`, or the user's cache.
pub fn cache(given: Option<&Path>) -> PathBuf {
    let home = || std::env::var_os("HOME").map_or_else(std::env::temp_dir, |home| PathBuf::from(home).join(".cache"));
    match given {
        Some(path) => path.to_path_buf(),
        None => std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("redpoll"),
    }
}

/// A file or folder of the repository: where it is installed, or where the source lay.
pub fn find(path: &str) -> Option<PathBuf> {
    let installed = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.join("share/redpoll")));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf);
    [installed, source].into_iter().flatten().map(|root| root.join(path)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_of_the_repository_are_found_from_anywhere() {
        let dirs = modules(&[]).unwrap();
        assert!(dirs[0].join("ztf/rise_rate/module.toml").exists(), "{dirs:?}");
    }

    #[test]
    fn a_folder_of_modules_that_is_not_there_is_wrong_use() {
        assert!(modules(&["/no/such/folder".into()]).unwrap_err().to_string().contains("/no/such/folder"));
    }
}
