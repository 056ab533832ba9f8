//! What each module did, for people and for programs.

use std::collections::BTreeMap;

use redpoll_core::ledger::ModuleCounts;
use serde_json::{Value, json};

use super::super::table::{Align, Table};
use crate::values::grouped;

/// A row for each module. Columns that are empty for all of them are left out.
pub fn table(modules: &BTreeMap<String, ModuleCounts>) -> Table {
    type Column = (&'static str, bool, fn(&ModuleCounts) -> String);
    let columns: [Column; 12] = [
        ("in", true, |counts| grouped(counts.rows)),
        ("gated", true, |counts| grouped(counts.gated)),
        ("null", true, |counts| grouped(counts.null)),
        ("failed", true, |counts| grouped(counts.failed)),
        ("at rest", false, |counts| some(counts.rested)),
        ("restarts", false, |counts| some(counts.restarts)),
        ("imports", false, |counts| some(counts.imports)),
        ("µs p50", true, |counts| micros(counts, 0.5)),
        ("µs p99", true, |counts| micros(counts, 0.99)),
        ("queue ms", true, |counts| grouped(counts.queue_micros / 1000)),
        ("MiB", true, |counts| grouped(counts.peak_kib >> 10)),
        ("MB moved", true, |counts| grouped(counts.bytes / 1_000_000)),
    ];
    let shown = |(_, always, get): &Column| *always || modules.values().any(|counts| !get(counts).is_empty());
    let columns: Vec<Column> = columns.into_iter().filter(shown).collect();
    let heads = columns.iter().map(|(name, ..)| (*name, Align::Right));
    let mut table = Table::new([("module", Align::Left)].into_iter().chain(heads).collect::<Vec<_>>());
    for (module, counts) in modules {
        table.row([module.clone()].into_iter().chain(columns.iter().map(|(.., get)| get(counts))));
    }
    table
}

/// The counts, with the quantiles of the time per alert.
pub fn json(modules: &BTreeMap<String, ModuleCounts>) -> Value {
    let one = |(module, counts): (&String, &ModuleCounts)| {
        let mut value = json!(counts);
        value["p50_micros"] = json!(counts.micros.quantile(0.5));
        value["p99_micros"] = json!(counts.micros.quantile(0.99));
        (module.clone(), value)
    };
    Value::Object(modules.iter().map(one).collect())
}

fn some(n: u64) -> String {
    if n == 0 { String::new() } else { grouped(n) }
}

fn micros(counts: &ModuleCounts, share: f64) -> String {
    counts.micros.quantile(share).map_or_else(|| "-".to_owned(), grouped)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn modules() -> BTreeMap<String, ModuleCounts> {
        let mut roid = ModuleCounts { rows: 1234, gated: 1000, null: 4, peak_kib: 70 << 10, ..Default::default() };
        roid.queue_micros = 5_600;
        roid.micros.record(234, Duration::from_micros(234 * 64));
        let bad = ModuleCounts { rows: 1234, failed: 1234, rested: 34, restarts: 3, ..Default::default() };
        [("bad".to_owned(), bad), ("roid".to_owned(), roid)].into()
    }

    #[test]
    fn each_module_has_a_row() {
        let expected = "\
module     in  gated  null  failed  at rest  restarts  µs p50  µs p99  queue ms  MiB  MB moved
──────  ─────  ─────  ────  ──────  ───────  ────────  ──────  ──────  ────────  ───  ────────
bad     1,234      0     0   1,234       34         3       -       -         0    0         0
roid    1,234  1,000     4       0                         64      64         5   70         0
";
        assert_eq!(table(&modules()).render(None), expected);
        let mut calm = modules();
        calm.remove("bad");
        assert!(!table(&calm).render(None).contains("restarts"));
        assert!(table(&BTreeMap::new()).is_empty());
    }

    #[test]
    fn programs_get_the_quantiles() {
        let found = json(&modules());
        assert_eq!((&found["roid"]["p99_micros"], &found["bad"]["p50_micros"]), (&json!(64), &Value::Null));
        assert_eq!((&found["roid"]["in"], &found["bad"]["restarts"]), (&json!(1234), &json!(3)));
    }
}
