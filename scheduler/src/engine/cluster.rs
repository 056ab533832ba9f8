//! The books of the cluster: which executors may get tasks, and who holds how many of their vcores.
//!
//! Ballista keeps the executors; this layer around its state adds what it lacks.
//! - An executor that leaves, however that came out, takes no further task, and the queries that have tasks or results
//!   on it are cancelled *before* Ballista hears of the loss: its own recovery hangs, answers twice or loses vcores.
//! - Vcores that no running task holds are given back. A rolled-back stage forgets what its tasks held, and an executor
//!   would look busy for ever.
//! - An executor that drains keeps what it runs and gets nothing new.
//! - An executor that was restarted comes with another name. Where it has the address of one in the books, that one is
//!   gone: calls reach the new process and would never tell.
//! - An executor that left does not come back under its name: it may still hold tasks that were run again elsewhere.
//! - Executors and queries may belong to groups, so that reprocessing never takes a live stream's place.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::{BallistaError, Result};
use ballista_core::serde::protobuf::{ExecutorHeartbeat, ExecutorStatus, executor_status::Status};
use ballista_core::serde::scheduler::{ExecutorData, ExecutorMetadata};
use ballista_scheduler::cluster::memory::InMemoryClusterState;
use ballista_scheduler::cluster::{BoundTask, ClusterState, ClusterStateEventStream, ExecutorSlot};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::state::task_manager::JobInfoCache;
use dashmap::DashMap;
use futures::future::BoxFuture;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::watch::{LAST_WORD, tell_to_stop};

/// Names of executors that left and are not let in again, the last ones.
const LEFT: usize = 1024;

/// The group that a query asks for, as an extension of its session.
pub(super) struct Group(pub String);

/// An executor's id is its group and a name of its own: `live.5f0c…`.
pub fn group_of(executor: &str) -> &str {
    executor.split_once('.').map_or("", |(group, _)| group)
}

/// What is called, and waited for, when an executor is about to be removed.
pub(super) type Farewell = Box<dyn Fn(String) -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Debug, Clone, Default)]
struct Book {
    total: u32,
    used: u32,
    /// Counts changes of `used`.
    moves: u64,
    /// The `moves` at which more vcores were in use than tasks hold.
    surplus_at: Option<u64>,
    draining: bool,
    /// Removed as far as tasks go; queries that touch it are being cancelled.
    closed: bool,
}

#[derive(Default)]
pub(super) struct Cluster {
    inner: InMemoryClusterState,
    books: DashMap<String, Book>,
    /// Held while tasks are bound: after an executor was closed under it, nothing new can appear there.
    binding: Mutex<()>,
    /// Held while an executor is removed: who finds it gone as well must not be quicker than its queries are ended.
    leaving: Mutex<()>,
    departed: watch::Sender<u64>,
    left: parking_lot::Mutex<VecDeque<(String, Instant)>>,
    reclaimed: AtomicU64,
    farewell: OnceLock<Farewell>,
}

impl Cluster {
    pub fn on_departure(&self, farewell: Farewell) {
        if self.farewell.set(farewell).is_err() {
            unreachable!("set once, by the engine that made the cluster");
        }
    }

    /// How many executors have left so far.
    pub fn departed(&self) -> u64 {
        *self.departed.borrow()
    }

    /// Follows the number of those that left.
    pub fn departures(&self) -> watch::Receiver<u64> {
        self.departed.subscribe()
    }

    /// Vcores given back so far that no task held.
    pub fn reclaimed(&self) -> u64 {
        self.reclaimed.load(Ordering::Relaxed)
    }

    pub fn knows(&self, executor: &str) -> bool {
        self.books.get(executor).is_some_and(|book| !book.closed)
    }

    pub fn is_draining(&self, executor: &str) -> bool {
        self.books.get(executor).is_some_and(|book| book.draining)
    }

    /// Vcores in use, of an executor that is known.
    pub fn used(&self, executor: &str) -> u32 {
        self.books.get(executor).map_or(0, |book| book.used)
    }

    /// An executor that would take a task of this group now.
    pub fn idle(&self, group: Option<&str>) -> Option<String> {
        let idle = |executor: &str, book: &Book| book.is_open_to(executor, group) && book.used < book.total;
        self.books.iter().find(|book| idle(book.key(), book)).map(|book| book.key().clone())
    }

    /// Whether there is an executor that takes tasks of this group, now or when it has ended others.
    pub fn has_open(&self, group: Option<&str>) -> bool {
        self.books.iter().any(|book| book.is_open_to(book.key(), group))
    }

