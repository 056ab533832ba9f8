//! The ledger for people: a line for each epoch, then what each rule cut and what each sink took.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use redpoll_core::ledger::{Line, SourceCounts, ViewCounts};
use redpoll_core::revision::Revised;

use super::paint;
use super::table::{Align, Table};
use crate::values::{counted, grouped, moment};

/// Sums over epochs.
#[derive(Debug, Default, PartialEq)]
pub struct Totals {
    pub epochs: u64,
    pub fetched: u64,
    pub absent: u64,
    pub decoded: u64,
    pub quarantined: u64,
    pub kept: u64,
    pub cut: BTreeMap<String, u64>,
    pub unknown: BTreeMap<String, u64>,
    /// What each rule of each view cut, and where it is NULL, by view and rule.
    pub rules: BTreeMap<(String, String), (u64, u64)>,
    pub sinks: BTreeMap<String, u64>,
    pub refused: BTreeMap<String, u64>,
    pub recomputed: BTreeMap<String, u64>,
    pub failures: BTreeMap<String, u64>,
    pub withheld: BTreeMap<String, u64>,
    /// Records of the quarantine that were sent again.
    pub replayed: u64,
    /// Offsets that the source had deleted before they were read, each with its epoch.
    pub expired: Vec<(String, u64)>,
}

impl Totals {
    pub fn of(lines: &[Line]) -> Self {
        let mut totals = Self::default();
        for line in lines {
            totals.epochs += 1;
            totals.fetched += line.fetched;
            totals.absent += line.absent;
            totals.decoded += line.decoded;
            totals.quarantined += line.quarantined;
            totals.kept += line.kept;
            add(&mut totals.cut, &line.cut);
            add(&mut totals.unknown, &line.unknown);
            line.views.iter().for_each(|view| totals.add_rules(view));
            add(&mut totals.sinks, &line.sinks);
            add(&mut totals.refused, &line.refused);
            add(&mut totals.recomputed, &line.recomputed);
            add(&mut totals.failures, &line.failures);
            add(&mut totals.withheld, &line.withheld);
            totals.replayed += line.replayed.values().sum::<u64>();
            for counts in &line.source {
                let place = |(start, end)| format!("{}[{}] {start}..{end}", counts.topic, counts.partition);
                totals.expired.extend(counts.expired.iter().copied().map(|range| (place(range), line.epoch.0)));
            }
        }
        totals
    }

    fn add_rules(&mut self, view: &ViewCounts) {
        let rules: BTreeSet<&String> = view.cut.keys().chain(view.unknown.keys()).collect();
        for rule in rules {
            let n = |of: &BTreeMap<String, u64>| of.get(rule).copied().unwrap_or(0);
            let (cut, unknown) = self.rules.entry((view.view.clone(), rule.clone())).or_default();
            *cut += n(&view.cut);
            *unknown += n(&view.unknown);
        }
    }
}

fn add(into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (name, n) in from {
        *into.entry(name.clone()).or_default() += n;
    }
}

/// What happened in each epoch of a job, where it was changed or moved, and the sums.
pub fn render(job: &str, lines: &[Line], revised: &[Revised], width: Option<usize>) -> String {
    let totals = Totals::of(lines);
    let mut text =
        format!("{}: {}, {}\n", paint::bold(job), counted(totals.epochs, "epoch"), counted(totals.decoded, "alert"));
    if lines.is_empty() {
        return text;
    }
    let changed = revisions(revised);
    let gap = if changed.is_empty() { "" } else { "\n" };
    let _ = write!(text, "\n{}\n{changed}{gap}{}", epochs(lines, &totals).render(width), sums(&totals, width));
    text
}

/// Revisions that changed rows or positions, each with its first epoch.
pub fn revisions(revised: &[Revised]) -> String {
    let mut text = String::new();
    for Revised { revision, first, changes, moves } in revised {
        let _ = writeln!(text, "revision {revision}, from epoch {first} on");
        let lines = changes.iter().map(ToString::to_string).chain(moves.iter().map(ToString::to_string));
        lines.for_each(|line| _ = writeln!(text, "  - {line}"));
    }
    text
}

