//! Texts with places for secrets: `Bearer {env:TNS_TOKEN}`.
//!
//! A pipeline's text, its options and all that is made of them are logged and shown. So a secret stands there by the name
//! of an environment variable, and only the scheduler that sends looks it up, when it sends.

use std::fmt;

const OPENS: &str = "{env:";

/// A text with the names of environment variables in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    written: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Plain(String),
    Variable(String),
}

impl Text {
    pub fn parse(written: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), written);
        while let Some((before, after)) = rest.split_once(OPENS) {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("'{OPENS}' is never closed; write '{OPENS}NAME}}'"))?;
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!("'{name}' is no name of an environment variable; write '{OPENS}NAME}}'"));
            }
            parts.push(Part::Plain(before.to_owned()));
            parts.push(Part::Variable(name.to_owned()));
            rest = after;
        }
        parts.push(Part::Plain(rest.to_owned()));
        Ok(Self { written: written.to_owned(), parts })
    }

    /// The environment variables that it names.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Plain(_) => None,
        })
    }

    /// The text with the values of its variables, or the name of one that has none.
    pub fn fill(&self, value: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
        let part = |part: &Part| match part {
            Part::Plain(text) => Ok(text.clone()),
            Part::Variable(name) => value(name).ok_or_else(|| name.clone()),
        };
        self.parts.iter().map(part).collect()
    }
}

/// As it was written, without any secret.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}
