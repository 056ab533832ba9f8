//! Named points where a process can be made to kill, stop or hold itself, so that tests see what is left then.
//!
//! `REDPOLL_FAULT=<point>:<action>[:<nth>]` arms one point, for the nth time that the process reaches it, by default
//! the first. The action is `kill` (SIGKILL), `stop` (SIGSTOP, until a SIGCONT) or `delay-<milliseconds>`. With
//! `REDPOLL_FAULT_WITNESS=<folder>` a process creates a file with the point's name there before it acts, and does
//! nothing if there is one: of all processes and restarts that share the folder one acts, and the file shows that it did.
//! As long as there is no such folder, nothing is counted: making it starts the fault in processes that run already.
//!
//! Where nothing is armed, a point costs one load.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The points, in the order in which an epoch comes by.
pub const POINTS: [&str; 19] = [
    // The scheduler: the intent is logged, no task was started.
    "after-intent",
    // An executor: a Kafka lane is taken, the sinks of a split are open.
    "after-lane-taken",
    "before-store-put",
    "after-store-put",
    // A batch of the split went to all sinks.
    "mid-run",
    // The last rows of a split's files are in memory; then the files are in the object store.
    "before-delta-file",
    "after-delta-file",
    // All records of a transaction are acknowledged; the lane's mark is part of it; it is committed.
    "before-kafka-commit",
    "after-kafka-mark",
    "after-kafka-commit",
    "before-receipt",
    "after-receipt",
    // The scheduler again: all receipts are there.
    "after-run",
    "after-prepared",
    // The term was read again, the commit is about to be put.
    "before-delta-commit",
    // One table of the epoch shows it, the next one does not.
    "between-tables",
    "after-publish",
    "after-committed",
    // A receiver has a message, and the outbox's record does not say so yet.
    "after-send",
];

static ARMED: OnceLock<Armed> = OnceLock::new();

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("REDPOLL_FAULT={text}: no point is called '{point}'; the points are {}", POINTS.join(", "))]
    Point { text: String, point: String },
    #[error("REDPOLL_FAULT={0}: write <point>:<kill|stop|delay-MILLISECONDS>[:<nth>]")]
    Form(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
    Delay(Duration),
}

/// What is to happen, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    point: String,
    action: Action,
    /// Counted from 1.
    nth: u64,
}

struct Armed {
    fault: Fault,
    witness: Option<PathBuf>,
    reached: AtomicU64,
}

/// Arms what the environment asks for. Called once, at the start of a process.
pub fn arm() -> Result<(), Error> {
    let Ok(text) = std::env::var("REDPOLL_FAULT") else { return Ok(()) };
    let witness = std::env::var_os("REDPOLL_FAULT_WITNESS").map(PathBuf::from);
    let armed = Armed { fault: text.parse()?, witness, reached: AtomicU64::new(0) };
    ARMED.get_or_init(|| armed);
    Ok(())
}

/// A point of [`POINTS`]. Returns unless the process was told to die here.
pub fn at(point: &'static str) {
    if let Some(armed) = ARMED.get() {
        armed.at(point);
    }
}

impl Armed {
    fn at(&self, point: &str) {
        if self.is_due(point) {
            self.fault.action.act();
        }
    }

    /// Whether this is the time, and no other process was first.
    fn is_due(&self, point: &str) -> bool {
        self.fault.point == point
            && self.witness.as_deref().is_none_or(Path::is_dir)
            && self.reached.fetch_add(1, Ordering::Relaxed) + 1 == self.fault.nth
            && self.witness.as_deref().is_none_or(|folder| self.bears_witness(folder))
    }

    fn bears_witness(&self, folder: &Path) -> bool {
        let file = OpenOptions::new().write(true).create_new(true).open(folder.join(&self.fault.point));
        file.is_ok_and(|mut file| writeln!(file, "{} {:?}", std::process::id(), self.fault.action).is_ok())
    }
}

impl Action {
    fn act(self) {
        match self {
            Self::Kill => {
                signal("KILL");
                // The signal may take a moment; nothing more may happen on this thread.
                loop {
                    std::thread::park();
                }
            }
            Self::Stop => signal("STOP"),
            Self::Delay(duration) => std::thread::sleep(duration),
        }
    }
}

