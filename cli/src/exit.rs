//! How a command ends: with 0 it did what was asked, with 1 it failed, with 2 it was asked wrongly.

use std::fmt;

/// The command line asks for something that cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// All that is to be said was printed already.
#[derive(Debug, thiserror::Error)]
#[error("")]
pub struct Told(pub u8);

/// Shells give 128 + 2 to what Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

pub fn code(error: &anyhow::Error) -> u8 {
    if let Some(Told(code)) = error.downcast_ref() {
        return *code;
    }
    match error.downcast_ref::<Usage>() {
        Some(_) => 2,
        None => 1,
    }
}

/// The error and its causes on one line each, without repeating what a cause already says.
pub struct Plain<'a>(pub &'a anyhow::Error);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = String::new();
        for cause in self.0.chain() {
            let text = cause.to_string();
            if said.contains(&text) {
                continue;
            }
            if !said.is_empty() {
                write!(f, "\n  because: ")?;
            }
            write!(f, "{text}")?;
            said.push_str(&text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn wrong_use_keeps_its_code_under_context() {
        let error = anyhow::Error::new(Usage("no such file".into())).context("reading the pipeline");
        assert_eq!(code(&error), 2);
        assert_eq!(code(&anyhow!("it failed")), 1);
        assert_eq!(code(&Told(INTERRUPTED).into()), 130);
    }

    #[test]
    fn a_cause_that_is_already_told_is_not_repeated() {
        let cause = std::io::Error::other("disk full");
        let error = Err::<(), _>(cause).context("night/1.avro: disk full").context("run").unwrap_err();
        assert_eq!(Plain(&error).to_string(), "run\n  because: night/1.avro: disk full");
    }
}