fn epochs(lines: &[Line], totals: &Totals) -> Table {
    use Align::{Left, Right};
    let mut table = Table::new([
        ("epoch", Right),
        ("planned (UTC)", Left),
        ("source", Left),
        ("fetched", Right),
        ("absent", Right),
        ("alerts", Right),
        ("quarantined", Right),
        ("kept", Right),
        ("cut", Right),
        ("unknown", Right),
    ]);
    let sum = |rules: &BTreeMap<String, u64>| rules.values().sum();
    // A job that was never changed has but one.
    let revision = |line: &Line| match lines.iter().any(|line| line.revision > 0) {
        true => {
            format!("{} r{}{}", grouped(line.epoch.0), line.revision, if line.revised.is_empty() { "" } else { "*" })
        }
        false => grouped(line.epoch.0),
    };
    for line in lines {
        let counts =
            [line.fetched, line.absent, line.decoded, line.quarantined, line.kept, sum(&line.cut), sum(&line.unknown)];
        let head = [revision(line), moment(line.planned), sources(&line.source)];
        table.row(head.into_iter().chain(counts.map(grouped)));
    }
    if lines.len() > 1 {
        let t = totals;
        let counts = [t.fetched, t.absent, t.decoded, t.quarantined, t.kept, sum(&t.cut), sum(&t.unknown)];
        let head = [String::new(), String::new(), "all epochs".to_owned()];
        table.row(head.into_iter().chain(counts.map(grouped)));
    }
    table
}

/// `ztf_20260102: 4 partitions`, or the offsets if there is but one partition.
fn sources(source: &[SourceCounts]) -> String {
    let topics: BTreeSet<&str> = source.iter().map(|counts| counts.topic.as_str()).collect();
    let of = |topic: &str| {
        let parts: Vec<_> = source.iter().filter(|counts| counts.topic == topic).collect();
        match parts.as_slice() {
            [one] => format!("{} {}..{}", short(topic), one.start, one.end),
            many => format!("{}, {} partitions", short(topic), many.len()),
        }
    };
    topics.into_iter().map(of).collect::<Vec<_>>().join("; ")
}

