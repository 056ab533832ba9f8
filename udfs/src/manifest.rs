//! `module.toml`: what a science module is called, takes, gives and needs.
//!
//! ```toml
//! name = "rise_rate"
//! survey = "ztf"
//! function = "rise_rate:rise_rate"
//! inputs = [{ name = "jd", type = "list<double>" }, { name = "magpsf", type = "list<float>" }]
//! returns = "struct<rate: double, error: double>"
//!
//! [environment]
//! python = "3.11"
//! requirements = "requirements.txt"
//! ```
//!
//! Unknown keys are refused: a misspelt `timeot` would otherwise be found at night.

mod error;
pub(crate) mod requirements;
mod sql_type;

use std::path::{Path, PathBuf};
use std::time::Duration;

use redpoll_core::runtime::Version;
use serde::{Deserialize, Deserializer};
use xxhash_rust::xxh3::xxh3_128;

pub use error::Error;
pub(crate) use error::nearest;
pub use error::nearest as nearest_name;
pub use requirements::Lock;
pub use sql_type::SqlType;

/// The name of the file that makes a folder a science module.
pub const FILE_NAME: &str = "module.toml";

/// A science module as its manifest declares it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Name of the function in SQL; one module per name.
    pub name: String,
    /// Survey whose alerts it reads, such as `ztf` or `lsst`.
    pub survey: String,
    /// What it computes, in one line for lists.
    #[serde(default)]
    pub about: String,
    /// `package.module:function`; a `.py` file beside the manifest is found before the environment's packages.
    pub function: String,
    /// How the function is called.
    #[serde(default)]
    pub kind: Kind,
    /// Its arguments, in order.
    pub inputs: Vec<Input>,
    /// Type of one result.
    pub returns: SqlType,
    /// SQL condition on the view's columns; rows for which it is not true are not evaluated and give null.
    #[serde(rename = "where", default)]
    pub where_sql: Option<String>,
    /// Most rows per call.
    #[serde(default = "default_batch_rows")]
    pub batch_rows: usize,
    /// Longest time of one call, as in `"60s"`; a worker that takes longer is killed.
    #[serde(default = "default_timeout", deserialize_with = "duration")]
    pub timeout: Duration,
    /// Most memory for the worker's data, in MiB. Without it there is no limit.
    #[serde(default)]
    pub memory_limit_mb: Option<u64>,
    /// Most processor time of one call, in whole seconds; a worker that takes more is ended. Without it there is no
    /// limit but `timeout`.
    #[serde(default, deserialize_with = "some_duration")]
    pub cpu_limit: Option<Duration>,
    /// Most workers that one call may lose; then its rows that were not answered fail, and the module rests.
    #[serde(default = "default_max_restarts")]
    pub max_restarts: u32,
    /// Share of the rows of three epochs that may fail: beyond it the module rests. 1: it never does for that.
    #[serde(default = "default_max_failed")]
    pub max_failed: f64,
    /// Whether it may use the network.
    #[serde(default)]
    pub network: bool,
    /// What a row becomes when the function fails on it.
    #[serde(default)]
    pub on_error: OnError,
    /// The Python it runs in.
    pub environment: Environment,
    /// The folder of the manifest, as an absolute path.
    #[serde(skip)]
    pub dir: PathBuf,
    /// Changes when the manifest, the lock or any [file](files) of the module changes.
    #[serde(skip)]
    pub fingerprint: String,
    /// Of a deployed module: URL of the registry that has its bundle.
    #[serde(skip)]
    pub bundles: Option<String>,
    /// Of a deployed module: the version that runs in its shadow.
    #[serde(skip)]
    pub shadow: Option<Version>,
}

