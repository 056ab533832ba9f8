//! What is wrong with a pipeline: where, what, the nearest name, the remedy. All problems of a file are told at once.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing to mend. Lines and columns count from 1; 0 if there is no place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    pub line: u64,
    pub column: u64,
    pub message: String,
    pub remedy: String,
}

impl Problem {
    pub fn at((line, column): (u64, u64), message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { line, column, message: message.into(), remedy: remedy.into() }
    }

    /// Of an error's text: what is wrong, then perhaps `; ` and what to do.
    pub fn told(place: (u64, u64), text: &str) -> Self {
        let (message, remedy) = text.rsplit_once("; ").unwrap_or((text, ""));
        Self::at(place, message, remedy)
    }
}

/// Every problem of one file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Problems {
    pub file: String,
    pub problems: Vec<Problem>,
}

impl Problems {
    pub(super) fn finish(self) -> Result<(), Self> {
        match self.problems.is_empty() {
            true => Ok(()),
            false => Err(self.sorted()),
        }
    }

    /// In the order of the text, each once.
    pub(super) fn sorted(mut self) -> Self {
        self.problems.sort();
        self.problems.dedup();
        self
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{}:{}: {}", self.file, problem.line, problem.column, problem.message)?;
            if !problem.remedy.is_empty() {
                write!(f, "\n    {}", problem.remedy)?;
            }
        }
        Ok(())
    }
}

/// `did you mean …?`, or the names there are when none is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let score = |other: &&str| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
    let best = known.iter().map(|other| (score(other), *other)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, other)) if score > 0.75 => format!("did you mean '{other}'?"),
        _ if known.is_empty() => String::new(),
        _ => {
            let shown: Vec<_> = known.iter().take(12).copied().collect();
            let more = if known.len() > shown.len() { ", …" } else { "" };
            format!("there is: {}{more}", shown.join(", "))
        }
    }
}