/// Sends this process a signal. A shell does it: the call is unsafe in Rust.
fn signal(name: &str) {
    let pid = std::process::id().to_string();
    let kill = Command::new("/bin/sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).stdin(Stdio::null()).status();
    if !kill.as_ref().is_ok_and(|status| status.success()) {
        panic!("SIG{name} could not be sent: {kill:?}");
    }
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let form = || Error::Form(text.to_owned());
        let mut parts = text.split(':');
        let point = parts.next().unwrap_or_default();
        if !POINTS.contains(&point) {
            return Err(Error::Point { text: text.to_owned(), point: point.to_owned() });
        }
        let action = match parts.next().ok_or_else(form)? {
            "kill" => Action::Kill,
            "stop" => Action::Stop,
            other => {
                let millis = other.strip_prefix("delay-").and_then(|millis| millis.parse().ok());
                Action::Delay(Duration::from_millis(millis.ok_or_else(form)?))
            }
        };
        let nth = parts.next().map_or(Ok(1), str::parse).map_err(|_| form())?;
        match (nth, parts.next()) {
            (1.., None) => Ok(Self { point: point.to_owned(), action, nth }),
            _ => Err(form()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn armed(text: &str, witness: Option<PathBuf>) -> Armed {
        Armed { fault: text.parse().unwrap(), witness, reached: AtomicU64::new(0) }
    }

    #[test]
    fn a_fault_has_a_point_an_action_and_a_number() {
        let fault = |text: &str| text.parse::<Fault>().unwrap();
        let expected = Fault { point: "mid-run".into(), action: Action::Stop, nth: 1 };
        assert_eq!(fault("mid-run:stop"), expected);
        assert_eq!(fault("mid-run:kill:3"), Fault { action: Action::Kill, nth: 3, ..expected.clone() });
        assert_eq!(fault("mid-run:delay-250").action, Action::Delay(Duration::from_millis(250)));
    }

    #[test]
    fn an_unknown_point_is_refused_with_the_list_of_points() {
        let error = "mid-runs:kill".parse::<Fault>().unwrap_err().to_string();
        assert!(error.contains("'mid-runs'") && POINTS.iter().all(|point| error.contains(point)), "{error}");
        for text in ["mid-run", "mid-run:die", "mid-run:delay-", "mid-run:kill:0", "mid-run:kill:x", "mid-run:kill:1:2"]
        {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("kill|stop"), "{error}");
        }
    }

    #[test]
    fn a_fault_is_due_at_its_point_at_its_turn_once_over_all_processes() {
        let folder = std::env::temp_dir().join(format!("redpoll-fault-{}", uuid::Uuid::new_v4()));
        let (first, second) =
            (armed("mid-run:kill:2", Some(folder.clone())), armed("mid-run:kill:2", Some(folder.clone())));
        assert!(!first.is_due("mid-run"), "counted before there is a folder for the witness");
        std::fs::create_dir(&folder).unwrap();
        let turns = ["after-run", "mid-run", "mid-run", "mid-run"].map(|point| first.is_due(point));
        assert_eq!(turns, [false, false, true, false]);
        assert!(!second.is_due("mid-run") && !second.is_due("mid-run"));
        let witness = std::fs::read_to_string(folder.join("mid-run")).unwrap();
        assert_eq!(witness, format!("{} Kill\n", std::process::id()));
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// A point that is listed but placed nowhere would make a test that injects nothing.
    #[test]
    fn each_point_is_placed_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut placed: BTreeMap<String, u32> = BTreeMap::new();
        for part in ["core", "connectors", "scheduler", "executor", "cli"] {
            count_points(&root.join(part).join("src"), &mut placed);
        }
        let expected: BTreeMap<String, u32> = POINTS.iter().map(|point| ((*point).to_owned(), 1)).collect();
        assert_eq!(placed, expected);
    }

    fn count_points(folder: &Path, placed: &mut BTreeMap<String, u32>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                count_points(&path, placed);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for rest in text.split("fault::at(\"").skip(1) {
                    if let Some((point, _)) = rest.split_once('"') {
                        *placed.entry(point.to_owned()).or_default() += 1;
                    }
                }
            }
        }
    }
}