    /// Lets an executor finish what it runs, and gives it nothing more.
    pub fn drain(&self, executor: &str) {
        if let Some(mut book) = self.books.get_mut(executor) {
            book.draining = true;
        }
    }

    /// Drops all executors, without a word to their queries.
    pub async fn forget_all(&self) {
        self.books.clear();
        for executor in self.inner.registered_executor_metadata().await {
            _ = self.inner.remove_executor(&executor.id).await;
        }
    }

    /// Gives back vcores that no running task holds, once that was seen twice with nothing bound or freed in between.
    /// `held` are the vcores of the tasks that run, by executor. Returns what was given back.
    pub async fn reclaim(&self, held: &HashMap<String, u32>) -> Vec<ExecutorSlot> {
        let mut lost = Vec::new();
        for mut book in self.books.iter_mut() {
            let held = held.get(book.key()).copied().unwrap_or(0);
            let (moves, surplus) = (book.moves, book.used.saturating_sub(held));
            match book.surplus_at {
                _ if surplus == 0 => book.surplus_at = None,
                Some(at) if at == moves => lost.push((book.key().clone(), surplus)),
                _ => book.surplus_at = Some(moves),
            }
        }
        if !lost.is_empty() {
            let vcores: u64 = lost.iter().map(|(_, vcores)| u64::from(*vcores)).sum();
            self.reclaimed.fetch_add(vcores, Ordering::Relaxed);
            _ = self.unbind_tasks(lost.clone()).await;
        }
        lost
    }

    fn left_since(&self, executor: &str) -> Option<Instant> {
        self.left.lock().iter().find(|(id, _)| id == executor).map(|(_, since)| *since)
    }

    fn let_in_no_more(&self, executor: &str) {
        let mut left = self.left.lock();
        left.push_back((executor.to_owned(), Instant::now()));
        if left.len() > LEFT {
            left.pop_front();
        }
    }

    fn open_to(&self, executor: &str, group: Option<&str>) -> bool {
        self.books.get(executor).is_some_and(|book| book.is_open_to(executor, group))
    }

    /// Executors in the books that were at an address before this one.
    async fn at_the_address_of(&self, newcomer: &ExecutorMetadata) -> Vec<String> {
        let same = |other: &ExecutorMetadata| {
            other.id != newcomer.id
                && other.host == newcomer.host
                && (other.grpc_port == newcomer.grpc_port || other.port == newcomer.port)
        };
        let known = self.inner.registered_executor_metadata().await;
        known.into_iter().filter(same).map(|other| other.id).collect()
    }
}

impl Book {
    fn is_open_to(&self, executor: &str, group: Option<&str>) -> bool {
        !self.draining && !self.closed && group.is_none_or(|group| group == group_of(executor))
    }
}

#[async_trait]
impl ClusterState for Cluster {
    async fn bind_schedulable_tasks(
        &self,
        distribution: TaskDistributionPolicy,
        queries: Arc<HashMap<JobId, JobInfoCache>>,
        executors: Option<HashSet<String>>,
    ) -> Result<Vec<BoundTask>> {
        let _binding = self.binding.lock().await;
        let executors = executors.unwrap_or_else(|| self.books.iter().map(|book| book.key().clone()).collect());
        let mut bound = Vec::new();
        // Those that may go anywhere take what those that may not have left.
        let mut groups: Vec<_> = by_group(&queries).await.into_iter().collect();
        groups.sort_by_key(|(group, _)| group.is_none());
        for (group, queries) in groups {
            let open = executors.iter().filter(|id| self.open_to(id, group.as_deref())).cloned().collect();
            bound.extend(self.inner.bind_schedulable_tasks(distribution.clone(), Arc::new(queries), Some(open)).await?);
        }
        for (executor, task) in &bound {
            if let Some(mut book) = self.books.get_mut(executor) {
                book.used += task.vcores_consumed;
                book.moves += 1;
            }
        }
        Ok(bound)
    }

    async fn unbind_tasks(&self, slots: Vec<ExecutorSlot>) -> Result<()> {
        let mut freed = Vec::with_capacity(slots.len());
        for (executor, vcores) in slots {
            // A task may be given back twice (it ends while it is cancelled): never more than is in use.
            let Some(mut book) = self.books.get_mut(&executor) else { continue };
            let vcores = vcores.min(book.used);
            if vcores > 0 {
                book.used -= vcores;
                book.moves += 1;
                freed.push((executor, vcores));
            }
        }
        self.inner.unbind_tasks(freed).await
    }

