//! Plain tables: a head, a rule, rows; numbers to the right, two blanks between columns.

use std::fmt::Write;

use super::paint;
use crate::values::counted;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

#[derive(Debug, Default)]
pub struct Table {
    head: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

/// Narrower columns tell nothing.
const LEAST_WIDTH: usize = 8;
/// Names and times are up to this long. They are shortened only when longer texts are as short as they may be.
const NAME_WIDTH: usize = 20;
const GAP: usize = 2;

impl Table {
    pub fn new(head: impl IntoIterator<Item = (impl Into<String>, Align)>) -> Self {
        Self { head: head.into_iter().map(|(name, align)| (name.into(), align)).collect(), rows: Vec::new() }
    }

    /// As many cells as the head has.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let mut cells: Vec<String> = cells.into_iter().map(|cell| one_line(cell.into())).collect();
        cells.resize(self.head.len(), String::new());
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table in at most `width` characters a line: long texts are shortened, then names; a number never is, for it
    /// would be read as another. Columns that still do not fit are left out and counted below.
    pub fn render(&self, width: Option<usize>) -> String {
        let (widths, n_shown) = self.fit(width);
        let mut text = String::new();
        let head: Vec<String> = self.head.iter().map(|(name, _)| name.clone()).collect();
        text += &paint::bold(self.line(&head, &widths[..n_shown]));
        text.push('\n');
        let rule: Vec<String> = widths[..n_shown].iter().map(|width| "─".repeat(*width)).collect();
        let _ = writeln!(text, "{}", paint::dim(rule.join("  ")));
        for row in &self.rows {
            text += &self.line(row, &widths[..n_shown]);
            text.push('\n');
        }
        let hidden: Vec<&str> = self.head[n_shown..].iter().map(|(name, _)| name.as_str()).collect();
        if !hidden.is_empty() {
            let n = hidden.len() as u64;
            let few = hidden[..hidden.len().min(6)].join(", ");
            let more = if hidden.len() > 6 { ", …" } else { "" };
            let note =
                format!("… and {} more: {few}{more}; name the columns, or use --format json", counted(n, "column"));
            let _ = writeln!(text, "{}", paint::dim(note));
        }
        text
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (i, (width, (cell, (_, align)))) in widths.iter().zip(cells.iter().zip(&self.head)).enumerate() {
            if i > 0 {
                line += "  ";
            }
            let cell = shorten(cell, *width);
            let blanks = " ".repeat(width - length(&cell));
            match align {
                Align::Left => line.extend([cell, blanks]),
                Align::Right => line.extend([blanks, cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }

    /// Widths of the columns, and how many of them are shown.
    fn fit(&self, width: Option<usize>) -> (Vec<usize>, usize) {
        let natural = |i: usize| {
            let cells = self.rows.iter().map(|row| length(&row[i]));
            cells.chain([length(&self.head[i].0)]).max().unwrap_or(0)
        };
        let natural: Vec<usize> = (0..self.head.len()).map(natural).collect();
        let mut widths = natural.clone();
        let Some(width) = width else { return (widths, self.head.len()) };
        let least = |(natural, (_, align)): (&usize, &(String, Align))| match align {
            Align::Left => (*natural).min(LEAST_WIDTH),
            Align::Right => *natural,
        };
        let least: Vec<usize> = natural.iter().zip(&self.head).map(least).collect();
        let mut n_shown = widths.len();
        while n_shown > 1 && total(&least[..n_shown]) > width {
            n_shown -= 1;
        }
        while total(&widths[..n_shown]) > width {
            let yields = (0..n_shown).filter(|i| widths[*i] > least[*i]);
            let Some(widest) = yields.max_by_key(|i| (natural[*i] > NAME_WIDTH, widths[*i])) else { break };
            widths[widest] -= 1;
        }
        (widths, n_shown)
    }
}

fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// Width of the terminal on stdout; none if it is a file or a pipe, where nothing need fit.
pub fn terminal_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some(usize::from(width.0).max(20))
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn shorten(text: &str, width: usize) -> String {
    match length(text) > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

fn one_line(text: String) -> String {
    match text.contains(['\n', '\t', '\r']) {
        true => text.split(['\n', '\t', '\r']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([("objectId", Align::Left), ("n", Align::Right)]);
        table.row(["ZTF18abc", "12"]);
        table.row(["ZTF19a", "7"]);
        table
    }

    #[test]
    fn numbers_stand_to_the_right_and_lines_end_without_blanks() {
        let expected = "\
objectId   n
────────  ──
ZTF18abc  12
ZTF19a     7
";
        assert_eq!(table().render(None), expected);
    }

    #[test]
    fn a_wide_cell_is_shortened_to_the_terminal() {
        let mut table = Table::new([("error", Align::Left), ("n", Align::Right)]);
        table.row(["the record ends in the middle\nof a block", "1"]);
        let text = table.render(Some(20));
        assert_eq!(text.lines().last(), Some("the record ends …  1"));
        assert!(text.lines().all(|line| line.chars().count() <= 20), "{text}");
    }

    #[test]
    fn a_name_outlives_a_sentence_and_a_number_stays_whole() {
        let mut table = Table::new([("job", Align::Left), ("candid", Align::Right), ("now", Align::Left)]);
        table.row(["redpoll-demo-night", "1000001000000000002", "the source is read to its end"]);
        let last = |width| table.render(Some(width)).lines().last().map(str::to_owned);
        assert_eq!(last(54), Some("redpoll-demo-night  1000001000000000002  the source i…".to_owned()));
        assert_eq!(last(40), Some("redpoll-…  1000001000000000002  the sou…".to_owned()));
        assert_eq!(last(30), Some("… and 1 column more: now; name the columns, or use --format json".to_owned()));
    }

    #[test]
    fn columns_that_do_not_fit_are_counted_and_named() {
        let mut table = Table::new((0..10).map(|i| (format!("column_number_{i}"), Align::Left)));
        table.row((0..10).map(|i| i.to_string()));
        let text = table.render(Some(40));
        assert!(text.lines().next().is_some_and(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("… and 6 columns more: column_number_4"), "{text}");
    }
}
