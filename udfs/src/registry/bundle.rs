//! A module's folder as one object: manifest, lock, Python files and whatever lies beside them.
//!
//! A lock may stand outside of the folder (`../fink-science-7.txt`), so a bundle holds as much of the folders above as
//! the manifest names, and the manifest in it is the one that its author wrote: the fingerprint stays the same.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use uuid::Uuid;

use crate::manifest::{self, FILE_NAME, Module};

/// Most bytes of a module's files together. Models beyond it are packages of its environment.
pub const MAX_BYTES: u64 = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    #[error("module {module}: {}: {source}", path.display())]
    File { module: String, path: PathBuf, source: io::Error },
    #[error("module {module}: its files have more than {} MiB together: put models into a package of its environment", MAX_BYTES >> 20)]
    TooLarge { module: String },
    /// An absolute lock would be looked for on each executor's own disk.
    #[error("module {module}: its lock {} is outside of every folder above it: put it beside {FILE_NAME} and name it by a relative path", lock.display())]
    Lock { module: String, lock: PathBuf },
    #[error("bundle {fingerprint} cannot be unpacked: {source}; deploy the module again")]
    Unpack { fingerprint: String, source: io::Error },
    #[error("bundle {fingerprint} holds a module of fingerprint {found}: it was altered; deploy the module again")]
    Altered { fingerprint: String, found: String },
}

/// The module's files, packed. Equal modules need not give equal bytes.
pub fn pack(module: &Module) -> Result<Vec<u8>, Error> {
    let failed = |path: &Path| {
        let (module, path) = (module.name.clone(), path.to_path_buf());
        move |source| Error::File { module, path, source }
    };
    let files = manifest::files(&module.dir)?;
    let sizes = files.iter().map(|path| path.metadata().map(|data| data.len()).map_err(failed(path)));
    if sizes.sum::<Result<u64, Error>>()? > MAX_BYTES {
        return Err(Error::TooLarge { module: module.name.clone() });
    }
    let root = root(module)?;
    let lock = module.environment.requirements.iter().map(|lock| normal(lock));
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let mut packed = Vec::new();
    for file in files.into_iter().chain(lock) {
        let name = file.strip_prefix(&root).map_err(|_| outside(module, &file))?.to_path_buf();
        if !packed.contains(&name) {
            archive.append_path_with_name(&file, &name).map_err(failed(&file))?;
            packed.push(name);
        }
    }
    archive.into_inner().and_then(GzEncoder::finish).map_err(failed(&module.dir))
}

/// The nearest folder that holds both the module and its lock.
fn root(module: &Module) -> Result<PathBuf, Error> {
    let dir = normal(&module.dir);
    let Some(lock) = module.environment.requirements.as_ref().map(|lock| normal(lock)) else { return Ok(dir) };
    let mut root = dir.ancestors().filter(|folder| lock.starts_with(folder) && folder.parent().is_some());
    root.next().map(Path::to_path_buf).ok_or_else(|| outside(module, &lock))
}

fn outside(module: &Module, lock: &Path) -> Error {
    Error::Lock { module: module.name.clone(), lock: lock.to_path_buf() }
}

/// Without `..`; links are not followed.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = normal.pop(),
            part => normal.push(part),
        }
    }
    normal
}

/// Unpacks a bundle below `dir`, in a folder named by its fingerprint, unless it is there. Blocks.
pub fn unpack(bytes: &[u8], fingerprint: &str, dir: &Path) -> Result<Arc<Module>, Error> {
    let failed = |source| Error::Unpack { fingerprint: fingerprint.to_owned(), source };
    let unpacking = dir.join(format!(".{}", Uuid::new_v4().simple()));
    let place = dir.join(fingerprint);
    std::fs::create_dir_all(&unpacking).map_err(failed)?;
    let unpacked = files_into(bytes, &unpacking).map_err(failed).and_then(|()| load(fingerprint, &unpacking));
    let moved = unpacked.and_then(|_| match std::fs::rename(&unpacking, &place) {
        // Another process was quicker: its files have the same content.
        Err(_) if place.exists() => Ok(()),
        renamed => renamed.map_err(failed),
    });
    // What is left is another's twin, or of no use.
    _ = std::fs::remove_dir_all(&unpacking);
    moved.and_then(|()| load(fingerprint, &place))
}

/// A bundle that was unpacked before.
pub fn unpacked(fingerprint: &str, dir: &Path) -> Option<Arc<Module>> {
    let place = dir.join(fingerprint);
    place.is_dir().then(|| load(fingerprint, &place).ok()).flatten()
}

/// Only ordinary files, and none outside of the folder: bundles come from whoever may write to the warehouse.
fn files_into(bytes: &[u8], folder: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(bytes).take(2 * MAX_BYTES));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() || !entry.unpack_in(folder)? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds more than files of its folder"));
        }
    }
    Ok(())
}

fn load(fingerprint: &str, place: &Path) -> Result<Arc<Module>, Error> {
    let missing = || {
        let source = io::Error::new(io::ErrorKind::NotFound, format!("it has no {FILE_NAME}"));
        Error::Unpack { fingerprint: fingerprint.to_owned(), source }
    };
    let manifests = super::manifests(place).map_err(|_| missing())?;
    let module = Module::load(manifests.first().ok_or_else(missing)?)?;
    let within = normal(&std::path::absolute(place).unwrap_or_else(|_| place.to_path_buf()));
    if let Some(lock) = module.environment.requirements.as_ref().filter(|lock| !normal(lock).starts_with(&within)) {
        return Err(outside(&module, lock));
    }
    match module.fingerprint == fingerprint {
        true => Ok(Arc::new(module)),
        false => Err(Error::Altered { fingerprint: fingerprint.to_owned(), found: module.fingerprint }),
    }
}
