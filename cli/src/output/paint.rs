//! Colours, where stdout is a terminal and the user wants them.

use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::LazyLock;

static COLOURS: LazyLock<bool> = LazyLock::new(|| {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !plain && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
});

fn paint(code: &str, text: impl Display) -> String {
    match *COLOURS {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_string(),
    }
}

pub fn bold(text: impl Display) -> String {
    paint("1", text)
}

pub fn dim(text: impl Display) -> String {
    paint("2", text)
}

pub fn good(text: impl Display) -> String {
    paint("32", text)
}

pub fn warning(text: impl Display) -> String {
    paint("1;33", text)
}

pub fn command(text: impl Display) -> String {
    paint("36", text)
}

/// By a survey's usual colour of a band.
pub fn band(band: &str, text: impl Display) -> String {
    let code = match band {
        "u" => "35",
        "g" => "32",
        "r" => "31",
        "i" => "33",
        "z" => "34",
        _ => "36",
    };
    paint(code, text)
}
