//! The Python package `redpoll`, carried inside the binary so that worker and executor are always of one version.

use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../python/src/", $path)))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "redpoll/__init__.py",
    "redpoll/author/__init__.py",
    "redpoll/author/check.py",
    "redpoll/author/columns.py",
    "redpoll/author/imports.py",
    "redpoll/author/names.py",
    "redpoll/author/trial.py",
    "redpoll/consumer.py",
    "redpoll/package/__init__.py",
    "redpoll/package/__main__.py",
    "redpoll/package/look.py",
    "redpoll/package/reach.py",
    "redpoll/package/sample.py",
    "redpoll/package/scan.py",
    "redpoll/package/source.py",
    "redpoll/sdk.py",
    "redpoll/sqltypes.py",
    "redpoll/worker/__init__.py",
    "redpoll/worker/__main__.py",
    "redpoll/worker/convert.py",
    "redpoll/worker/evaluate.py",
    "redpoll/worker/frames.py",
    "redpoll/worker/grouped.py",
    "redpoll/worker/guard.py",
    "redpoll/worker/lifeline.py",
    "redpoll/worker/limits.py",
    "redpoll/worker/load.py",
    "redpoll/worker/network.py",
    "redpoll/worker/parent.py",
    "redpoll/worker/results.py",
    "redpoll/worker/serve.py",
    "redpoll/standin/pyspark/__init__.py",
    "redpoll/standin/pyspark/absent.py",
    "redpoll/standin/pyspark/sql/__init__.py",
    "redpoll/standin/pyspark/sql/avro/__init__.py",
    "redpoll/standin/pyspark/sql/avro/functions.py",
    "redpoll/standin/pyspark/sql/column.py",
    "redpoll/standin/pyspark/sql/dataframe.py",
    "redpoll/standin/pyspark/sql/functions.py",
    "redpoll/standin/pyspark/sql/pandas/__init__.py",
    "redpoll/standin/pyspark/sql/pandas/functions.py",
    "redpoll/standin/pyspark/sql/session.py",
    "redpoll/standin/pyspark/sql/types.py",
    "redpoll/standin/pyspark/sql/window.py",
];

/// Writes the package below `dir`, in a folder named by its content, unless it is there. Gives that folder.
pub fn unpack(dir: &Path) -> io::Result<PathBuf> {
    let place = dir.join(content_name());
    if place.exists() {
        return Ok(place);
    }
    let unpacking = dir.join(format!(".{}", Uuid::new_v4().simple()));
    for (path, content) in FILES {
        let path = unpacking.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(dir))?;
        std::fs::write(path, content)?;
    }
    match std::fs::rename(&unpacking, &place) {
        // Another process was quicker: its files have the same content.
        Err(_) if place.exists() => std::fs::remove_dir_all(&unpacking)?,
        renamed => renamed?,
    }
    Ok(place)
}

fn content_name() -> String {
    let mut hash = Xxh3::new();
    for (path, content) in FILES {
        hash.update(path.as_bytes());
        hash.update(content.as_bytes());
    }
    format!("{:032x}", hash.digest128())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python_files(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                python_files(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "py") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_file_of_the_package_is_carried() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/src");
        let mut found = Vec::new();
        python_files(&source, &mut found);
        let mut found: Vec<_> =
            found.iter().map(|path| path.strip_prefix(&source).unwrap().to_str().unwrap()).collect();
        let mut carried: Vec<_> = FILES.iter().map(|(path, _)| *path).collect();
        found.sort();
        carried.sort();
        assert_eq!(carried, found);
    }

    #[test]
    fn unpacking_twice_gives_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let place = unpack(dir.path()).unwrap();
        assert_eq!(unpack(dir.path()).unwrap(), place);
        assert!(place.join("redpoll/worker/__main__.py").is_file());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
