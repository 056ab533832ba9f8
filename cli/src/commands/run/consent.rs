//! Shows what a run would change, and asks whether it may: rows that differ from now on cannot be taken back.

use std::fmt::Write;
use std::io::{IsTerminal, stderr, stdin};

use anyhow::{Context, Result, bail};
use redpoll_core::revision::{Change, Move};
use redpoll_scheduler::coordinator::{Revision, Status};

use crate::exit::Usage;
use crate::output::paint;
use crate::progress;
use crate::values::counted;

/// Whether whoever runs a job agreed beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    Given,
    Ask,
}

/// Returns if the revision is agreed to.
pub fn agree(job: &str, revision: &Revision, consent: Consent) -> Result<()> {
    progress::aside(|| eprint!("{}", text(job, revision)));
    if consent == Consent::Given {
        return Ok(());
    }
    if !(stdin().is_terminal() && stderr().is_terminal()) {
        return Err(
            Usage(format!("job {job}: nothing was changed; give --yes to agree to what is listed above")).into()
        );
    }
    match progress::aside(answer)? {
        true => Ok(()),
        false => bail!("job {job}: nothing was changed"),
    }
}

fn answer() -> Result<bool> {
    eprint!("go on? [y/N] ");
    let mut line = String::new();
    stdin().read_line(&mut line).context("the answer cannot be read")?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// What changes, in the order of the pipeline, and what that means for rows.
fn text(job: &str, revision: &Revision) -> String {
    let after = revision.after.unwrap_or_default();
    let mut text = format!("job {} goes on after revision {after} with changes:\n", paint::bold(job));
    let mut say = |line: &str| _ = writeln!(text, "  {line}");
    revision.changes.iter().for_each(|change| say(&format!("- {change}")));
    revision.moves.iter().for_each(|moved| say(&format!("- {moved}")));
    if let Some(epoch) = revision.open {
        say(&format!("epoch {epoch} is open: it is finished by revision {after} first"));
    }
    if revision.changes.iter().any(Change::is_open) {
        say("rows that are written already stay as they are");
    }
    let (skipped, again) = positions(&revision.moves);
    if again > 0 {
        say(&format!(
            "{} again: archives and topics get their rows a second time, with a higher _epoch (header redpoll-epoch); a \
             wide-column table keeps one row for each key",
            read(again)
        ));
    }
    if skipped > 0 {
        say(&format!("{} skipped: no table gets their rows, and the ledger names them", counted(skipped, "position")));
    }
    text
}

fn read(n: u64) -> String {
    format!("{} {} read", counted(n, "position"), if n == 1 { "is" } else { "are" })
}

/// Positions that are skipped, and those that are read again.
fn positions(moves: &[Move]) -> (u64, u64) {
    let sum = |skips: fn(i64) -> i64| moves.iter().map(|moved| skips(moved.skips()).max(0).unsigned_abs()).sum();
    (sum(|n| n), sum(|n| -n))
}

/// What the scheduler has to say beside the job's state.
pub fn tell(status: &Status) {
    status.told.iter().for_each(|line| progress::say(format!("{}: {line}", status.name)));
}

#[cfg(test)]
mod tests {
    use redpoll_core::ids::Epoch;
    use redpoll_core::revision::Change;

    use super::*;

    fn revision() -> Revision {
        let what = "view good: cut `rb >= 0.55` becomes `rb >= 0.65`".to_owned();
        let to = |partition, to| Move { topic: "ztf".into(), partition, from: 40, to };
        Revision {
            after: Some(3),
            changes: vec![Change { what, tables: vec!["science".into(), "sso".into()], asks: true, meant: false }],
            moves: vec![to(0, 30), to(1, 45)],
            open: Some(Epoch(12)),
            ..Revision::default()
        }
    }

    #[test]
    fn what_changes_is_listed_with_what_it_means_for_rows() {
        let expected = "\
job ztf-night goes on after revision 3 with changes:
  - view good: cut `rb >= 0.55` becomes `rb >= 0.65` (rows of science, sso)
  - ztf[0]: 30..40 are read again
  - ztf[1]: 40..45 are skipped
  epoch 12 is open: it is finished by revision 3 first
  rows that are written already stay as they are
  10 positions are read again: archives and topics get their rows a second time, with a higher _epoch (header \
redpoll-epoch); a wide-column table keeps one row for each key
  5 positions skipped: no table gets their rows, and the ledger names them
";
        assert_eq!(text("ztf-night", &revision()), expected);
    }

    #[test]
    fn without_a_terminal_it_is_wrong_use_that_names_the_option() {
        if stdin().is_terminal() && stderr().is_terminal() {
            return;
        }
        let error = agree("ztf-night", &revision(), Consent::Ask).unwrap_err();
        assert_eq!(crate::exit::code(&error), 2);
        assert!(error.to_string().contains("--yes"), "{error}");
        assert!(agree("ztf-night", &revision(), Consent::Given).is_ok());
    }
}