    async fn register_executor(&self, metadata: ExecutorMetadata, spec: ExecutorData) -> Result<()> {
        let (id, total) = (metadata.id.clone(), spec.total_vcores);
        if let Some(since) = self.left_since(&id) {
            tracing::warn!(executor = id, "an executor that was given up is back; it has to start anew");
            // What told it so when it was given up is still trying.
            if since.elapsed() > LAST_WORD {
                tell_to_stop(metadata);
            }
            return Err(BallistaError::Configuration(format!("executor {id} was given up; it must start anew")));
        }
        for gone in self.at_the_address_of(&metadata).await {
            tracing::warn!(executor = gone, successor = id, "executor lost: another has its address");
            self.remove_executor(&gone).await?;
        }
        self.inner.register_executor(metadata, spec).await?;
        self.books.insert(id.clone(), Book { total, ..Book::default() });
        tracing::info!(executor = id, vcores = total, "executor joined");
        Ok(())
    }

    async fn save_executor_metadata(&self, metadata: ExecutorMetadata) -> Result<()> {
        self.inner.save_executor_metadata(metadata).await
    }

    async fn get_executor_metadata(&self, executor: &str) -> Result<ExecutorMetadata> {
        self.inner.get_executor_metadata(executor).await
    }

    async fn registered_executor_metadata(&self) -> Vec<ExecutorMetadata> {
        self.inner.registered_executor_metadata().await
    }

    async fn save_executor_heartbeat(&self, mut heartbeat: ExecutorHeartbeat) -> Result<()> {
        let status = heartbeat.status.as_ref().and_then(|status| status.status.as_ref());
        if matches!(status, Some(Status::Terminating(_))) {
            self.drain(&heartbeat.executor_id);
        } else if self.is_draining(&heartbeat.executor_id) {
            // An executor says once that it drains; what its heartbeat says later does not take that back.
            heartbeat.status = Some(ExecutorStatus { status: Some(Status::Terminating(String::new())) });
        }
        self.inner.save_executor_heartbeat(heartbeat).await
    }

    async fn remove_executor(&self, executor: &str) -> Result<()> {
        let _leaving = self.leaving.lock().await;
        let known = {
            let _binding = self.binding.lock().await;
            self.books.get_mut(executor).is_some_and(|mut book| !std::mem::replace(&mut book.closed, true))
        };
        if known {
            self.departed.send_modify(|departed| *departed += 1);
            self.let_in_no_more(executor);
            if let Some(farewell) = self.farewell.get() {
                farewell(executor.to_owned()).await;
            }
        }
        self.books.remove_if(executor, |_, book| book.closed);
        self.inner.remove_executor(executor).await
    }

    fn executor_heartbeats(&self) -> HashMap<String, ExecutorHeartbeat> {
        self.inner.executor_heartbeats()
    }

    fn get_executor_heartbeat(&self, executor: &str) -> Option<ExecutorHeartbeat> {
        self.inner.get_executor_heartbeat(executor)
    }

    async fn cluster_state_events(&self) -> Result<ClusterStateEventStream> {
        self.inner.cluster_state_events().await
    }
}

type Queries = HashMap<JobId, JobInfoCache>;

async fn by_group(queries: &Queries) -> HashMap<Option<String>, Queries> {
    let mut groups: HashMap<Option<String>, Queries> = HashMap::new();
    for (id, query) in queries {
        let config = query.execution_graph.read().await.session_config();
        let group = config.get_extension::<Group>().map(|group| group.0.clone());
        groups.entry(group).or_default().insert(id.clone(), query.clone());
    }
    groups
}

