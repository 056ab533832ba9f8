//! The simulated machine: virtual time, tasks of processes that can be killed or frozen, one seeded source of chance.
//!
//! Everything runs on one thread. Which of the tasks that are ready is polled next is drawn from the seed, time jumps
//! to the next timer when none is ready, and whatever happens is an event of the trace: a seed is a history.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// 2026-11-25 00:00 UTC, in milliseconds since 1970-01-01 UTC.
pub const BEGIN: i64 = 1_795_564_800_000;
/// A simulation that polls its tasks more often than this goes round in circles.
const MAX_POLLS: u64 = 2_000_000;

/// What lives and dies together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    Scheduler(u32),
    Executor(u32),
    /// Brokers and object store: they fail by request, not as a whole.
    Server,
    /// Who pulls the strings.
    Operator,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Process::Scheduler(n) => write!(f, "scheduler-{n}"),
            Process::Executor(n) => write!(f, "executor-{n}"),
            Process::Server => f.write_str("server"),
            Process::Operator => f.write_str("operator"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(u64);

struct Task {
    process: Process,
    future: BoxFuture<'static, ()>,
}

struct State {
    /// Microseconds since the beginning.
    now: u64,
    rng: ChaCha8Rng,
    timers: BTreeMap<(u64, u64), Waker>,
    next: u64,
    born: Vec<(TaskId, Task)>,
    cancelled: BTreeSet<TaskId>,
    killed: Vec<Process>,
    dead: BTreeSet<Process>,
    frozen: BTreeSet<Process>,
    trace: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
    violation: Option<String>,
    over: bool,
}

/// A handle on the machine; cheap to clone.
#[derive(Clone)]
pub struct Sim {
    state: Arc<Mutex<State>>,
    ready: Arc<Mutex<Vec<TaskId>>>,
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sim")
    }
}

struct Wakes {
    task: TaskId,
    ready: Arc<Mutex<Vec<TaskId>>>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        let mut ready = lock(&self.ready);
        if !ready.contains(&self.task) {
            ready.push(self.task);
        }
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        let state = State {
            now: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            timers: BTreeMap::new(),
            next: 0,
            born: Vec::new(),
            cancelled: BTreeSet::new(),
            killed: Vec::new(),
            dead: BTreeSet::new(),
            frozen: BTreeSet::new(),
            trace: Vec::new(),
            counts: BTreeMap::new(),
            violation: None,
            over: false,
        };
        Self { state: Arc::new(Mutex::new(state)), ready: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn now(&self) -> i64 {
        BEGIN + (self.state().now / 1000) as i64
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.state().now)
    }

    pub fn sleep(&self, duration: Duration) -> Sleep {
        let until = self.state().now + duration.as_micros() as u64;
        Sleep { sim: self.clone(), until, registered: false }
    }

    /// A number below `n`.
    pub fn below(&self, n: u64) -> u64 {
        self.state().rng.random_range(0..n.max(1))
    }

