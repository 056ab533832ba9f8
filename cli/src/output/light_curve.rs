//! A light curve in characters: time to the right, bright at the top, a symbol for each band.

use std::fmt::Write;

use super::paint;

/// One detection.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// MJD, days.
    pub time: f64,
    /// Magnitudes: smaller is brighter.
    pub magnitude: f64,
    /// `g`, `r`, …
    pub band: String,
}

/// Cells of the drawing, without axes.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub width: usize,
    pub height: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { width: 68, height: 14 }
    }
}

/// Symbols of bands, told apart without colour too.
const SYMBOLS: [(&str, char); 6] = [("u", '◆'), ("g", '●'), ("r", '○'), ("i", '▲'), ("z", '■'), ("y", '□')];
const OTHER: char = '+';

/// The curve with axes and a legend; a sentence if there is nothing to draw.
pub fn draw(points: &[Point], size: Size) -> String {
    let points: Vec<&Point> =
        points.iter().filter(|point| point.time.is_finite() && point.magnitude.is_finite()).collect();
    let (Some(times), Some(magnitudes)) =
        (Span::of(points.iter().map(|p| p.time)), Span::of(points.iter().map(|p| p.magnitude)))
    else {
        return "no detections to draw\n".to_owned();
    };
    let (times, magnitudes) = (times.widened(0.5), magnitudes.widened(0.05));
    let mut cells: Vec<Vec<Option<&str>>> = vec![vec![None; size.width]; size.height];
    for point in &points {
        let column = times.cell(point.time, size.width);
        // The first row is the brightest: magnitudes grow downwards.
        let row = magnitudes.cell(point.magnitude, size.height);
        cells[row][column] = Some(&point.band);
    }
    let mut text = String::new();
    for (row, cells) in cells.iter().enumerate() {
        let labelled = row == 0 || row + 1 == size.height || row == size.height / 2;
        let label = if labelled { format!("{:6.2}", magnitudes.at(row, size.height)) } else { " ".repeat(6) };
        let tick = if labelled { '┤' } else { '│' };
        let drawn: String =
            cells.iter().map(|cell| cell.map_or(" ".to_owned(), |band| paint::band(band, symbol(band)))).collect();
        let _ = writeln!(text, "{label} {tick}{}", drawn.trim_end());
    }
    text += &axis(times, size.width);
    text += &legend(&points);
    text
}

fn axis(times: Span, width: usize) -> String {
    let (first, last) = (format!("MJD {:.1}", times.from), format!("{:.1}", times.to));
    let days = format!("{:.0} days", times.to - times.from);
    let gap = width.saturating_sub(first.len() + last.len() + days.len());
    let (left, right) = (gap / 2, gap - gap / 2);
    format!(
        "{} └{}\n{}{first}{}{days}{}{last}\n",
        " ".repeat(6),
        "─".repeat(width),
        " ".repeat(8),
        " ".repeat(left),
        " ".repeat(right)
    )
}

fn legend(points: &[&Point]) -> String {
    let known: Vec<&str> = SYMBOLS.iter().map(|(band, _)| *band).collect();
    let mut bands: Vec<&str> = points.iter().map(|point| point.band.as_str()).collect();
    bands.sort_by_key(|band| (known.iter().position(|known| known == band).unwrap_or(known.len()), *band));
    let counts: Vec<(&str, usize)> = bands.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())).collect();
    let parts: Vec<String> =
        counts.iter().map(|(band, n)| format!("{} {band} ({n})", paint::band(band, symbol(band)))).collect();
    format!("{}magnitude against time    {}\n", " ".repeat(8), parts.join("   "))
}

fn symbol(band: &str) -> char {
    SYMBOLS.iter().find(|(known, _)| *known == band).map_or(OTHER, |(_, symbol)| *symbol)
}

#[derive(Debug, Clone, Copy)]
struct Span {
    from: f64,
    to: f64,
}

impl Span {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let from = values.clone().reduce(f64::min)?;
        Some(Self { from, to: values.reduce(f64::max)? })
    }

    /// At least `least` to each side of the middle: a single value has a place too.
    fn widened(self, least: f64) -> Self {
        let middle = (self.from + self.to) / 2.0;
        Self { from: self.from.min(middle - least), to: self.to.max(middle + least) }
    }

    fn cell(self, value: f64, n: usize) -> usize {
        let share = (value - self.from) / (self.to - self.from);
        ((share * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// The value at the middle of a cell.
    fn at(self, cell: usize, n: usize) -> f64 {
        self.from + (self.to - self.from) * (cell as f64 + 0.5) / n as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(time: f64, magnitude: f64, band: &str) -> Point {
        Point { time, magnitude, band: band.into() }
    }

    #[test]
    fn bright_is_at_the_top_and_late_to_the_right() {
        let points = [point(0.0, 19.0, "g"), point(10.0, 17.0, "r"), point(5.0, 18.0, "g")];
        let expected = "
 17.33 ┤                   ○
 18.00 ┤          ●
 18.67 ┤●
       └────────────────────
        MJD 0.0 10 days 10.0
        magnitude against time    ● g (2)   ○ r (1)
";
        assert_eq!(format!("\n{}", draw(&points, Size { width: 20, height: 3 })), expected);
    }

    #[test]
    fn a_single_detection_stands_in_the_middle() {
        let text = draw(&[point(60_000.0, 18.0, "r")], Size { width: 11, height: 3 });
        assert_eq!(text.lines().nth(1), Some(" 18.00 ┤     ○"));
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        assert_eq!(draw(&[point(1.0, f64::NAN, "g")], Size::default()), "no detections to draw\n");
    }
}
