//! The lock of an environment: every package with its version.

use std::path::Path;

use super::Error;

/// Pinned requirements, in order of names, without comments: equal locks are equal environments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Lock(Vec<String>);

impl Lock {
    /// Reads a requirements file in which each line is `name==version`, as `uv pip compile` writes it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let mut pins = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let pin = line.split(" #").next().unwrap_or_default().trim();
            if pin.is_empty() || pin.starts_with('#') {
                continue;
            }
            if !is_pin(pin) {
                let requirement = pin.to_string();
                return Err(Error::NotPinned { path: path.to_path_buf(), line: index + 1, requirement });
            }
            pins.push(pin.to_string());
        }
        pins.sort();
        Ok(Self(pins))
    }

    /// The lock as a requirements file.
    pub fn text(&self) -> String {
        self.0.iter().map(|pin| format!("{pin}\n")).collect()
    }
}

/// `name==version`, with an environment marker behind `;` if need be. Options and addresses are not pins.
fn is_pin(pin: &str) -> bool {
    let requirement = pin.split(';').next().unwrap_or_default().trim();
    let Some((name, version)) = requirement.split_once("==") else { return false };
    let is_word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric() || more.contains(char))
    };
    is_word(name.trim(), "._-[],") && is_word(version.trim(), "._-+!")
}
