//! The decisions of a job: events in, one action out; no clock, no socket, nothing `async`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use redpoll_core::ids::{Epoch, SplitId};
use redpoll_core::ledger::{self, Line};
use redpoll_core::log::{Fold, Open};
use redpoll_core::protocol::{Entry, Growth, Intent, Receipt, Spec, Split};
use redpoll_core::quarantine;
use redpoll_core::source::{Gone, OffsetRange, Offsets, TopicPartition};
use serde::{Deserialize, Serialize};

use super::point::Point;
use super::replays::{Accepted, Asked, Bounds, Replays};
use super::trouble::{Step, Trouble};

/// When a job ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Once everything that the source held has been read.
    AvailableNow,
    /// At a time, milliseconds since 1970-01-01 UTC.
    Until(i64),
    /// Once everything before a point has been read.
    To(Point),
    /// When it is stopped.
    Continuous,
    /// Once what was asked for of the quarantine is sent again: nothing is read from the source.
    Replay,
}

/// What becomes of offsets that the source no longer holds when they are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExpired {
    /// The operator is asked.
    #[default]
    Fail,
    /// They are recorded as absent, by name, and the job goes on.
    Skip,
}

/// The operator's word on offsets that have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Go on without them.
    Skip,
    /// Try them once more.
    Rerun,
}

/// The bounds that decisions are made by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub mode: Mode,
    /// Least time between the starts of two epochs.
    pub trigger: Duration,
    /// Prepared epochs are published together at this interval.
    pub archive_interval: Duration,
    /// Tries of a step, or runs of an epoch, before the job is said to be degraded.
    pub max_tries: u32,
    /// Longest pause between two tries.
    pub max_pause: Duration,
    /// How often an idle source is asked.
    pub idle_pause: Duration,
    #[serde(default)]
    pub on_expired: OnExpired,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Continuous,
            trigger: Duration::from_millis(200),
            archive_interval: Duration::from_secs(60),
            max_tries: 5,
            max_pause: Duration::from_secs(60),
            idle_pause: Duration::from_millis(200),
            on_expired: OnExpired::default(),
        }
    }
}

/// A prepared epoch that is not yet committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    pub epoch: Epoch,
    pub receipts: Vec<Receipt>,
    pub line: Line,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The term is logged, and this is the log.
    Began(Box<Fold>),
    /// What the source holds beyond the offsets asked about, cut into splits.
    Available(Vec<Vec<OffsetRange>>),
    Logged,
    /// The receipts of an epoch, all attempts.
    Receipts(Vec<Receipt>),
    /// The query of an epoch ended, well or not: receipts tell what was done.
    QueryEnded(Result<(), String>),
    Published(BTreeMap<String, u64>),
    /// The plan has the fields that alerts were found to have; the spec that says so, if that is news.
    Grown(Option<Box<Spec>>),
    /// The spec of what was deployed to the job meanwhile; none if that changes nothing.
    Swapped(Option<Box<Spec>>),
    /// What the source no longer holds of the ranges asked about.
    Lost(Vec<Gone>),
    /// The last action could not be done.
    Failed(String),
    Woke,
}

/// What to do next.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Action {
    Append(Entry),
    Poll(Offsets),
    ReadReceipts(Epoch),
    Run {
        intent: Intent,
        splits: Vec<Split>,
    },
    Publish(Vec<Prepared>),
    /// Make a plan that has these fields.
    Grow(Vec<Growth>),
    /// Take what was deployed to the job into its spec. The plan is ready; it takes over when the log has the spec.
    Swap,
    /// Ask the source which parts of these ranges it no longer holds.
    Check(Vec<OffsetRange>),
    Sleep(Duration),
    /// The job is over; its log says so if it ended by itself.
    Leave(String),
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Beginning,
    Planning,
    Logging(Box<Entry>),
    /// Reading the receipts of the epoch at the front of `open`: after a run, how that ended.
    Looking {
        ran: Option<String>,
        rested: bool,
    },
    Running,
    Growing,
    Swapping,
    /// Asking whether the splits that are to be run again can still be read; after a run, how that ended.
    Checking {
        missing: Vec<Split>,
        ran: Option<String>,
        rested: bool,
    },
    /// Offsets have expired before they were read: waiting for the operator's word.
    Held,
    /// Waiting before the next run.
    Pausing,
    Idle,
    Publishing,
    /// Waiting before the action is tried again.
    Retrying(Retry),
    Left,
}

#[derive(Debug, Clone, PartialEq)]
enum Retry {
    Plan,
    Look,
    Publish,
    Append(Box<Entry>),
}

/// A job's coordinator, between two events.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    state: State,
    revision: u32,
    modules: BTreeMap<String, String>,
    offsets: Offsets,
    /// Where reading ends, in [`Mode::To`].
    end: Offsets,
    next_epoch: Epoch,
    /// Of the newest intent.
    clock: i64,
    open: VecDeque<Open>,
    prepared: Vec<Prepared>,
    replays: Replays,
    bounds: Bounds,
    /// Something was deployed to the job, and its plan is ready.
    swap: bool,
    /// Attempts at the epoch under way whose growth is dealt with.
    outgrown: BTreeSet<String>,
    tries: u32,
    failures: u32,
    last_start: Option<i64>,
    last_publish: i64,
    stopping: Option<String>,
    /// Why the job does not get on, if it does not.
    degraded: Option<String>,
    /// The step that failed last, until it works.
    trouble: Option<Trouble>,
    /// What waits for the operator's word, and the word.
    expired: Vec<OffsetRange>,
    answer: Option<Answer>,
}

impl Machine {
    pub fn new(policy: Policy, modules: BTreeMap<String, String>) -> Self {
        Self {
            policy,
            state: State::Beginning,
            revision: 0,
            modules,
            offsets: Offsets::new(),
            end: Offsets::new(),
            next_epoch: Epoch(0),
            clock: 0,
            open: VecDeque::new(),
            prepared: Vec::new(),
            replays: Replays::default(),
            bounds: Bounds { split_bytes: 16 << 20, lanes: 1 },
            swap: false,
            outgrown: BTreeSet::new(),
            tries: 0,
            failures: 0,
            last_start: None,
            last_publish: 0,
            stopping: None,
            degraded: None,
            trouble: None,
            expired: Vec::new(),
            answer: None,
        }
    }