/// A folder's or file's last name.
fn short(topic: &str) -> &str {
    let trimmed = topic.trim_end_matches('/');
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

/// What the rules, the sinks and the modules did, each as a table of its own.
pub fn sums(totals: &Totals, width: Option<usize>) -> String {
    let mut text = String::new();
    let head = [("view", Align::Left), ("rule", Align::Left), ("cut", Align::Right), ("unknown", Align::Right)];
    let mut table = Table::new(head);
    for ((view, rule), (cut, unknown)) in &totals.rules {
        table.row([view.clone(), rule.clone(), grouped(*cut), grouped(*unknown)]);
    }
    let mut sinks = Table::new([("sink", Align::Left), ("rows", Align::Right)]);
    for (sink, rows) in &totals.sinks {
        sinks.row([sink.clone(), grouped(*rows)]);
    }
    let mut refused = Table::new([("sink that refused", Align::Left), ("rows", Align::Right)]);
    for (sink, rows) in &totals.refused {
        refused.row([sink.clone(), grouped(*rows)]);
    }
    let mut recomputed = Table::new([("topic that keeps its first rows", Align::Left), ("recomputed", Align::Right)]);
    for (sink, rows) in &totals.recomputed {
        recomputed.row([sink.clone(), grouped(*rows)]);
    }
    let mut failures = Table::new([("module that failed", Align::Left), ("rows", Align::Right)]);
    for (module, rows) in &totals.failures {
        failures.row([module.clone(), grouped(*rows)]);
    }
    let mut withheld = Table::new([("module that set aside", Align::Left), ("alerts", Align::Right)]);
    for (module, alerts) in &totals.withheld {
        withheld.row([module.clone(), grouped(*alerts)]);
    }
    let mut expired = Table::new([("expired before it was read", Align::Left), ("epoch", Align::Right)]);
    for (range, epoch) in &totals.expired {
        expired.row([range.clone(), grouped(*epoch)]);
    }
    let tables: Vec<String> = [expired, table, sinks, refused, recomputed, failures, withheld]
        .iter()
        .filter(|table| !table.is_empty())
        .map(|table| table.render(width))
        .collect();
    text += &tables.join("\n");
    if totals.replayed > 0 {
        let _ = writeln!(text, "\n{} of the quarantine sent again", counted(totals.replayed, "record"));
    }
    text
}

#[cfg(test)]
pub mod tests {
    use redpoll_core::ids::{Epoch, SplitId};
    use redpoll_core::revision::{Change, Move};
    use serde_json::json;

    use super::*;

    pub fn line(epoch: u64, quarantined: u64) -> Line {
        let source = json!([{ "topic": "file:///data/night/", "partition": 0, "start": epoch * 1000, "end": epoch * 1000 + 1000,
            "fetched": 1000, "absent": 0, "records": 1000 - quarantined, "decoded": 1000 - quarantined,
            "quarantined": quarantined }]);
        serde_json::from_value(json!({
            "epoch": epoch, "planned": 1_767_331_800_000_i64, "source": source, "fetched": 1000, "absent": 0,
            "decoded": 1000 - quarantined, "quarantined": quarantined, "kept": 900 - quarantined,
            "cut": { "candidate.nbad = 0": 60, "candidate.rb >= 0.55": 30 }, "unknown": { "candidate.rb >= 0.55": 10 },
            "sinks": { "ztf.raw": 1000 - quarantined, "fink_bright_ztf": 12 }, "digests": {},
            "views": [{ "view": "good", "from": "alerts", "root": true, "in": 1000 - quarantined,
                "kept": 900 - quarantined, "cut": { "candidate.nbad = 0": 60, "candidate.rb >= 0.55": 30 },
                "unknown": { "candidate.rb >= 0.55": 10 }, "digest": format!("{:032x}", 0) },
                { "view": "near", "from": "good", "root": false, "in": 900 - quarantined, "kept": 12,
                "cut": { "distance < 5": 888 - quarantined }, "unknown": {}, "digest": format!("{:032x}", 0) }],
            "failures": {}, "executors": { "one": 4 },
        }))
        .unwrap()
    }

    #[test]
    fn each_epoch_has_a_line_and_each_rule_its_sum() {
        let expected = "\
ztf-night: 2 epochs, 1,999 alerts

epoch  planned (UTC)        source            fetched  absent  alerts  quarantined   kept  cut  unknown
─────  ───────────────────  ────────────────  ───────  ──────  ──────  ───────────  ─────  ───  ───────
    0  2026-01-02 05:30:00  night 0..1000       1,000       0   1,000            0    900   90       10
    1  2026-01-02 05:30:00  night 1000..2000    1,000       0     999            1    899   90       10
                            all epochs          2,000       0   1,999            1  1,799  180       20

view  rule                    cut  unknown
────  ────────────────────  ─────  ───────
good  candidate.nbad = 0      120        0
good  candidate.rb >= 0.55     60       20
near  distance < 5          1,775        0

sink              rows
───────────────  ─────
fink_bright_ztf     24
ztf.raw          1,999
";
        assert_eq!(render("ztf-night", &[line(0, 0), line(1, 1)], &[], None), expected);
    }

    #[test]
    fn epochs_of_a_job_that_was_changed_have_their_revision() {
        let what = "view good: cut `rb >= 0.55` becomes `rb >= 0.65`".to_owned();
        let changes = vec![Change { what, tables: vec!["science".into()], asks: true, meant: false }];
        let moves = vec![Move { topic: "ztf".into(), partition: 1, from: 40, to: 45 }];
        let revised = Revised { revision: 2, first: Epoch(1), changes, moves };
        let mut lines = [line(0, 0), line(1, 1)];
        (lines[1].revision, lines[1].revised) = (2, [(SplitId(0), 0)].into());
        let text = render("ztf-night", &lines, &[revised], None);
        assert!(text.contains("\n 0 r0  2026") && text.contains("\n1 r2*  2026"), "{text}");
        let told = "\nrevision 2, from epoch 1 on\n  - view good: cut `rb >= 0.55` becomes `rb >= 0.65` (rows of science)\n  - ztf[1]: 40..45 are skipped\n";
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn what_is_set_aside_and_sent_again_is_told() {
        let mut line = line(2, 0);
        line.refused = [("ztf.objects".to_owned(), 3)].into();
        line.withheld = [("roid".to_owned(), 2)].into();
        line.replayed = [(Epoch(0), 1000)].into();
        let text = sums(&Totals::of(&[line]), None);
        let expected = "\
module that set aside  alerts
─────────────────────  ──────
roid                        2

1,000 records of the quarantine sent again
";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_topic_of_many_partitions_is_one_word() {
        let part = |partition| SourceCounts { topic: "ztf_20260102".into(), partition, end: 5, ..Default::default() };
        assert_eq!(sources(&[part(0), part(1)]), "ztf_20260102, 2 partitions");
        assert_eq!(sources(&[part(0)]), "ztf_20260102 0..5");
    }

    #[test]
    fn what_expired_is_named_with_its_epoch() {
        let mut line = line(3, 0);
        line.source[0].expired = vec![(3000, 3010), (3020, 3021)];
        let text = render("ztf-night", &[line], &[], None);
        let lines: Vec<_> = text.lines().filter(|line| line.contains("..30")).collect();
        assert_eq!(lines, ["file:///data/night/[0] 3000..3010      3", "file:///data/night/[0] 3020..3021      3"]);
    }

    #[test]
    fn a_job_without_epochs_says_so() {
        assert_eq!(render("new", &[], &[], None), "new: 0 epochs, 0 alerts\n");
        assert_eq!(line(3, 0).epoch, Epoch(3));
    }
}
