//! The lock of an environment: every package with its version.
//!
//! A manifest names a requirements file. It is the lock itself if each line pins a version; else the lock is the file
//! `requirements.lock` beside `requirements.txt`, which [`environment::lock`](crate::environment::lock) makes. Its first
//! line says what it was made of, so that a lock which its requirements have left behind is found.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use super::{Error, read};

/// Begins the first line of a lock that was made by us.
const MADE_OF: &str = "# redpoll locked ";
/// Without this a worker does not start: a file that pins it is meant to be complete.
const WORKER: &str = "pyarrow";

/// Pinned requirements, in order of names, without comments: equal locks are equal environments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Lock(Vec<String>);

impl Lock {
    /// Reads a requirements file in which each line is `name==version`, with `--hash=…` if need be, as
    /// `uv pip compile` writes it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let mut pins = Vec::new();
        for (line, requirement) in requirements(text) {
            if !is_pin(&requirement) {
                return Err(Error::NotPinned { path: path.to_path_buf(), line, requirement });
            }
            pins.push(requirement);
        }
        pins.sort();
        Ok(Self(pins))
    }

    /// The lock of a requirements file, and where it is.
    pub(super) fn of(requirements: &Path, python: &str) -> Result<(PathBuf, Self), Error> {
        let place = place(requirements);
        if place == requirements || !place.is_file() {
            return Ok((requirements.to_path_buf(), Self::parse(requirements, &read(requirements)?)?));
        }
        let text = read(&place)?;
        // Where a module was brought to, the lock alone counts.
        if requirements.is_file() && is_stale(&text, python, &read(requirements)?) {
            return Err(Error::Stale { path: place, requirements: requirements.to_path_buf() });
        }
        let lock = Self::parse(&place, &text)?;
        Ok((place, lock))
    }

    /// The lock as a requirements file.
    pub fn text(&self) -> String {
        self.0.iter().map(|pin| format!("{pin}\n")).collect()
    }

    /// Names of the packages with their versions, in order.
    pub fn packages(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|pin| {
            let (name, rest) = pin.split_once("==")?;
            Some((name.split('[').next()?.trim(), rest.split([' ', ';']).next()?))
        })
    }

    /// Whether nothing else need be installed for a worker to start.
    pub(crate) fn is_complete(&self) -> bool {
        self.packages().any(|(name, _)| name == WORKER)
    }
}

/// Where the lock of a requirements file is: beside it, with the ending `.lock`.
pub(crate) fn place(requirements: &Path) -> PathBuf {
    requirements.with_extension("lock")
}

/// The first line of a lock that is made of these requirements.
pub(crate) fn head(python: &str, requirements: &str) -> String {
    format!("{MADE_OF}for python {python}, of requirements {:032x}\n", xxh3_128(requirements.as_bytes()))
}

/// Whether a lock was made by us, not by its author.
pub(crate) fn is_ours(lock: &str) -> bool {
    lock.starts_with(MADE_OF)
}

/// Whether a lock was made by us, and of something else.
pub(crate) fn is_stale(lock: &str, python: &str, requirements: &str) -> bool {
    is_ours(lock) && !lock.starts_with(&head(python, requirements))
}

/// Requirements with their lines, without comments; what is continued on the next lines is one.
fn requirements(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut open) = (Vec::new(), None::<(usize, String)>);
    for (index, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.starts_with('#') {
            continue;
        }
        let (part, goes_on) = line.strip_suffix('\\').map_or((line, false), |part| (part.trim_end(), true));
        let (at, whole) = match open.take() {
            Some((at, before)) => (at, format!("{before} {part}")),
            None => (index + 1, part.to_owned()),
        };
        match goes_on {
            true => open = Some((at, whole)),
            false if whole.is_empty() => {}
            false => found.push((at, whole)),
        }
    }
    found.extend(open);
    found
}

/// `name==version`, with an environment marker behind `;` and hashes if need be. Options and addresses are not pins.
fn is_pin(pin: &str) -> bool {
    let mut parts = pin.split(" --hash=");
    let requirement = parts.next().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let Some((name, version)) = requirement.split_once("==") else { return false };
    let is_word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric() || more.contains(char))
    };
    is_word(name.trim(), "._-[],") && is_word(version.trim(), "._-+!") && parts.all(|hash| is_word(hash.trim(), ":"))
}