    pub fn between(&self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    pub fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.between(1000 * from, 1000 * to))
    }

    pub fn chance(&self, probability: f64) -> bool {
        self.state().rng.random_bool(probability.clamp(0.0, 1.0))
    }

    /// Adds an event to the trace.
    pub fn event(&self, what: impl fmt::Display) {
        let mut state = self.state();
        let (n, seconds) = (state.trace.len(), state.now as f64 / 1e6);
        state.trace.push(format!("{n:5} {seconds:12.6} s  {what}"));
    }

    /// Counts something that must be seen to happen over all seeds.
    pub fn count(&self, what: &'static str) {
        *self.state().counts.entry(what).or_default() += 1;
    }

    /// An invariant does not hold: the simulation ends here.
    pub fn violation(&self, what: impl fmt::Display) {
        self.event(format_args!("VIOLATION: {what}"));
        let mut state = self.state();
        state.violation.get_or_insert_with(|| what.to_string());
        state.over = true;
    }

    pub fn end(&self) {
        self.state().over = true;
    }

    pub fn spawn(&self, process: Process, future: impl Future<Output = ()> + Send + 'static) -> TaskId {
        let mut state = self.state();
        let id = TaskId(state.next);
        state.next += 1;
        state.born.push((id, Task { process, future: future.boxed() }));
        id
    }

    /// Drops a task's future, wherever it stands.
    pub fn cancel(&self, task: TaskId) {
        self.state().cancelled.insert(task);
    }

    /// Drops all tasks of a process. It never comes back: a process that is started again has another number.
    pub fn kill(&self, process: Process) {
        self.event(format_args!("{process} is killed"));
        let mut state = self.state();
        state.dead.insert(process);
        state.killed.push(process);
    }

    pub fn is_alive(&self, process: Process) -> bool {
        !self.state().dead.contains(&process)
    }

    pub fn freeze(&self, process: Process) {
        self.event(format_args!("{process} is frozen"));
        self.state().frozen.insert(process);
    }

    pub fn thaw(&self, process: Process) {
        self.event(format_args!("{process} goes on"));
        self.state().frozen.remove(&process);
    }

    pub fn is_frozen(&self, process: Process) -> bool {
        self.state().frozen.contains(&process)
    }

    /// Asks a server: the request travels, takes effect at one instant, and the answer travels back. What was sent may
    /// take effect though its sender is dead or frozen by then, and an answer may get lost.
    pub async fn request<T, E>(&self, from: Process, hazard: Hazard, effect: impl Effect<T, E>) -> Result<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let fate = self.fate(hazard);
        let (answer, answered) = oneshot::channel();
        let sim = self.clone();
        self.spawn(Process::Server, async move {
            sim.sleep(sim.millis(1, hazard.slow.max(2))).await;
            // A process that died may not have got as far as sending.
            if !sim.is_alive(from) && sim.chance(0.5) {
                return;
            }
            let result = match fate {
                Fate::FailsBefore | Fate::SilentBefore | Fate::Late => Err(Broken::Before),
                Fate::FailsAfter | Fate::SilentAfter => {
                    _ = effect.run();
                    Err(Broken::After)
                }
                Fate::Works => Ok(effect.run()),
            };
            match fate {
                Fate::SilentBefore | Fate::SilentAfter | Fate::Late => sim.sleep(sim.millis(5_000, 30_000)).await,
                _ => sim.sleep(sim.millis(1, hazard.slow.max(2))).await,
            }
            _ = answer.send(result.unwrap_or_else(|broken| Err(effect.broken(broken))));
            if fate == Fate::Late {
                sim.sleep(sim.millis(0, 30_000)).await;
                _ = effect.run();
            }
        });
        match answered.await {
            Ok(answer) => answer,
            // The server's task ends without an answer only for a process that is dead, whose tasks are not polled.
            Err(_) => std::future::pending().await,
        }
    }

    fn fate(&self, hazard: Hazard) -> Fate {
        if !self.chance(hazard.fails) {
            return Fate::Works;
        }
        let (fate, name) = match self.below(9) {
            0..3 => (Fate::FailsBefore, "a request failed before it took effect"),
            3..6 => (Fate::FailsAfter, "a request took effect and its answer was lost"),
            6 => (Fate::SilentBefore, "a request was never answered"),
            7 if hazard.late => (Fate::Late, "a request took effect after it was given up"),
            _ => (Fate::SilentAfter, "a request took effect and was never answered"),
        };
        self.count(name);
        fate
    }

    /// Runs until [`Sim::end`], a violation, or nothing is left to do.
    pub fn run(&self) -> Report {
        let mut tasks: BTreeMap<TaskId, Task> = BTreeMap::new();
        let mut polls = 0;
        loop {
            self.take_in(&mut tasks);
            if self.state().over {
                break;
            }
            if polls == MAX_POLLS {
                self.violation("liveness: the simulation goes round in circles");
                break;
            }
            match self.draw(&tasks) {
                Some(id) => {
                    polls += 1;
                    self.poll(id, &mut tasks);
                }
                None if self.advance() => {}
                None => {
                    self.violation("liveness: nothing is left to do, and the job has not ended");
                    break;
                }
            }
        }
        drop(tasks);
        // What is dropped may spawn: tasks hold the machine, and would keep it for ever.
        while !self.state().born.is_empty() {
            let born = std::mem::take(&mut self.state().born);
            drop(born);
        }
        let mut state = self.state();
        Report {
            trace: std::mem::take(&mut state.trace),
            counts: std::mem::take(&mut state.counts),
            violation: state.violation.take(),
        }
    }

    /// Takes in what was spawned and drops what was killed. Futures are dropped outside of the lock: what they own may
    /// ask the machine.
    fn take_in(&self, tasks: &mut BTreeMap<TaskId, Task>) {
        let (born, cancelled, killed) = {
            let state = &mut *self.state();
            (std::mem::take(&mut state.born), std::mem::take(&mut state.cancelled), std::mem::take(&mut state.killed))
        };
        for (id, task) in born {
            if self.is_alive(task.process) {
                lock(&self.ready).push(id);
                tasks.insert(id, task);
            }
        }
        for id in cancelled {
            tasks.remove(&id);
        }
        if !killed.is_empty() {
            let over: Vec<_> =
                tasks.iter().filter(|(_, task)| killed.contains(&task.process)).map(|(id, _)| *id).collect();
            for id in over {
                tasks.remove(&id);
            }
        }
    }

    fn draw(&self, tasks: &BTreeMap<TaskId, Task>) -> Option<TaskId> {
        let mut state = self.state();
        let mut ready = lock(&self.ready);
        ready.retain(|id| tasks.contains_key(id));
        let able: Vec<usize> =
            (0..ready.len()).filter(|i| !state.frozen.contains(&tasks[&ready[*i]].process)).collect();
        if able.is_empty() {
            return None;
        }
        let chosen = able[state.rng.random_range(0..able.len())];
        Some(ready.remove(chosen))
    }

    fn poll(&self, id: TaskId, tasks: &mut BTreeMap<TaskId, Task>) {
        let Some(task) = tasks.get_mut(&id) else { return };
        let waker = Waker::from(Arc::new(Wakes { task: id, ready: self.ready.clone() }));
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            tasks.remove(&id);
        }
    }

    /// Goes to the next timer.
    fn advance(&self) -> bool {
        let wakers: Vec<Waker> = {
            let mut state = self.state();
            let Some(((at, _), _)) = state.timers.first_key_value() else { return false };
            let at = *at;
            state.now = state.now.max(at);
            let later = state.timers.split_off(&(at + 1, 0));
            std::mem::replace(&mut state.timers, later).into_values().collect()
        };
        wakers.into_iter().for_each(Waker::wake);
        true
    }
}