    /// Bounds the epochs that it makes of the quarantine; those of the source come cut.
    pub fn within(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Asks for records of the quarantine: they are an epoch as soon as nothing else is under way.
    pub fn replay(&mut self, asked: Asked) -> Accepted {
        self.replays.ask(asked)
    }

    /// Another plan is ready: it takes over between two epochs, or under an epoch that fails again and again.
    pub fn swap(&mut self) {
        self.swap = true;
    }

    /// Records of the quarantine that are asked for and not yet committed.
    pub fn replaying(&self) -> u64 {
        let sum = |replayed: &BTreeMap<Epoch, u64>| replayed.values().sum::<u64>();
        let logging = match &self.state {
            State::Logging(entry) => match entry.as_ref() {
                Entry::Intent(intent) if intent.epoch >= self.next_epoch => sum(&intent.replayed()),
                _ => 0,
            },
            _ => 0,
        };
        let open = self.open.iter().map(|open| sum(&open.intent.replayed())).sum::<u64>();
        let prepared =
            self.prepared.iter().filter(|prepared| self.open.iter().all(|open| open.intent.epoch != prepared.epoch));
        self.replays.len() + logging + open + prepared.map(|prepared| sum(&prepared.line.replayed)).sum::<u64>()
    }

    pub fn degraded(&self) -> Option<&str> {
        self.degraded.as_deref()
    }

    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Offsets that expired before they were read, while the operator is asked about them.
    pub fn expired(&self) -> &[OffsetRange] {
        &self.expired
    }

    /// The operator's word; of no effect where nobody asked.
    pub fn answer(&mut self, answer: Answer) {
        if !self.expired.is_empty() {
            self.answer = Some(answer);
        }
    }

    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Ends the job after the epoch under way: what is prepared is published, nothing more is planned.
    pub fn stop(&mut self) {
        self.stopping.get_or_insert_with(|| "it was stopped".to_owned());
    }

    /// One event, one action. `now` is in milliseconds since 1970-01-01 UTC.
    pub fn on(&mut self, now: i64, event: Event) -> Action {
        match (std::mem::replace(&mut self.state, State::Left), event) {
            (State::Beginning, Event::Began(fold)) => self.begin(now, *fold),
            (State::Planning, Event::Available(splits)) => self.available(now, splits),
            (State::Logging(entry), Event::Logged) => self.logged(now, *entry),
            (State::Looking { ran, rested }, Event::Receipts(receipts)) => self.receipts(now, ran, rested, receipts),
            (State::Running, Event::QueryEnded(result)) => self.look(result.err(), false),
            // Attempts that were late may have left their receipts by now.
            (State::Pausing, Event::Woke) => self.look(None, true),
            (State::Growing, Event::Grown(spec)) => self.grown(spec),
            (State::Swapping, Event::Swapped(spec)) => self.swapped(now, spec),
            (State::Checking { missing, ran, rested }, Event::Lost(lost)) => {
                self.checked(now, missing, ran, rested, &lost)
            }
            (State::Held, Event::Woke) => self.next(now),
            (State::Idle, Event::Woke) => self.plan(now),
            (State::Publishing, Event::Published(tables)) => self.published(now, tables),
            (State::Retrying(retry), Event::Woke) => self.retry(now, retry),
            (state, Event::Failed(reason)) => self.failed(now, state, reason),
            (state, event) => self.leave(format!("the coordinator was told {event:?} while {state:?}")),
        }
    }

    fn begin(&mut self, now: i64, fold: Fold) -> Action {
        let spec = fold.spec.unwrap_or_default();
        (self.revision, self.end) = (spec.revision, spec.end);
        self.offsets = fold.offsets;
        self.next_epoch = fold.next_epoch;
        self.replays.begin(fold.replayed);
        self.clock = fold.clock;
        self.open = fold.open.into_values().collect();
        self.last_publish = now;
        self.next(now)
    }

    /// The next thing to do when nothing is under way.
    fn next(&mut self, now: i64) -> Action {
        self.tries = 0;
        match self.open.is_empty() {
            false => self.look(None, false),
            true if self.publish_is_due(now) => self.publish(),
            true => self.plan(now),
        }
    }

    fn publish_is_due(&self, now: i64) -> bool {
        let is_due = elapsed(self.last_publish, now).is_none_or(|since| since >= self.policy.archive_interval);
        !self.prepared.is_empty() && (self.stopping.is_some() || is_due)
    }

    fn plan(&mut self, now: i64) -> Action {
        if let Mode::Until(end) = self.policy.mode
            && now >= end
        {
            self.stopping.get_or_insert_with(|| "its time is over".to_owned());
        }
        if self.stopping.is_some() {
            return self.finish();
        }
        if self.swap {
            return self.ask_for_swap();
        }
        if let Some(splits) = self.replays.next_epoch(self.replayed_to(), self.bounds) {
            return self.intend(now, splits);
        }
        if self.policy.mode == Mode::Replay {
            self.stopping.get_or_insert_with(|| "what was asked for is sent again".to_owned());
            return self.finish();
        }
        let rest = self.last_start.and_then(|start| self.policy.trigger.checked_sub(elapsed(start, now)?));
        let waits = matches!(self.policy.mode, Mode::Continuous | Mode::Until(_));
        if let Some(rest) = rest.filter(|rest| !rest.is_zero() && waits) {
            self.state = State::Idle;
            return Action::Sleep(rest);
        }
        self.state = State::Planning;
        Action::Poll(self.offsets.clone())
    }

    fn available(&mut self, now: i64, splits: Vec<Vec<OffsetRange>>) -> Action {
        self.well(Step::Source);
        self.degraded = None;
        if self.stopping.is_some() {
            return self.finish();
        }
        let expired: Vec<&OffsetRange> = splits.iter().flatten().filter(|range| range.expired).collect();
        if !expired.is_empty() && self.policy.on_expired == OnExpired::Fail && self.answer.take() != Some(Answer::Skip)
        {
            let deleted = "retention has deleted them";
            let lost = expired.into_iter().map(|range| Gone { range: range.clone(), reason: deleted.to_owned() });
            let lost: Vec<Gone> = lost.collect();
            return self.hold(now, "what is to be read next", &lost);
        }
        self.released();
        if splits.is_empty() {
            if let Some(reason) = self.is_read() {
                self.stopping.get_or_insert_with(|| reason.to_owned());
                return self.finish();
            }
            if self.publish_is_due(now) {
                return self.publish();
            }
            self.state = State::Idle;
            return Action::Sleep(self.policy.idle_pause);
        }
        self.last_start = Some(now);
        self.intend(now, splits)
    }

    /// Where the quarantine is read on.
    fn replayed_to(&self) -> i64 {
        let at = TopicPartition { topic: quarantine::TOPIC.to_owned(), partition: 0 };
        self.offsets.get(&at).copied().unwrap_or(0)
    }

    fn intend(&mut self, now: i64, splits: Vec<Vec<OffsetRange>>) -> Action {
        // Cells of a store are dated by it: those of a later epoch must be newer, whatever this machine's clock says.
        self.clock = now.max(self.clock + 1);
        let splits = (0..).zip(splits).map(|(id, ranges)| Split { id: SplitId(id), ranges }).collect();
        let intent = Intent {
            epoch: self.next_epoch,
            revision: self.revision,
            clock: self.clock,
            seed: (self.clock as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.next_epoch.0,
            splits,
            modules: self.modules.clone(),
        };
        self.replays.planned(&intent);
        self.append(Entry::Intent(intent))
    }

    /// Whether a job that found nothing more has read all that it was to read.
    fn is_read(&self) -> Option<&'static str> {
        let reached = |(at, end): (&TopicPartition, &i64)| self.offsets.get(at).is_some_and(|offset| offset >= end);
        match self.policy.mode {
            Mode::AvailableNow => Some("the source is read to its end"),
            // An end that lies ahead is waited for.
            Mode::To(_) if self.end.iter().all(reached) => Some("the source is read to where it was to end"),
            _ => None,
        }
    }

    fn append(&mut self, entry: Entry) -> Action {
        self.state = State::Logging(Box::new(entry.clone()));
        Action::Append(entry)
    }

    fn logged(&mut self, now: i64, entry: Entry) -> Action {
        self.well(Step::Log);
        match entry {
            Entry::Spec(spec) => {
                self.revision = spec.revision;
                if let Some(outline) = spec.outline {
                    self.modules = outline.modules;
                }
                match self.open.is_empty() {
                    true => self.plan(now),
                    false => self.revise(),
                }
            }
            Entry::Intent(intent) if self.open.front().is_some_and(|open| open.intent.epoch == intent.epoch) => {
                if let Some(open) = self.open.front_mut() {
                    open.intent = intent;
                }
                self.tries = 0;
                self.look(None, false)
            }
            Entry::Intent(intent) => {
                intent.advance(&mut self.offsets);
                self.next_epoch = Epoch(intent.epoch.0 + 1);
                self.open.push_back(Open { intent: intent.clone(), attempts: None });
                // Nothing was run for a new intent, so there are no receipts to look for.
                let splits = intent.splits.clone();
                self.run(intent, splits)
            }
            Entry::Prepared { .. } => {
                self.outgrown.clear();
                self.open.pop_front();
                self.degraded = None;
                self.trouble = None;
                self.next(now)
            }
            Entry::Committed { .. } => {
                self.prepared.clear();
                self.degraded = None;
                self.well(Step::Publish);
                self.last_publish = now;
                self.next(now)
            }
            Entry::Stopped { reason } => self.leave(reason),
            entry => self.leave(format!("the coordinator logged {entry:?}")),
        }
    }

    fn look(&mut self, ran: Option<String>, rested: bool) -> Action {
        match self.open.front() {
            Some(open) => {
                self.state = State::Looking { ran, rested };
                Action::ReadReceipts(open.intent.epoch)
            }
            None => self.leave("no epoch is open".to_owned()),
        }
    }

    fn run(&mut self, intent: Intent, splits: Vec<Split>) -> Action {
        self.tries += 1;
        self.state = State::Running;
        Action::Run { intent, splits }
    }

    fn receipts(&mut self, now: i64, ran: Option<String>, rested: bool, receipts: Vec<Receipt>) -> Action {
        let Some(open) = self.open.front().cloned() else { return self.leave("no epoch is open".to_owned()) };
        self.cleared(Step::Receipts);
        let outgrown = self.growth(&receipts);
        let gives_up = self.stopping.is_some() && self.degraded.is_some();
        let chosen = choose(&open, receipts);
        let missing: Vec<Split> =
            open.intent.splits.iter().filter(|split| !chosen.contains_key(&split.id)).cloned().collect();
        match missing.is_empty() {
            true => self.prepare(now, &open, chosen),
            false if open.attempts.is_some() => {
                self.leave(format!("epoch {}: receipts that the log chose are gone", open.intent.epoch))
            }
            false if !outgrown.is_empty() && !gives_up => {
                self.state = State::Growing;
                Action::Grow(outgrown)
            }
            // What was deployed may be what lets the epoch pass.
            false if self.swap && self.degraded.is_some() && self.stopping.is_none() => self.ask_for_swap(),
            // What is run from now on is the newest plan, and the log says so before.
            false if open.intent.revision < self.revision => self.revise(),
            false if gives_up => self.run_again(now, open.intent, missing, ran, rested),
            false => self.check(missing, ran, rested),
        }
    }

    /// Nothing is run again before its source has said that it can still be read.
    fn check(&mut self, missing: Vec<Split>, ran: Option<String>, rested: bool) -> Action {
        // What is set aside does not expire.
        let ranges = missing.iter().flat_map(|split| &split.ranges).filter(|range| range.topic != quarantine::TOPIC);
        let ranges = ranges.cloned().collect();
        self.state = State::Checking { missing, ran, rested };
        Action::Check(ranges)
    }

    fn checked(&mut self, now: i64, missing: Vec<Split>, ran: Option<String>, rested: bool, lost: &[Gone]) -> Action {
        self.well(Step::Source);
        let Some(open) = self.open.front().cloned() else { return self.leave("no epoch is open".to_owned()) };
        if lost.is_empty() {
            self.released();
            return self.run_again(now, open.intent, missing, ran, rested);
        }
        match (self.policy.on_expired, self.answer.take()) {
            (_, Some(Answer::Rerun)) => {
                self.released();
                self.run(open.intent, missing)
            }
            (OnExpired::Skip, _) | (_, Some(Answer::Skip)) => {
                self.released();
                self.append(Entry::Intent(without(open.intent, &missing, lost)))
            }
            (OnExpired::Fail, None) => self.hold(now, &format!("all that epoch {} reads", open.intent.epoch), lost),
        }
    }

    /// Offsets have expired before they were read: the operator is asked what becomes of them.
    fn hold(&mut self, now: i64, what: &str, lost: &[Gone]) -> Action {
        if self.publish_is_due(now) {
            return self.publish();
        }
        let names: Vec<_> = lost.iter().map(Gone::to_string).collect();
        let reason = format!("the source no longer holds {what}: {}", names.join("; "));
        if self.policy.mode == Mode::AvailableNow || self.stopping.is_some() {
            let remedy = "run it with --on-expired skip to go on without them, named in the ledger";
            return self.leave(format!("{reason}; {remedy}"));
        }
        self.hindered(now, Step::Expired, reason.clone(), self.policy.max_pause);
        self.expired = lost.iter().map(|lost| lost.range.clone()).collect();
        self.degraded = Some(reason);
        self.state = State::Held;
        Action::Sleep(self.policy.max_pause)
    }

    /// Nothing waits for the operator any more.
    fn released(&mut self) {
        if !self.expired.is_empty() {
            self.degraded = None;
        }
        self.expired.clear();
        self.answer = None;
        self.well(Step::Expired);
    }

    /// What attempts found that the plan does not have, if they were not heard before.
    fn growth(&mut self, receipts: &[Receipt]) -> Vec<Growth> {
        let mut growth: Vec<Growth> = Vec::new();
        for receipt in receipts.iter().filter(|receipt| !receipt.growth.is_empty()) {
            if self.outgrown.insert(receipt.attempt.clone()) {
                growth.extend(receipt.growth.iter().filter(|new| !growth.contains(new)).cloned().collect::<Vec<_>>());
            }
        }
        growth
    }

    fn grown(&mut self, spec: Option<Box<Spec>>) -> Action {
        match spec {
            Some(spec) => self.append(Entry::Spec(*spec)),
            None => self.revise(),
        }
    }

    fn ask_for_swap(&mut self) -> Action {
        self.swap = false;
        self.state = State::Swapping;
        Action::Swap
    }

    fn swapped(&mut self, now: i64, spec: Option<Box<Spec>>) -> Action {
        match spec {
            Some(spec) => self.append(Entry::Spec(*spec)),
            None if self.open.is_empty() => self.plan(now),
            None => self.look(None, false),
        }
    }

    /// The open epoch goes on with the newest revision: the same ranges, for splits that have no receipt yet.
    fn revise(&mut self) -> Action {
        let Some(open) = self.open.front() else { return self.leave("no epoch is open".to_owned()) };
        match open.intent.revision < self.revision {
            true => {
                let (revision, modules) = (self.revision, self.modules.clone());
                self.append(Entry::Intent(Intent { revision, modules, ..open.intent.clone() }))
            }
            false => self.look(None, false),
        }
    }

    fn run_again(
        &mut self,
        now: i64,
        intent: Intent,
        missing: Vec<Split>,
        ran: Option<String>,
        rested: bool,
    ) -> Action {
        if self.tries >= self.policy.max_tries {
            let reason = ran.clone().unwrap_or_else(|| "its tasks left no receipt".to_owned());
            self.degraded = Some(format!("epoch {} failed {} times: {reason}", intent.epoch, self.tries));
        }
        // The first failure is answered at once, since an executor that died is the usual one.
        let pause = if self.tries < 2 { Duration::ZERO } else { self.pause(now, self.tries) };
        if let Some(reason) = ran {
            self.hindered(now, Step::Run, format!("epoch {}: {reason}", intent.epoch), pause);
        }
        if let Some(reason) = self.degraded.clone().filter(|_| self.stopping.is_some()) {
            // The intent stays open: whoever runs the job next goes on with it.
            return self.leave(reason);
        }
        if pause.is_zero() || rested {
            return self.run(intent, missing);
        }
        self.state = State::Pausing;
        Action::Sleep(pause)
    }

    /// Grows with the tries, up to a limit. Jobs that one outage has hit come back one after the other: the last quarter
    /// of a pause is at random, as the time gives it.
    fn pause(&self, now: i64, tries: u32) -> Duration {
        let pause = Duration::from_millis(100) * 2u32.saturating_pow(tries.min(16));
        let chance = (now as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        pause.min(self.policy.max_pause).mul_f64(0.75 + 0.25 * chance as f64 / f64::from(1 << 24))
    }

    fn hindered(&mut self, now: i64, step: Step, reason: String, pause: Duration) {
        self.trouble = Some(Trouble::after(self.trouble.take(), step, reason, now, pause));
    }

    /// A step works.
    fn well(&mut self, step: Step) {
        self.failures = 0;
        self.cleared(step);
    }

    fn cleared(&mut self, step: Step) {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.step == step) {
            self.trouble = None;
        }
    }

    fn prepare(&mut self, now: i64, open: &Open, chosen: BTreeMap<SplitId, Receipt>) -> Action {
        let epoch = open.intent.epoch;
        let attempts = chosen.iter().map(|(split, receipt)| (*split, receipt.attempt.clone())).collect();
        let receipts: Vec<Receipt> = chosen.into_values().collect();
        let line = match ledger::balance(epoch, open.intent.clock, &receipts) {
            Ok(line) => Line { replayed: open.intent.replayed(), modules: open.intent.modules.clone(), ..line },
            Err(imbalance) => {
                // What was prepared before is right, and is published first.
                self.stopping = Some(imbalance.to_string());
                return self.finish();
            }
        };
        self.prepared.push(Prepared { epoch, receipts, line });
        if open.attempts.is_some() {
            // Chosen before a restart: from here only forward.
            self.open.pop_front();
            return match self.open.is_empty() {
                true => self.publish(),
                false => self.next(now),
            };
        }
        self.append(Entry::Prepared { epoch, attempts })
    }

    fn publish(&mut self) -> Action {
        self.state = State::Publishing;
        Action::Publish(self.prepared.clone())
    }

    fn published(&mut self, now: i64, tables: BTreeMap<String, u64>) -> Action {
        let (Some(first), Some(last)) = (self.prepared.first(), self.prepared.last()) else { return self.next(now) };
        let (from, to) = (first.epoch, last.epoch);
        let ledger = self.prepared.iter().map(|prepared| prepared.line.clone()).collect();
        self.append(Entry::Committed { from, to, tables, ledger })
    }

    /// Nothing more is planned: publish what is prepared, then end.
    fn finish(&mut self) -> Action {
        match (self.prepared.is_empty(), self.stopping.clone()) {
            (false, _) => self.publish(),
            (true, reason) => self.append(Entry::Stopped { reason: reason.unwrap_or_default() }),
        }
    }

    fn failed(&mut self, now: i64, state: State, reason: String) -> Action {
        let (step, retry) = match state {
            State::Planning => (Step::Source, Retry::Plan),
            State::Checking { .. } => (Step::Source, Retry::Look),
            State::Looking { .. } => (Step::Receipts, Retry::Look),
            State::Growing => {
                self.outgrown.clear();
                (Step::Plan, Retry::Look)
            }
            State::Publishing => (Step::Publish, Retry::Publish),
            State::Logging(entry) => (Step::Log, Retry::Append(entry)),
            state => return self.leave(format!("{reason} (while {state:?})")),
        };
        self.failures += 1;
        if self.failures >= self.policy.max_tries {
            self.degraded = Some(reason.clone());
        }
        let pause = self.pause(now, self.failures);
        self.hindered(now, step, reason, pause);
        self.state = State::Retrying(retry);
        Action::Sleep(pause)
    }

    fn retry(&mut self, now: i64, retry: Retry) -> Action {
        match retry {
            Retry::Plan if self.stopping.is_some() => self.finish(),
            // A source that does not answer holds back nothing that is prepared.
            Retry::Plan if self.publish_is_due(now) => self.publish(),
            Retry::Plan if !self.replays.is_empty() => self.plan(now),
            Retry::Plan => {
                self.state = State::Planning;
                Action::Poll(self.offsets.clone())
            }
            Retry::Look => self.look(None, false),
            Retry::Publish => self.publish(),
            Retry::Append(entry) => self.append(*entry),
        }
    }

    fn leave(&mut self, reason: String) -> Action {
        self.state = State::Left;
        Action::Leave(reason)
    }
}

/// The intent with what is lost of some of its splits marked as expired.
fn without(mut intent: Intent, missing: &[Split], lost: &[Gone]) -> Intent {
    for split in intent.splits.iter_mut().filter(|split| missing.iter().any(|missing| missing.id == split.id)) {
        split.ranges = split.ranges.iter().flat_map(|range| range.without(lost)).collect();
    }
    intent
}

/// How long ago that was; `None` if the clock was set back since.
fn elapsed(then: i64, now: i64) -> Option<Duration> {
    u64::try_from(now - then).ok().map(Duration::from_millis)
}

/// One receipt for each split: the attempt that the log chose, else the first by name.
fn choose(open: &Open, receipts: Vec<Receipt>) -> BTreeMap<SplitId, Receipt> {
    let mut chosen: BTreeMap<SplitId, Receipt> = BTreeMap::new();
    for receipt in receipts.into_iter().filter(|receipt| receipt.growth.is_empty()) {
        let wanted = match &open.attempts {
            Some(attempts) => attempts.get(&receipt.split) == Some(&receipt.attempt),
            None => chosen.get(&receipt.split).is_none_or(|have| receipt.attempt < have.attempt),
        };
        if wanted {
            chosen.insert(receipt.split, receipt);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use redpoll_core::revision::Outline;

    use super::*;

    fn range(start: i64, end: i64) -> Vec<OffsetRange> {
        vec![OffsetRange { topic: "ztf".into(), start, end, ..Default::default() }]
    }

    fn receipt(epoch: u64, split: u32, attempt: &str) -> Receipt {
        Receipt {
            epoch: Epoch(epoch),
            split: SplitId(split),
            attempt: attempt.into(),
            revision: 0,
            executor: "one".into(),
            sources: vec![],
            views: vec![],
            sinks: BTreeMap::new(),
            failures: BTreeMap::new(),
            withheld: BTreeMap::new(),
            set_aside: None,
            growth: vec![],
            seconds: 0.0,
        }
    }

    fn spec(revision: u32) -> Spec {
        Spec { uid: "5a1b".into(), revision, ..Spec::default() }
    }

    fn machine(mode: Mode) -> Machine {
        Machine::new(Policy { mode, ..Policy::default() }, BTreeMap::new())
    }

    /// Runs a new machine up to the first query.
    fn running(mode: Mode) -> Machine {
        let mut machine = machine(mode);
        assert_eq!(machine.on(0, Event::Began(Box::default())), Action::Poll(Offsets::new()));
        let action = machine.on(0, Event::Available(vec![range(0, 5), range(5, 9)]));
        assert!(matches!(action, Action::Append(Entry::Intent(_))), "{action:?}");
        let action = machine.on(0, Event::Logged);
        assert!(matches!(&action, Action::Run { splits, .. } if splits.len() == 2), "{action:?}");
        machine
    }

    /// Before splits are run again: the source still holds all of them.
    fn held(machine: &mut Machine, asked: &Action) -> Action {
        assert!(matches!(asked, Action::Check(ranges) if !ranges.is_empty()), "{asked:?}");
        machine.on(1, Event::Lost(vec![]))
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up_and_dates_nothing_back() {
        let policy = Policy { trigger: Duration::from_secs(60), ..Policy::default() };
        let mut machine = Machine::new(policy, BTreeMap::new());
        let fold = Fold { clock: 9_000_000, ..Fold::default() };
        machine.on(7_200_000, Event::Began(Box::new(fold)));
        let clock = |action: Action| match action {
            Action::Append(Entry::Intent(intent)) => intent.clock,
            other => panic!("{other:?}"),
        };
        assert_eq!(clock(machine.on(7_200_000, Event::Available(vec![range(0, 5)]))), 9_000_001);
        machine.on(7_200_000, Event::Logged);
        machine.on(5, Event::QueryEnded(Ok(())));
        machine.on(5, Event::Receipts(vec![receipt(0, 0, "a")]));
        // Two hours back: the archive is published and the next epoch planned at once.
        assert!(matches!(machine.on(5, Event::Logged), Action::Publish(_)));
        machine.on(5, Event::Published(BTreeMap::new()));
        assert!(matches!(machine.on(5, Event::Logged), Action::Poll(_)));
        assert_eq!(clock(machine.on(5, Event::Available(vec![range(5, 6)]))), 9_000_002);
    }

    #[test]
    fn a_source_read_to_its_end_is_committed_and_the_job_stops() {
        let mut machine = running(Mode::AvailableNow);
        assert_eq!(machine.on(1, Event::QueryEnded(Ok(()))), Action::ReadReceipts(Epoch(0)));
        let action = machine.on(1, Event::Receipts(vec![receipt(0, 0, "a"), receipt(0, 1, "a")]));
        assert!(matches!(action, Action::Append(Entry::Prepared { .. })), "{action:?}");
        assert!(matches!(machine.on(1, Event::Logged), Action::Poll(from) if from.values().eq([&9])));
        let action = machine.on(1, Event::Available(vec![]));
        assert!(matches!(action, Action::Publish(prepared) if prepared.len() == 1));
        let action = machine.on(1, Event::Published(BTreeMap::new()));
        assert!(matches!(action, Action::Append(Entry::Committed { .. })), "{action:?}");
        let action = machine.on(1, Event::Logged);
        assert!(matches!(action, Action::Append(Entry::Stopped { .. })), "{action:?}");
        assert!(matches!(machine.on(1, Event::Logged), Action::Leave(_)));
    }

    #[test]
    fn only_splits_without_a_receipt_run_again() {
        let mut machine = running(Mode::Continuous);
        machine.on(1, Event::QueryEnded(Err("an executor was lost".into())));
        let action = machine.on(1, Event::Receipts(vec![receipt(0, 1, "a")]));
        assert_eq!(action, Action::Check(range(0, 5)));
        let action = held(&mut machine, &action);
        let Action::Run { splits, .. } = action else { panic!("{action:?}") };
        assert_eq!(splits.iter().map(|split| split.id).collect::<Vec<_>>(), [SplitId(0)]);
    }

    #[test]
    fn of_two_receipts_for_a_split_the_first_by_name_is_chosen_whatever_their_order() {
        let mut machine = running(Mode::Continuous);
        machine.on(1, Event::QueryEnded(Ok(())));
        let receipts = vec![receipt(0, 0, "b"), receipt(0, 0, "a"), receipt(0, 1, "c")];
        let Action::Append(Entry::Prepared { attempts, .. }) = machine.on(1, Event::Receipts(receipts)) else {
            panic!("not prepared")
        };
        assert_eq!(attempts[&SplitId(0)], "a");
    }

    #[test]
    fn a_prepared_epoch_is_published_not_run_again() {
        let intent = Intent {
            epoch: Epoch(4),
            revision: 0,
            clock: 0,
            seed: 0,
            splits: vec![Split { id: SplitId(0), ranges: range(0, 5) }],
            modules: BTreeMap::new(),
        };
        let attempts = Some([(SplitId(0), "b".to_owned())].into());
        let open = [(Epoch(4), Open { intent, attempts })].into();
        let fold = Fold { next_epoch: Epoch(5), open, ..Fold::default() };
        let mut machine = machine(Mode::Continuous);
        assert_eq!(machine.on(0, Event::Began(Box::new(fold))), Action::ReadReceipts(Epoch(4)));
        let action = machine.on(0, Event::Receipts(vec![receipt(4, 0, "a"), receipt(4, 0, "b")]));
        let Action::Publish(prepared) = action else { panic!("{action:?}") };
        assert_eq!(prepared[0].receipts[0].attempt, "b");
    }

    #[test]
    fn an_epoch_that_keeps_failing_degrades_the_job_and_is_still_tried() {
        let mut machine = running(Mode::Continuous);
        let mut runs = 1;
        for _ in 0..40 {
            let action = machine.on(1, Event::QueryEnded(Err("disk full".into())));
            assert_eq!(action, Action::ReadReceipts(Epoch(0)));
            let asked = machine.on(1, Event::Receipts(vec![]));
            let mut action = held(&mut machine, &asked);
            if matches!(action, Action::Sleep(_)) {
                machine.on(1, Event::Woke);
                let asked = machine.on(1, Event::Receipts(vec![]));
                action = held(&mut machine, &asked);
            }
            assert!(matches!(action, Action::Run { .. }), "{action:?}");
            runs += 1;
        }
        assert_eq!(runs, 41);
        assert!(machine.degraded().is_some_and(|reason| reason.contains("failed")));
        let trouble = machine.trouble().unwrap();
        assert_eq!((trouble.step, trouble.tries, trouble.since), (Step::Run, 40, 1));
        machine.on(1, Event::QueryEnded(Ok(())));
        machine.on(1, Event::Receipts(vec![receipt(0, 0, "a"), receipt(0, 1, "a")]));
        machine.on(1, Event::Logged);
        assert_eq!((machine.trouble(), machine.degraded()), (None, None));
    }

    #[test]
    fn a_split_whose_alerts_have_new_fields_runs_again_under_a_new_revision_and_the_others_do_not() {
        let mut machine = running(Mode::Continuous);
        let growth = Growth { fingerprint: "id:11".into(), fields: "{}".into() };
        let outgrown = Receipt { growth: vec![growth.clone()], ..receipt(0, 0, "a") };
        let receipts = vec![outgrown, receipt(0, 1, "b")];
        assert_eq!(machine.on(1, Event::QueryEnded(Ok(()))), Action::ReadReceipts(Epoch(0)));
        assert_eq!(machine.on(1, Event::Receipts(receipts.clone())), Action::Grow(vec![growth]));
        // A broker that is down is asked again.
        assert!(matches!(machine.on(1, Event::Failed("down".into())), Action::Sleep(_)));
        assert_eq!(machine.on(1, Event::Woke), Action::ReadReceipts(Epoch(0)));
        assert!(matches!(machine.on(1, Event::Receipts(receipts.clone())), Action::Grow(_)));

        let action = machine.on(1, Event::Grown(Some(Box::new(spec(1)))));
        assert!(matches!(action, Action::Append(Entry::Spec(_))), "{action:?}");
        let Action::Append(Entry::Intent(revised)) = machine.on(1, Event::Logged) else { panic!("not revised") };
        assert_eq!((revised.epoch, revised.revision, revised.splits.len()), (Epoch(0), 1, 2));
        assert_eq!(machine.on(1, Event::Logged), Action::ReadReceipts(Epoch(0)));
        let asked = machine.on(1, Event::Receipts(receipts.clone()));
        let Action::Run { intent, splits } = held(&mut machine, &asked) else { panic!("no run") };
        assert_eq!((intent, splits.len(), splits[0].id), (revised, 1, SplitId(0)));

        machine.on(1, Event::QueryEnded(Ok(())));
        let receipts = receipts.into_iter().chain([receipt(0, 0, "c")]).collect();
        let Action::Append(Entry::Prepared { attempts, .. }) = machine.on(1, Event::Receipts(receipts)) else {
            panic!("not prepared")
        };
        assert_eq!(attempts.into_values().collect::<Vec<_>>(), ["c", "b"]);
    }

    #[test]
    fn after_a_restart_between_the_new_spec_and_the_revised_intent_the_intent_is_revised() {
        let splits = vec![Split { id: SplitId(0), ranges: range(0, 5) }];
        let intent = Intent { epoch: Epoch(4), revision: 0, clock: 0, seed: 0, splits, modules: BTreeMap::new() };
        let open = [(Epoch(4), Open { intent, attempts: None })].into();
        let fold = Fold { next_epoch: Epoch(5), open, spec: Some(spec(1)), ..Fold::default() };
        let mut machine = machine(Mode::Continuous);
        assert_eq!(machine.on(0, Event::Began(Box::new(fold))), Action::ReadReceipts(Epoch(4)));
        let growth = vec![Growth { fingerprint: "id:11".into(), fields: "{}".into() }];
        let outgrown = Receipt { growth, ..receipt(4, 0, "a") };
        assert!(matches!(machine.on(0, Event::Receipts(vec![outgrown.clone()])), Action::Grow(_)));
        let Action::Append(Entry::Intent(revised)) = machine.on(0, Event::Grown(None)) else { panic!("not revised") };
        assert_eq!((revised.epoch, revised.revision), (Epoch(4), 1));
        assert_eq!(machine.on(0, Event::Logged), Action::ReadReceipts(Epoch(4)));
        let asked = machine.on(0, Event::Receipts(vec![outgrown]));
        assert!(matches!(held(&mut machine, &asked), Action::Run { .. }));
    }

    fn asked(names: &[&str]) -> Asked {
        let records = names.iter().map(|name| name.parse().unwrap()).collect();
        Asked { records, again: false }
    }

    /// The files of a new intent, by split.
    fn named(action: &Action) -> (Epoch, Vec<String>) {
        let Action::Append(Entry::Intent(intent)) = action else { panic!("{action:?}") };
        let files = intent.splits.iter().flat_map(|split| &split.ranges).flat_map(|range| &range.files);
        (intent.epoch, files.map(|file| file.name.clone()).collect())
    }

    #[test]
    fn what_is_asked_for_of_the_quarantine_is_the_epoch_after_the_one_under_way() {
        let mut machine = running(Mode::Continuous);
        let accepted = machine.replay(asked(&["0/1/a/0", "0/1/a/3"]));
        assert_eq!((accepted.records, machine.replaying()), (2, 2));
        machine.on(1, Event::QueryEnded(Ok(())));
        machine.on(1, Event::Receipts(vec![receipt(0, 0, "a"), receipt(0, 1, "a")]));
        // Not after the trigger, and before the source is asked.
        let action = machine.on(1, Event::Logged);
        assert_eq!(named(&action), (Epoch(1), vec!["0/1/a/0".to_owned(), "0/1/a/3".to_owned()]));
        assert_eq!(machine.replaying(), 2);
        assert!(matches!(machine.on(1, Event::Failed("503".into())), Action::Sleep(_)));
        // While it is being logged nothing of it is asked for a second time.
        assert_eq!(machine.replay(asked(&["0/1/a/3"])).left_out, 1);
        let Action::Append(Entry::Intent(intent)) = machine.on(1, Event::Woke) else { panic!("not logged again") };
        assert!(matches!(machine.on(1, Event::Logged), Action::Run { .. }));
        assert_eq!(machine.on(2, Event::QueryEnded(Ok(()))), Action::ReadReceipts(Epoch(1)));
        machine.on(2, Event::Receipts(vec![receipt(1, 0, "b")]));
        assert!(matches!(machine.on(2, Event::Logged), Action::Sleep(_)));
        assert_eq!(machine.replaying(), 2, "they are prepared, and not committed");
        machine.stop();
        let Action::Publish(prepared) = machine.on(3, Event::Woke) else { panic!("not published") };
        assert_eq!(prepared[1].line.replayed, intent.replayed());
        machine.on(3, Event::Published(BTreeMap::new()));
        machine.on(3, Event::Logged);
        assert_eq!(machine.replaying(), 0);
    }

    #[test]
    fn an_epoch_of_the_quarantine_that_a_scheduler_left_is_run_to_its_end_and_not_planned_again() {
        let mut first = machine(Mode::Replay);
        first.replay(asked(&["0/0/a/5"]));
        let action = first.on(0, Event::Began(Box::default()));
        let Action::Append(entry) = action else { panic!("{action:?}") };
        let mut fold = Fold::default();
        fold.apply(&entry);

        let mut second = machine(Mode::Replay);
        second.replay(asked(&["0/0/a/5"]));
        assert_eq!(second.on(1, Event::Began(Box::new(fold))), Action::ReadReceipts(Epoch(0)));
        assert_eq!(second.on(1, Event::Receipts(vec![])), Action::Check(vec![]));
        assert!(matches!(second.on(1, Event::Lost(vec![])), Action::Run { .. }));
        second.on(1, Event::QueryEnded(Ok(())));
        assert!(matches!(
            second.on(1, Event::Receipts(vec![receipt(0, 0, "b")])),
            Action::Append(Entry::Prepared { .. })
        ));
        assert!(matches!(second.on(1, Event::Logged), Action::Publish(_)));
        second.on(1, Event::Published(BTreeMap::new()));
        // The source is never asked.
        let action = second.on(1, Event::Logged);
        assert!(
            matches!(&action, Action::Append(Entry::Stopped { reason }) if reason.contains("sent again")),
            "{action:?}"
        );
    }

    #[test]
    fn the_quarantine_is_sent_again_though_the_source_does_not_answer() {
        let mut machine = machine(Mode::Continuous);
        machine.on(0, Event::Began(Box::default()));
        assert!(matches!(machine.on(0, Event::Failed("no broker".into())), Action::Sleep(_)));
        machine.replay(asked(&["0/0/a/5"]));
        assert_eq!(named(&machine.on(0, Event::Woke)).1, ["0/0/a/5"]);
    }

    #[test]
    fn an_epoch_that_is_open_when_a_module_changed_is_revised_before_anything_of_it_runs() {
        let splits = vec![Split { id: SplitId(0), ranges: range(0, 5) }, Split { id: SplitId(1), ranges: range(5, 9) }];
        let intent = Intent { epoch: Epoch(4), revision: 0, clock: 7, seed: 8, splits, modules: BTreeMap::new() };
        let open = [(Epoch(4), Open { intent: intent.clone(), attempts: None })].into();
        let fold = Fold { next_epoch: Epoch(5), open, spec: Some(spec(1)), ..Fold::default() };
        let modules: BTreeMap<_, _> = [("roid".to_owned(), "new".to_owned())].into();
        let mut machine = Machine::new(Policy::default(), modules.clone());
        machine.on(0, Event::Began(Box::new(fold)));
        let Action::Append(Entry::Intent(revised)) = machine.on(0, Event::Receipts(vec![receipt(4, 0, "a")])) else {
            panic!("not revised")
        };
        assert_eq!(revised, Intent { revision: 1, modules, ..intent });
        assert_eq!(machine.on(0, Event::Logged), Action::ReadReceipts(Epoch(4)));
        let asked = machine.on(0, Event::Receipts(vec![receipt(4, 0, "a")]));
        let Action::Run { intent, splits } = held(&mut machine, &asked) else { panic!("not run") };
        assert_eq!((intent, splits.len(), splits[0].id), (revised, 1, SplitId(1)));
    }

    #[test]
    fn an_epoch_that_had_run_by_the_revision_before_is_chosen_as_it_is() {
        let splits = vec![Split { id: SplitId(0), ranges: range(0, 5) }];
        let intent = Intent { epoch: Epoch(4), revision: 0, clock: 0, seed: 0, splits, modules: BTreeMap::new() };
        let open = [(Epoch(4), Open { intent, attempts: None })].into();
        let fold = Fold { next_epoch: Epoch(5), open, spec: Some(spec(1)), ..Fold::default() };
        let mut machine = machine(Mode::Continuous);
        machine.on(0, Event::Began(Box::new(fold)));
        let action = machine.on(0, Event::Receipts(vec![receipt(4, 0, "a")]));
        assert!(matches!(action, Action::Append(Entry::Prepared { .. })), "{action:?}");
    }

    #[test]
    fn a_job_with_an_end_waits_for_what_lies_ahead_and_stops_there() {
        let at = TopicPartition { topic: "ztf".into(), partition: 0 };
        let end = Point::Offsets([(at.clone(), 9)].into());
        let spec = Spec { end: [(at.clone(), 9)].into(), ..spec(0) };
        let began =
            |offset| Fold { offsets: [(at.clone(), offset)].into(), spec: Some(spec.clone()), ..Fold::default() };
        for (offset, stops) in [(5, false), (9, true)] {
            let mut machine = machine(Mode::To(end.clone()));
            machine.on(0, Event::Began(Box::new(began(offset))));
            let action = machine.on(0, Event::Available(vec![]));
            assert_eq!(matches!(action, Action::Append(Entry::Stopped { .. })), stops, "{action:?}");
        }
    }

    #[test]
    fn what_is_prepared_is_published_though_the_source_does_not_answer() {
        let mut machine = running(Mode::Continuous);
        machine.on(1, Event::QueryEnded(Ok(())));
        machine.on(1, Event::Receipts(vec![receipt(0, 0, "a"), receipt(0, 1, "a")]));
        assert!(matches!(machine.on(1000, Event::Logged), Action::Poll(_)));
        assert!(matches!(machine.on(1000, Event::Failed("no broker".into())), Action::Sleep(_)));
        assert!(matches!(machine.on(2000, Event::Woke), Action::Poll(_)));
        assert!(matches!(machine.on(59_000, Event::Failed("no broker".into())), Action::Sleep(_)));
        assert!(matches!(machine.on(61_000, Event::Woke), Action::Publish(prepared) if prepared.len() == 1));
    }

    #[test]
    fn a_source_that_answers_again_ends_the_degraded_state() {
        let mut machine = machine(Mode::Continuous);
        machine.on(0, Event::Began(Box::default()));
        for _ in 0..5 {
            machine.on(0, Event::Failed("no broker".into()));
            machine.on(0, Event::Woke);
        }
        assert_eq!(machine.degraded(), Some("no broker"));
        machine.on(0, Event::Available(vec![]));
        assert_eq!(machine.degraded(), None);
    }

    fn expired(start: i64, end: i64) -> OffsetRange {
        OffsetRange { expired: true, ..range(start, end).remove(0) }
    }

    fn lost(start: i64, end: i64) -> Event {
        let reason = "retention has deleted them, the broker begins at 3".to_owned();
        Event::Lost(vec![Gone { range: expired(start, end), reason }])
    }

    #[test]
    fn what_expired_before_it_was_planned_waits_for_the_operator_by_name() {
        let mut machine = machine(Mode::Continuous);
        machine.on(0, Event::Began(Box::default()));
        let available = || Event::Available(vec![vec![expired(0, 3)], range(3, 9)]);
        for word in [None, Some(Answer::Rerun)] {
            word.into_iter().for_each(|word| machine.answer(word));
            assert!(matches!(machine.on(1, available()), Action::Sleep(_)));
            assert_eq!(machine.expired(), [expired(0, 3)]);
            assert!(machine.degraded().unwrap().contains("ztf[0] offsets 0..3: retention"), "{machine:?}");
            assert!(matches!(machine.on(1, Event::Woke), Action::Poll(_)));
        }
        machine.answer(Answer::Skip);
        let Action::Append(Entry::Intent(intent)) = machine.on(1, available()) else { panic!("not planned") };
        let ranges: Vec<_> = intent.splits.iter().flat_map(|split| split.ranges.clone()).collect();
        assert_eq!(ranges, [expired(0, 3), range(3, 9).remove(0)]);
        assert_eq!((machine.expired(), machine.degraded(), machine.trouble()), (&[][..], None, None));
    }

    #[test]
    fn what_expired_before_it_was_run_waits_for_the_operator_who_may_skip_it() {
        let mut machine = running(Mode::Continuous);
        machine.on(1, Event::QueryEnded(Err("expired".into())));
        machine.on(1, Event::Receipts(vec![receipt(0, 1, "a")]));
        assert!(matches!(machine.on(1, lost(0, 3)), Action::Sleep(_)));
        assert_eq!((machine.expired(), machine.trouble().unwrap().step), (&[expired(0, 3)][..], Step::Expired));
        // Until a word comes it is looked at again now and then.
        assert_eq!(machine.on(1, Event::Woke), Action::ReadReceipts(Epoch(0)));
        machine.on(1, Event::Receipts(vec![receipt(0, 1, "a")]));
        assert!(matches!(machine.on(1, lost(0, 3)), Action::Sleep(_)));

        machine.answer(Answer::Skip);
        machine.on(1, Event::Woke);
        machine.on(1, Event::Receipts(vec![receipt(0, 1, "a")]));
        let Action::Append(Entry::Intent(revised)) = machine.on(1, lost(0, 3)) else { panic!("not revised") };
        let ranges: Vec<_> = revised.splits.iter().map(|split| split.ranges.clone()).collect();
        assert_eq!(ranges, [vec![expired(0, 3), range(3, 5).remove(0)], range(5, 9)]);
        assert_eq!(machine.on(1, Event::Logged), Action::ReadReceipts(Epoch(0)));
        let asked = machine.on(1, Event::Receipts(vec![receipt(0, 1, "a")]));
        let Action::Run { intent, splits } = held(&mut machine, &asked) else { panic!("no run") };
        assert_eq!((intent, splits.len(), machine.degraded()), (revised, 1, None));
    }

    #[test]
    fn the_operator_may_have_an_expired_epoch_tried_once_more() {
        let mut machine = running(Mode::Continuous);
        machine.on(1, Event::QueryEnded(Err("expired".into())));
        machine.on(1, Event::Receipts(vec![]));
        machine.on(1, lost(0, 3));
        machine.answer(Answer::Rerun);
        machine.on(1, Event::Woke);
        machine.on(1, Event::Receipts(vec![]));
        assert!(matches!(machine.on(1, lost(0, 3)), Action::Run { splits, .. } if splits.len() == 2));
        machine.on(1, Event::QueryEnded(Err("expired".into())));
        machine.on(1, Event::Receipts(vec![]));
        assert!(matches!(machine.on(1, lost(0, 3)), Action::Sleep(_)));
    }

    #[test]
    fn a_job_that_may_skip_asks_nobody() {
        let policy = Policy { on_expired: OnExpired::Skip, ..Policy::default() };
        let mut machine = Machine::new(policy, BTreeMap::new());
        machine.on(0, Event::Began(Box::default()));
        let action = machine.on(0, Event::Available(vec![vec![expired(0, 3)], range(3, 9)]));
        assert!(matches!(action, Action::Append(Entry::Intent(_))), "{action:?}");
        machine.on(0, Event::Logged);
        machine.on(0, Event::QueryEnded(Err("expired".into())));
        machine.on(0, Event::Receipts(vec![]));
        assert!(matches!(machine.on(0, lost(3, 4)), Action::Append(Entry::Intent(_))));
    }

    #[test]
    fn a_run_over_what_is_there_ends_where_something_expired_and_leaves_its_epoch_open() {
        let mut machine = running(Mode::AvailableNow);
        machine.on(1, Event::QueryEnded(Err("expired".into())));
        machine.on(1, Event::Receipts(vec![]));
        let Action::Leave(reason) = machine.on(1, lost(0, 3)) else { panic!("goes on") };
        assert!(reason.contains("ztf[0] offsets 0..3") && reason.contains("--on-expired skip"), "{reason}");
    }

    #[test]
    fn pauses_grow_to_their_limit_and_are_not_all_alike() {
        let machine = machine(Mode::Continuous);
        let limit = Policy::default().max_pause;
        assert!(machine.pause(0, 1) <= Duration::from_millis(200) && machine.pause(0, 1) >= Duration::from_millis(150));
        let late: BTreeSet<_> = (0..50).map(|now| machine.pause(now, 30)).collect();
        assert!(late.len() > 40 && late.iter().all(|pause| *pause <= limit && *pause >= limit.mul_f64(0.75)));
    }

    #[test]
    fn a_stop_drains_the_epoch_under_way() {
        let mut machine = running(Mode::Continuous);
        machine.stop();
        machine.on(1, Event::QueryEnded(Ok(())));
        machine.on(1, Event::Receipts(vec![receipt(0, 0, "a"), receipt(0, 1, "a")]));
        assert!(matches!(machine.on(1, Event::Logged), Action::Publish(_)));
    }

    #[test]
    fn an_imbalance_stops_the_job_and_says_which_line() {
        let mut machine = running(Mode::Continuous);
        machine.on(1, Event::QueryEnded(Ok(())));
        let mut bad = receipt(0, 0, "a");
        bad.sources.push(ledger::SourceCounts { topic: "ztf".into(), end: 5, fetched: 4, ..Default::default() });
        let action = machine.on(1, Event::Receipts(vec![bad, receipt(0, 1, "a")]));
        let Action::Append(Entry::Stopped { reason }) = action else { panic!("{action:?}") };
        assert!(reason.contains("ztf[0]"), "{reason}");
    }

    /// What was deployed, as a spec.
    fn deployed(revision: u32, module: &str) -> Spec {
        let modules = [("rise_rate".to_owned(), module.to_owned())].into();
        Spec { outline: Some(Outline { modules, ..Outline::default() }), ..spec(revision) }
    }

    #[test]
    fn what_is_deployed_while_an_epoch_runs_takes_over_at_its_end_and_not_before() {
        let mut machine = running(Mode::Continuous);
        machine.swap();
        assert_eq!(machine.on(1, Event::QueryEnded(Ok(()))), Action::ReadReceipts(Epoch(0)));
        let action = machine.on(1, Event::Receipts(vec![receipt(0, 0, "a")]));
        // A split that runs again runs as its intent says.
        let action = held(&mut machine, &action);
        assert!(matches!(action, Action::Run { intent, .. } if intent.revision == 0));
        machine.on(2, Event::QueryEnded(Ok(())));
        let action = machine.on(2, Event::Receipts(vec![receipt(0, 0, "a"), receipt(0, 1, "a")]));
        assert!(matches!(action, Action::Append(Entry::Prepared { .. })), "{action:?}");
        assert_eq!(machine.on(2, Event::Logged), Action::Swap);
        let spec = deployed(1, "two");
        assert_eq!(machine.on(2, Event::Swapped(Some(Box::new(spec.clone())))), Action::Append(Entry::Spec(spec)));
        // The trigger holds back the next epoch, not the swap.
        assert!(matches!(machine.on(2, Event::Logged), Action::Sleep(_)));
        machine.on(300, Event::Woke);
        match machine.on(300, Event::Available(vec![range(9, 12)])) {
            Action::Append(Entry::Intent(intent)) => {
                assert_eq!((intent.revision, intent.modules["rise_rate"].as_str()), (1, "two"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_swap_that_changes_nothing_or_could_not_be_logged_holds_no_epoch_up() {
        let mut idle = machine(Mode::Continuous);
        idle.on(0, Event::Began(Box::default()));
        assert!(matches!(idle.on(0, Event::Available(vec![])), Action::Sleep(_)));
        idle.swap();
        assert_eq!(idle.on(1, Event::Woke), Action::Swap);
        assert_eq!(idle.on(1, Event::Swapped(None)), Action::Poll(Offsets::new()));
        idle.on(1, Event::Available(vec![]));
        idle.swap();
        assert_eq!(idle.on(2, Event::Woke), Action::Swap);
        let append = idle.on(2, Event::Swapped(Some(Box::new(deployed(1, "two")))));
        assert!(matches!(idle.on(2, Event::Failed("503".into())), Action::Sleep(_)));
        assert_eq!(idle.on(3, Event::Woke), append);
        assert_eq!(idle.on(3, Event::Logged), Action::Poll(Offsets::new()));
    }

    #[test]
    fn an_epoch_that_fails_again_and_again_goes_on_with_what_was_deployed_since() {
        let mut machine = running(Mode::Continuous);
        let mut action = Action::Poll(Offsets::new());
        for _ in 0..5 {
            machine.on(1, Event::QueryEnded(Err("module rise_rate: no worker".into())));
            action = machine.on(1, Event::Receipts(vec![]));
            action = held(&mut machine, &action);
            if matches!(action, Action::Sleep(_)) && machine.degraded().is_none() {
                machine.on(1, Event::Woke);
                action = machine.on(1, Event::Receipts(vec![]));
                action = held(&mut machine, &action);
            }
        }
        assert!(matches!(action, Action::Sleep(_)) && machine.degraded().is_some(), "{action:?}");
        machine.swap();
        machine.on(2, Event::Woke);
        assert_eq!(machine.on(2, Event::Receipts(vec![])), Action::Swap);
        machine.on(2, Event::Swapped(Some(Box::new(deployed(1, "two")))));
        match machine.on(2, Event::Logged) {
            Action::Append(Entry::Intent(intent)) => {
                assert_eq!((intent.epoch, intent.revision, intent.splits.len()), (Epoch(0), 1, 2));
                assert_eq!(intent.modules["rise_rate"], "two");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_job_that_ends_takes_nothing_over() {
        let mut machine = running(Mode::Continuous);
        machine.swap();
        machine.stop();
        machine.on(1, Event::QueryEnded(Ok(())));
        machine.on(1, Event::Receipts(vec![receipt(0, 0, "a"), receipt(0, 1, "a")]));
        assert!(matches!(machine.on(1, Event::Logged), Action::Publish(_)));
    }
}
