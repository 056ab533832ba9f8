//! What the science modules of a pipeline take: environment, gate, batch, bytes and time.

use redpoll_scheduler::pipeline::ModuleCall;

use super::table::{self, Align, Table};
use crate::values::grouped;

/// One line for each call; nothing if there is none.
pub fn table(calls: &[ModuleCall]) -> String {
    if calls.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        ("module", Align::Left),
        ("for rows of", Align::Left),
        ("where", Align::Left),
        ("environment", Align::Left),
        ("rows a call", Align::Right),
        ("bytes/alert", Align::Right),
        ("µs/alert", Align::Right),
    ]);
    for call in calls {
        table.row([
            call.module.clone(),
            call.view.clone().unwrap_or_else(|| "all alerts".to_owned()),
            call.gate.clone().unwrap_or_default(),
            environment(call),
            grouped(call.batch_rows as u64),
            bytes(call),
            call.micros_per_alert.map_or_else(|| "not measured".to_owned(), |micros| format!("{micros:.1}")),
        ]);
    }
    table.render(table::terminal_width())
}

/// A plan in which each call of a module is followed by what it takes.
pub fn explained(plan: &str, calls: &[ModuleCall]) -> String {
    let mut calls = calls.iter().rev();
    let mut text = String::new();
    for line in plan.lines() {
        text += &format!("{line}\n");
        let indent = line.len() - line.trim_start().len();
        // The plan is printed from its last step to its first.
        if line.trim_start().starts_with("Enrich: ")
            && let Some(call) = calls.next()
        {
            let time = call.micros_per_alert.map(|micros| format!(", {micros:.1} µs")).unwrap_or_default();
            let version: String = call.fingerprint.chars().take(8).collect();
            let costs = format!("{} bytes to Python{time} per alert", bytes(call));
            text += &format!("{}    version {version}, {}; {costs}\n", " ".repeat(indent), environment(call));
        }
    }
    text
}

fn environment(call: &ModuleCall) -> String {
    let key: String = call.environment.chars().take(8).collect();
    if call.n_packages == 0 {
        return format!("python {} as it is", call.python);
    }
    let others = call.n_packages.saturating_sub(call.packages.len());
    let more = if others > 0 { format!(" and {others} more") } else { String::new() };
    format!("{key}, python {}, {}{more}", call.python, call.packages.join(", "))
}

/// With `~` where it is an estimate.
fn bytes(call: &ModuleCall) -> String {
    let about = if call.micros_per_alert.is_some() { "" } else { "~" };
    format!("{about}{}", grouped(call.bytes_per_alert.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(module: &str, micros_per_alert: Option<f64>) -> ModuleCall {
        ModuleCall {
            module: module.into(),
            fingerprint: "0123456789".into(),
            view: Some("good".into()),
            gate: Some("ndethist > 2".into()),
            environment: "abcdef0123".into(),
            python: "3.11".into(),
            packages: vec!["numpy 2.4.6".into()],
            n_packages: 3,
            batch_rows: 8192,
            bytes_per_alert: 1240.4,
            micros_per_alert,
        }
    }

    #[test]
    fn a_call_is_a_line_and_what_nobody_measured_says_so() {
        let text = table(&[call("rise_rate", None), call("roid_catcher", Some(12.34))]);
        let expected = "\
module        for rows of  where         environment                                    rows a call  bytes/alert      µs/alert
────────────  ───────────  ────────────  ─────────────────────────────────────────────  ───────────  ───────────  ────────────
rise_rate     good         ndethist > 2  abcdef01, python 3.11, numpy 2.4.6 and 2 more        8,192       ~1,240  not measured
roid_catcher  good         ndethist > 2  abcdef01, python 3.11, numpy 2.4.6 and 2 more        8,192        1,240          12.3
";
        assert_eq!(text, expected);
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn a_plan_says_what_each_call_takes() {
        let plan = "FanOut: a\n  Enrich: second(x)\n    Enrich: first(x)\n      Cut: good\n";
        let text = explained(plan, &[call("first", Some(1.0)), call("second", None)]);
        let expected = "\
FanOut: a
  Enrich: second(x)
      version 01234567, abcdef01, python 3.11, numpy 2.4.6 and 2 more; ~1,240 bytes to Python per alert
    Enrich: first(x)
        version 01234567, abcdef01, python 3.11, numpy 2.4.6 and 2 more; 1,240 bytes to Python, 1.0 µs per alert
      Cut: good
";
        assert_eq!(text, expected);
    }
}