#[cfg(test)]
mod tests {
    use ballista_core::serde::scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification};

    use super::*;

    async fn cluster(executors: &[(&str, u32)]) -> Cluster {
        let cluster = Cluster::default();
        for (number, (id, vcores)) in (0..).zip(executors) {
            let metadata = ExecutorMetadata {
                id: id.to_string(),
                host: "localhost".into(),
                port: 2 * number,
                grpc_port: 2 * number + 1,
                specification: ExecutorSpecification::default().with_vcores(*vcores),
                os_info: ExecutorOperatingSystemSpecification::default(),
            };
            let data = ExecutorData { executor_id: id.to_string(), total_vcores: *vcores, available_vcores: *vcores };
            cluster.register_executor(metadata, data).await.unwrap();
        }
        cluster
    }

    fn hold(cluster: &Cluster, executor: &str, vcores: u32) {
        let mut book = cluster.books.get_mut(executor).unwrap();
        (book.used, book.moves) = (book.used + vcores, book.moves + 1);
    }

    #[tokio::test]
    async fn vcores_that_no_task_holds_are_given_back_when_seen_twice() {
        let cluster = cluster(&[("live.a", 4)]).await;
        hold(&cluster, "live.a", 3);
        let held = HashMap::from([("live.a".to_string(), 1)]);
        assert_eq!(cluster.reclaim(&held).await, []);
        assert_eq!(cluster.reclaim(&held).await, [("live.a".to_string(), 2)]);
        assert_eq!(cluster.used("live.a"), 1);
    }

    #[tokio::test]
    async fn a_task_that_starts_in_between_puts_the_second_look_off() {
        let cluster = cluster(&[("live.a", 4)]).await;
        hold(&cluster, "live.a", 1);
        assert_eq!(cluster.reclaim(&HashMap::new()).await, []);
        hold(&cluster, "live.a", 1);
        assert_eq!(cluster.reclaim(&HashMap::from([("live.a".to_string(), 1)])).await, []);
        assert_eq!(cluster.used("live.a"), 2);
    }

    #[tokio::test]
    async fn a_vcore_given_back_twice_is_counted_once() {
        let cluster = cluster(&[("live.a", 2)]).await;
        hold(&cluster, "live.a", 1);
        cluster.unbind_tasks(vec![("live.a".into(), 1), ("live.a".into(), 1)]).await.unwrap();
        assert_eq!(cluster.used("live.a"), 0);
        assert_eq!(cluster.idle(None).as_deref(), Some("live.a"));
    }

    #[tokio::test]
    async fn queries_are_told_before_the_executor_is_gone() {
        let cluster = Arc::new(cluster(&[("live.a", 2)]).await);
        let (seen, told) = (cluster.clone(), Arc::new(AtomicU64::new(0)));
        let count = told.clone();
        cluster.on_departure(Box::new(move |executor| {
            let (seen, count) = (seen.clone(), count.clone());
            Box::pin(async move {
                assert!(seen.get_executor_metadata(&executor).await.is_ok());
                assert!(!seen.knows(&executor) && seen.idle(None).is_none());
                count.fetch_add(1, Ordering::SeqCst);
            })
        }));
        cluster.remove_executor("live.a").await.unwrap();
        cluster.remove_executor("live.a").await.unwrap();
        assert_eq!((told.load(Ordering::SeqCst), cluster.departed()), (1, 1));
        assert!(cluster.get_executor_metadata("live.a").await.is_err());
    }

    #[tokio::test]
    async fn an_executor_that_comes_back_at_an_address_takes_the_place_of_the_one_before() {
        let cluster = cluster(&[("live.a", 2)]).await;
        let metadata = cluster.get_executor_metadata("live.a").await.unwrap();
        let again = |id: &str| ExecutorMetadata { id: id.into(), ..metadata.clone() };
        let data = |id: &str| ExecutorData { executor_id: id.into(), total_vcores: 2, available_vcores: 2 };
        cluster.register_executor(again("live.b"), data("live.b")).await.unwrap();
        assert!(!cluster.knows("live.a") && cluster.knows("live.b"));
        assert_eq!(cluster.departed(), 1);
        // A late heartbeat of the first would register it again.
        assert!(cluster.register_executor(again("live.a"), data("live.a")).await.is_err());
        assert!(cluster.knows("live.b") && !cluster.knows("live.a"));
    }

    #[tokio::test]
    async fn only_an_executor_of_its_group_has_a_place_for_a_query() {
        let cluster = cluster(&[("live.a", 1), ("batch.b", 1)]).await;
        hold(&cluster, "batch.b", 1);
        assert_eq!(cluster.idle(Some("batch")), None);
        assert_eq!(cluster.idle(None).as_deref(), Some("live.a"));
        assert!(cluster.has_open(Some("batch")) && !cluster.has_open(Some("other")));
    }

    #[tokio::test]
    async fn a_draining_executor_stays_so_whatever_its_heartbeat_says() {
        let cluster = cluster(&[("live.a", 2), ("batch.b", 2)]).await;
        cluster.drain("live.a");
        let active = ExecutorStatus { status: Some(Status::Active(String::new())) };
        let beat = ExecutorHeartbeat { executor_id: "live.a".into(), status: Some(active), ..Default::default() };
        cluster.save_executor_heartbeat(beat).await.unwrap();
        let status = cluster.get_executor_heartbeat("live.a").unwrap().status.unwrap().status;
        assert!(matches!(status, Some(Status::Terminating(_))));
        assert!(!cluster.open_to("live.a", None) && cluster.open_to("batch.b", Some("batch")));
        assert!(!cluster.open_to("batch.b", Some("live")));
    }
}
