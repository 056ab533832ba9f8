//! The science modules of a deployment, by name.
//!
//! A folder with a `module.toml`, at any depth, is a module. Names are unique over all folders, since SQL calls
//! modules by name alone. What is deployed to a warehouse ([`Deployed`]) stands before modules of the same names in
//! folders.

mod bundle;
mod deployed;
mod function;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::manifest::{self, FILE_NAME, Module};

pub use bundle::{Error as BundleError, MAX_BYTES, pack, unpack};
pub use deployed::{Deployed, Error as DeployedError};
pub use function::placeholder_udf;
pub use state::{Deployment, Filter, State};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// Two folders declare one name.
    #[error("module `{name}` is declared twice, in {} and in {}: rename one", first.display(), second.display())]
    Duplicate { name: String, first: PathBuf, second: PathBuf },
    /// A folder of modules cannot be listed.
    #[error("{}: cannot be listed: {source}", path.display())]
    List { path: PathBuf, source: std::io::Error },
    #[error("there is no science module `{name}`{}", nearest.as_ref().map(|n| format!(": did you mean `{n}`?")).unwrap_or_default())]
    Unknown { name: String, nearest: Option<String> },
}

/// Modules by name; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    modules: Arc<BTreeMap<String, Arc<Module>>>,
}

impl Registry {
    /// Loads every module below the folders.
    pub fn load<P: AsRef<Path>>(dirs: &[P]) -> Result<Self, Error> {
        let mut modules: BTreeMap<String, Arc<Module>> = BTreeMap::new();
        for dir in dirs {
            for path in manifests(dir.as_ref())? {
                let module = Module::load(&path)?;
                if let Some(first) = modules.get(&module.name) {
                    let (name, first) = (module.name, first.dir.clone());
                    return Err(Error::Duplicate { name, first, second: module.dir });
                }
                modules.insert(module.name.clone(), Arc::new(module));
            }
        }
        Ok(Self { modules: Arc::new(modules) })
    }

    /// These modules in the place of those that have their names, and all others.
    pub fn with(&self, modules: impl IntoIterator<Item = Arc<Module>>) -> Self {
        let mut all = self.modules.as_ref().clone();
        all.extend(modules.into_iter().map(|module| (module.name.clone(), module)));
        Self { modules: Arc::new(all) }
    }

    /// The module of that name, or the nearest name in the error.
    pub fn get(&self, name: &str) -> Result<&Arc<Module>, Error> {
        self.modules.get(name).ok_or_else(|| Error::Unknown {
            name: name.to_string(),
            nearest: manifest::nearest(name, self.modules.keys().map(String::as_str)),
        })
    }

    /// All modules, in order of names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Module>> {
        self.modules.values()
    }
}

fn manifests(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let unlistable = |source| Error::List { path: dir.to_path_buf(), source };
    let mut entries = std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(unlistable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            found.extend(manifests(&path)?);
        } else if entry.file_name() == FILE_NAME {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