/// One argument of a module.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the parameter, for messages: arguments are passed by position.
    pub name: String,
    /// Its type; arguments of other types are cast. Without it, or with `any`, an argument comes in its own type.
    #[serde(rename = "type", default = "SqlType::any")]
    pub sql_type: SqlType,
    /// Whether a call may leave it out, as Python does with a parameter that has a default. Such inputs come last.
    #[serde(default)]
    pub optional: bool,
    /// Of a grouped module: whether rows are grouped by it.
    #[serde(default)]
    pub key: bool,
    /// SQL expression over the columns of an alert that a test of the module takes its values from. Pipelines say
    /// themselves what they call it with.
    #[serde(default)]
    pub from: Option<String>,
}

/// How a module's function is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// With one pandas Series per input (a DataFrame for a struct); gives a Series or DataFrame.
    #[default]
    Pandas,
    /// With one pyarrow array per input; gives an array.
    Arrow,
    /// Once per row, with plain Python values.
    Row,
    /// Once per value of the key inputs, with one DataFrame of the rows that have it; gives a row for each, or one for
    /// all. Rows of one call are grouped: those of another call are another group.
    Grouped,
}

/// What a failure of the function costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The module's value is null in the rows that failed, and the reason is noted in the row.
    #[default]
    Null,
    /// The alert is set aside for every table whose rows depend on the module's value. Others get it, with the note.
    Quarantine,
}

/// The Python that a module runs in. Modules of equal environments share their workers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Version (`"3.11"`) or path of the interpreter.
    pub python: String,
    /// Requirements, relative to the manifest. With a loose one among them the lock is the file with the ending `.lock`
    /// beside it; else it is this file, complete, for nothing else is installed. Without it the interpreter is used as
    /// it is. Once loaded: the absolute path of the lock.
    #[serde(default)]
    pub requirements: Option<PathBuf>,
    /// What the lock file says.
    #[serde(skip)]
    pub lock: Lock,
}

impl Environment {
    /// With the lock that belongs to these requirements.
    pub fn locked(python: &str, requirements: &Path) -> Result<Self, Error> {
        let (place, lock) = Lock::of(requirements, python)?;
        Ok(Self { python: python.to_owned(), requirements: Some(place), lock })
    }
}

impl Module {
    /// As plans name it.
    pub fn version(&self) -> Version {
        Version { module: self.name.clone(), lock: self.fingerprint.clone(), bundles: self.bundles.clone() }
    }

    /// How many arguments a call has, at least and at most.
    pub fn n_arguments(&self) -> std::ops::RangeInclusive<usize> {
        self.inputs.iter().filter(|input| !input.optional).count()..=self.inputs.len()
    }

    /// The call as its author would write it, with types: `rise_rate(jd list<double>, [last int])`.
    pub fn signature(&self) -> String {
        let one = |input: &Input| match (input.sql_type.is_any(), input.optional) {
            (true, false) => input.name.clone(),
            (false, false) => format!("{} {}", input.name, input.sql_type),
            (true, true) => format!("[{}]", input.name),
            (false, true) => format!("[{} {}]", input.name, input.sql_type),
        };
        self.inputs.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Reads and checks a manifest and its lock.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let (mut module, text) = Self::declared(path)?;
        if let Some(requirements) = &module.environment.requirements {
            module.environment = Environment::locked(&module.environment.python, requirements)?;
        }
        module.fingerprint = module.fingerprint_of(&text)?;
        Ok(module)
    }

    /// What a manifest alone says, with its text: no lock is read, and there is no fingerprint.
    pub(crate) fn declared(path: &Path) -> Result<(Self, String), Error> {
        let text = read(path)?;
        let mut module: Module = toml::from_str(&text).map_err(|error| Error::from_toml(path, &text, &error))?;
        module.dir = folder(path)?;
        module.check(path, &text)?;
        module.environment.requirements = module.environment.requirements.map(|name| module.dir.join(name));
        Ok((module, text))
    }