/// How dangerous it is to ask a server just now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hazard {
    pub fails: f64,
    /// Most milliseconds that a request or its answer travels.
    pub slow: u64,
    /// A request may take effect after its sender has given it up. What travels on one connection, in order, does not.
    pub late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    FailsBefore,
    FailsAfter,
    SilentBefore,
    SilentAfter,
    Late,
}

/// How a request came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Before,
    /// It took effect all the same.
    After,
}

/// What a request does, and how its failure looks to whoever asked.
pub trait Effect<T, E>: Send + 'static {
    fn run(&self) -> Result<T, E>;
    fn broken(&self, broken: Broken) -> E;
}

impl<T, E, R, B> Effect<T, E> for (R, B)
where
    R: Fn() -> Result<T, E> + Send + 'static,
    B: Fn(Broken) -> E + Send + 'static,
{
    fn run(&self) -> Result<T, E> {
        (self.0)()
    }

    fn broken(&self, broken: Broken) -> E {
        (self.1)(broken)
    }
}

pub struct Sleep {
    sim: Sim,
    until: u64,
    registered: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let sim = self.sim.clone();
        let mut state = sim.state();
        if state.now >= self.until {
            return Poll::Ready(());
        }
        // A future moves with its task, so its first waker stays good.
        if !self.registered {
            self.registered = true;
            let n = state.next;
            state.next += 1;
            state.timers.insert((self.until, n), context.waker().clone());
        }
        Poll::Pending
    }
}

/// What a seed came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    pub trace: Vec<String>,
    pub counts: BTreeMap<&'static str, u64>,
    pub violation: Option<String>,
}
