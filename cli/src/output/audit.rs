//! An audit for people: what was compared, then a line for each finding.

use std::fmt::Write;

use redpoll_core::sink::SinkKind;
use redpoll_scheduler::service::{Kind, Report};

use super::paint;
use super::table::{Align, Table};
use crate::values::{counted, grouped};

/// Findings that are shown; JSON has more.
const SHOWN: usize = 50;

pub fn render(report: &Report, width: Option<usize>) -> String {
    let night = report.night.map(|night| format!(" of {night}")).unwrap_or_default();
    let mut text = format!(
        "{}: {}{night}, {} ({} absent, {} quarantined), {}\n",
        paint::bold(&report.job),
        counted(report.epochs, "epoch"),
        counted(report.positions, "source position"),
        grouped(report.absent),
        grouped(report.quarantined),
        counted(report.alerts, "alert"),
    );
    if !report.sinks.is_empty() {
        let _ = write!(text, "\n{}", sinks(report).render(width));
    }
    if !report.notes.is_empty() {
        text += "\nnot compared, or not wholly:\n";
        for note in &report.notes {
            let _ = writeln!(text, "  {note}");
        }
        if report.more_notes > 0 {
            let _ = writeln!(text, "  … and {} more", grouped(report.more_notes));
        }
    }
    let _ = write!(text, "\n{}", verdict(report));
    text
}

fn sinks(report: &Report) -> Table {
    use Align::{Left, Right};
    let head =
        [("sink", Left), ("kind", Left), ("wanted", Right), ("found", Right), ("told apart by", Left), ("also", Left)];
    let mut table = Table::new(head);
    for sink in &report.sinks {
        let kind = match sink.kind {
            SinkKind::Delta => "archive",
            SinkKind::Topic => "topic",
            SinkKind::Store => "wide-column table",
            SinkKind::Outbox => "outbox",
        };
        let extra = [(sink.repeats, "repeats"), (sink.expired, "expired"), (sink.others, "of others")];
        let extra = extra.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", grouped(*n)));
        let row = [sink.name.clone(), kind.to_owned(), grouped(sink.wanted), grouped(sink.found), sink.by.clone()];
        table.row(row.into_iter().chain([extra.collect::<Vec<_>>().join(", ")]));
    }
    table
}

fn verdict(report: &Report) -> String {
    if report.is_clean() {
        return format!("{} nothing is missing, doubled or unexpected\n", paint::good("✓"));
    }
    let mut text = String::new();
    for finding in report.findings.iter().take(SHOWN) {
        let _ = writeln!(text, "{:<10}  {}", word(finding.kind), finding.text);
    }
    let shown: u64 = report.findings.iter().take(SHOWN).map(|finding| finding.n).sum();
    let all: u64 = report.found.values().sum();
    if all > shown {
        let _ = writeln!(text, "… and {} more; --format json lists as many as --limit says", grouped(all - shown));
    }
    let kinds = report.found.iter().map(|(kind, n)| format!("{} {}", grouped(*n), word(*kind)));
    let _ = writeln!(text, "{} {}", paint::warning("✗"), kinds.collect::<Vec<_>>().join(", "));
    text
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Missing => "missing",
        Kind::Doubled => "doubled",
        Kind::Unexpected => "unexpected",
        Kind::Position => "position",
        Kind::Ledger => "ledger",
        Kind::Unreadable => "unreadable",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(findings: usize) -> Report {
        let one = json!({ "kind": "missing", "sink": "bright", "epoch": 3, "alert": "17", "n": 1,
            "position": ["ztf", 0, 5, 0], "text": "bright: alert 17 of ztf[0]@5 is missing (epoch 3)" });
        let found = if findings > 0 { json!({ "missing": findings }) } else { json!({}) };
        serde_json::from_value(json!({
            "job": "night", "epochs": 2, "again": 2, "positions": 1000, "absent": 1, "quarantined": 1, "alerts": 998,
            "sinks": [{ "name": "bright", "kind": "topic", "by": "headers", "wanted": 12, "found": 11, "repeats": 3, "expired": 0,
                "others": 0 }],
            "found": found, "findings": vec![one; findings], "notes": [], "more_notes": 0, "limit": 1000,
        }))
        .unwrap()
    }

    #[test]
    fn a_clean_audit_says_what_was_compared() {
        let text = render(&report(0), None);
        assert!(
            text.starts_with("night: 2 epochs, 1,000 source positions (1 absent, 1 quarantined), 998 alerts"),
            "{text}"
        );
        assert!(
            text.contains("3 repeats") && text.ends_with("✓ nothing is missing, doubled or unexpected\n"),
            "{text}"
        );
    }

    #[test]
    fn findings_have_a_line_each_up_to_a_bound_and_the_rest_is_counted() {
        let text = render(&report(60), None);
        assert_eq!(text.matches("alert 17 of ztf[0]@5 is missing").count(), SHOWN);
        assert!(text.contains("… and 10 more") && text.ends_with("✗ 60 missing\n"), "{text}");
    }
}