    fn check(&self, path: &Path, text: &str) -> Result<(), Error> {
        let wrong = |key: &str, reason: String| Err(Error::invalid(path, text, key, reason));
        if !is_identifier(&self.name) {
            return wrong("name", format!("`{}` is not a name for SQL: use letters, digits and `_`", self.name));
        }
        if !self.function.split_once(':').is_some_and(|(module, name)| !module.is_empty() && is_identifier(name)) {
            return wrong("function", format!("`{}` is not of the form `package.module:function`", self.function));
        }
        if self.batch_rows == 0 {
            return wrong("batch_rows", "a call needs at least one row".into());
        }
        if self.cpu_limit.is_some_and(|limit| limit.as_secs() == 0 || limit.subsec_nanos() > 0) {
            return wrong("cpu_limit", "the kernel counts whole seconds, such as `10s`".into());
        }
        if !(0.0..=1.0).contains(&self.max_failed) {
            return wrong("max_failed", format!("{} is not a share from 0 to 1", self.max_failed));
        }
        if let Some(reason) = self.wrong_inputs() {
            return wrong("inputs", reason.into());
        }
        Ok(())
    }

    fn wrong_inputs(&self) -> Option<&'static str> {
        let (keys, grouped) = (self.inputs.iter().any(|input| input.key), self.kind == Kind::Grouped);
        match self.inputs.first() {
            None => Some("a module needs at least one input"),
            _ if keys != grouped => {
                Some("kind = \"grouped\" needs inputs with `key = true`, and no other kind has them")
            }
            Some(first) if first.optional || !self.inputs.is_sorted_by_key(|input| input.optional) => {
                Some("inputs with `optional = true` come last, after one that is not")
            }
            Some(_) => None,
        }
    }

    fn fingerprint_of(&self, text: &str) -> Result<String, Error> {
        let mut content = format!("{text}\0{}", self.environment.lock.text()).into_bytes();
        let manifest = self.dir.join(FILE_NAME);
        let lock = self.environment.requirements.as_ref();
        for file in files(&self.dir)? {
            if file == manifest || lock == Some(&file) {
                continue;
            }
            content.push(0);
            // Python files beside the manifest are told by their text alone, all others by their place too.
            if file.parent() != Some(&self.dir) || !is_python(&file) {
                let place = file.strip_prefix(&self.dir).unwrap_or(&file);
                content.extend(place.as_os_str().as_encoded_bytes());
                content.push(0);
            }
            content.extend(std::fs::read(&file).map_err(|source| Error::Read { path: file, source })?);
        }
        Ok(format!("{:032x}", xxh3_128(&content)))
    }
}

/// What lies in a module's folder and is no part of what runs: another word in its docs makes no other version.
const LEFT_OUT: [&str; 4] = ["tests", "samples", "__pycache__", "README.md"];

/// The files of a module's folder, at any depth, in order. Left out are hidden files, docs, folders of tests and
/// samples, and what Python compiles.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |source| Error::Read { path: dir.to_path_buf(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') || LEFT_OUT.contains(&name.as_ref()) || name.ends_with(".pyc") {
            continue;
        }
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

fn is_python(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "py")
}

/// The absolute folder of a file: workers run elsewhere.
fn folder(path: &Path) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
    Ok(absolute.parent().unwrap_or(&absolute).to_path_buf())
}

pub(crate) fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}

fn default_batch_rows() -> usize {
    4096
}

fn default_timeout() -> Duration {
    Duration::from_secs(60)
}

fn default_max_restarts() -> u32 {
    64
}

fn default_max_failed() -> f64 {
    0.2
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = text.trim_end_matches(char::is_alphabetic);
    let millis = match &text[number.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => 0,
    };
    match number.parse::<u64>() {
        Ok(count) if count > 0 && millis > 0 => Ok(Duration::from_millis(count.saturating_mul(millis))),
        _ => Err(serde::de::Error::custom(format!("`{text}` is not a time such as `500ms`, `60s` or `2m`"))),
    }
}

#[cfg(test)]
mod tests;
