//! What can be wrong with a manifest, told with file, line, key and remedy.

use std::ops::Range;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest or its lock cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A key that manifests do not have.
    #[error("{}:{line}: unknown key `{key}`{}", path.display(), remedy(nearest, known))]
    UnknownKey { path: PathBuf, line: usize, key: String, nearest: Option<String>, known: String },
    /// A key is missing, or its value cannot be used.
    #[error("{}:{line}: {}{reason}", path.display(), in_key(key))]
    Invalid { path: PathBuf, line: usize, key: Option<String>, reason: String },
    /// A requirement that does not name one version.
    #[error("{}:{line}: `{requirement}` is not pinned: write `name==version`, or let `redpoll module test {}` make the lock", path.display(), folder(path))]
    NotPinned { path: PathBuf, line: usize, requirement: String },
    /// The requirements changed after the lock was made of them.
    #[error("{}: it was made of another {}: `redpoll module test {}` makes it anew", path.display(), requirements.file_name().unwrap_or_default().display(), folder(path))]
    Stale { path: PathBuf, requirements: PathBuf },
}

impl Error {
    pub(super) fn from_toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or(0..0);
        let line = line_of(text, span.start);
        let path = path.to_path_buf();
        if let Some((key, known)) = unknown_field(error.message()) {
            let nearest = nearest(key, known.iter().copied());
            return Self::UnknownKey { path, line, key: key.into(), nearest, known: known.join(", ") };
        }
        Self::Invalid { path, line, key: key_at(text, &span), reason: error.message().into() }
    }

    pub(super) fn invalid(path: &Path, text: &str, key: &str, reason: String) -> Self {
        let line = text.lines().position(|line| line.split('=').next().is_some_and(|name| name.trim() == key));
        Self::Invalid { path: path.into(), line: line.map_or(1, |n| n + 1), key: Some(key.into()), reason }
    }
}

/// The known name that a misspelt one most probably means.
pub fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_string())
}

/// The folder of a file, as a word of a command.
fn folder(path: &Path) -> String {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).display().to_string()
}

fn remedy(nearest: &Option<String>, known: &str) -> String {
    match nearest {
        Some(name) => format!(": did you mean `{name}`?"),
        None => format!(": known here are {known}"),
    }
}

fn in_key(key: &Option<String>) -> String {
    key.as_ref().map(|key| format!("`{key}`: ")).unwrap_or_default()
}

fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

/// The key whose value a span covers: what stands before the nearest `=` on its left.
fn key_at(text: &str, span: &Range<usize>) -> Option<String> {
    let before = text.get(..span.start)?.trim_end().strip_suffix('=')?.trim_end();
    let start = before.rfind(|char: char| !(char.is_alphanumeric() || char == '_')).map_or(0, |at| at + 1);
    Some(before[start..].to_string())
}

/// Key and known keys of serde's message "unknown field `a`, expected one of `b`, `c`".
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let (key, rest) = message.strip_prefix("unknown field `")?.split_once('`')?;
    Some((key, rest.split('`').skip(1).step_by(2).collect()))
}
