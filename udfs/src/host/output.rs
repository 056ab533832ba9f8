//! What modules print goes to the log, with the module's name.
//!
//! Each worker has a socket for it. It writes a mark with the module's name before each call, and a parent before each
//! import, so that lines are never put down to a neighbour, however late they are read.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

const MARK: char = '\u{1e}';
/// Lines of one call that are logged: a module that prints each row would drown the rest.
const MAX_LINES: usize = 100;
const MAX_LINE_BYTES: u64 = 8 << 10;
/// Lines kept for the message of a worker that does not start.
const KEPT_LINES: usize = 12;

/// The last lines of a worker, whoever printed them.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    pub fn text(&self) -> String {
        self.0.lock().iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn push(&self, line: &str) {
        let mut lines = self.0.lock();
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_string());
    }
}

/// Logs lines until the process closes its end; `module` is whose they are before the first mark.
pub async fn log(printed: impl AsyncRead + Unpin, tail: Tail, module: String) {
    let mut reader = BufReader::new(printed);
    let mut lines = Lines { of_one: !module.is_empty(), module, n_lines: 0 };
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&bytes);
        if let Some(line) = lines.on(line.trim_end()) {
            tail.push(line);
            tracing::info!(module = %lines.module, line, "a module printed");
        }
    }
}

/// Whose line it is, and whether it is logged.
#[derive(Debug, Default)]
struct Lines {
    /// Whether no other module prints here.
    of_one: bool,
    module: String,
    n_lines: usize,
}

impl Lines {
    /// A module may print what looks like one.
    fn is_mark(&self, module: &str) -> bool {
        let is_name = module.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if self.of_one { module == self.module } else { is_name }
    }

    fn on<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if let Some(module) = line.strip_prefix(MARK).filter(|module| self.is_mark(module)) {
            *self = Self { module: module.to_string(), n_lines: 0, ..*self };
            return None;
        }
        self.n_lines += 1;
        match self.n_lines {
            n if n <= MAX_LINES => Some(line),
            n if n == MAX_LINES + 1 => Some("(further lines of this call are left out)"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_belong_to_the_module_of_the_last_mark() {
        let mut lines = Lines::default();
        assert_eq!((lines.on("early"), lines.module.as_str()), (Some("early"), ""));
        assert_eq!((lines.on("\u{1e}rise_rate"), lines.module.as_str()), (None, "rise_rate"));
        assert_eq!((lines.on("noise"), lines.module.as_str()), (Some("noise"), "rise_rate"));
    }

    #[test]
    fn what_a_module_prints_is_no_mark() {
        let mut lines = Lines { of_one: true, module: "prints".into(), n_lines: 0 };
        assert_eq!((lines.on("\u{1e}other"), lines.module.as_str()), (Some("\u{1e}other"), "prints"));
        assert_eq!((lines.on("\u{1e}prints"), lines.n_lines), (None, 0));
        assert_eq!(Lines::default().on("\u{1e}\u{fffd}"), Some("\u{1e}\u{fffd}"));
    }

    #[test]
    fn a_module_that_prints_each_row_is_cut_short() {
        let mut lines = Lines::default();
        assert_eq!((0..10_000).filter_map(|_| lines.on("row")).count(), MAX_LINES + 1);
        lines.on("\u{1e}next");
        assert_eq!(lines.on("row"), Some("row"));
    }
}
