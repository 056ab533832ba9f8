//! The folder where an executor keeps results until they are fetched.
//!
//! Each executor has a folder of its own, so that results of an earlier one never pass for its own, and holds a lock
//! beside it while it lives. What a killed executor left is found by its free lock and removed by the next that starts.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A scheduler tells when results may go. One that died did not: its results go when nothing touched them for this long.
const FORGOTTEN: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(crate) struct Folder {
    pub path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes `<root>/<id>`, after it removed those whose executors are gone.
    pub fn make(root: &Path, id: &str) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        remove_abandoned(root)?;
        let (path, lock_path) = (root.join(id), root.join(format!("{id}.lock")));
        loop {
            let lock = File::create(&lock_path)?;
            lock.lock()?;
            // Another that starts may have taken the lock first, and removed the file.
            if lock_path.exists() {
                std::fs::create_dir_all(&path)?;
                return Ok(Self { path, lock_path, _lock: lock });
            }
        }
    }

    /// Removes results that nothing touched for long.
    pub fn sweep(path: &Path) -> io::Result<()> {
        for query in std::fs::read_dir(path)? {
            let query = query?;
            let touched = query.metadata()?.modified()?;
            if SystemTime::now().duration_since(touched).is_ok_and(|age| age > FORGOTTEN) {
                std::fs::remove_dir_all(query.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for removed in [std::fs::remove_dir_all(&self.path), std::fs::remove_file(&self.lock_path)] {
            if let Err(error) = removed {
                tracing::warn!(path = %self.path.display(), %error, "work folder not removed");
            }
        }
    }
}

fn remove_abandoned(root: &Path) -> io::Result<()> {
    for file in std::fs::read_dir(root)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "lock") {
            let Ok(lock) = File::open(&path) else { continue };
            if lock.try_lock().is_ok() {
                tracing::info!(path = %path.display(), "folder of an executor that is gone removed");
                _ = std::fs::remove_dir_all(path.with_extension(""));
                _ = std::fs::remove_file(&path);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_executor_left_goes_and_a_living_one_keeps_its_own() {
        let root = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
        let living = Folder::make(&root, "live.a").unwrap();
        std::fs::create_dir_all(root.join("live.dead/query")).unwrap();
        File::create(root.join("live.dead.lock")).unwrap();

        let other = Folder::make(&root, "live.b").unwrap();
        assert!(!root.join("live.dead").exists() && !root.join("live.dead.lock").exists());
        assert!(living.path.exists() && other.path.exists());
        drop((living, other));
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
        std::fs::remove_dir(root).unwrap();
    }
}
