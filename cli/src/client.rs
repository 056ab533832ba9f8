//! Speaks to a scheduler's REST, whether it runs elsewhere or in this process.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use redpoll_core::ledger::Line;
use redpoll_core::protocol::Pipeline;
use redpoll_core::revision::Revised;
use redpoll_scheduler::coordinator::{Accepted, Answer, JobConfig, Revision, Status};
use redpoll_scheduler::pipeline::{Problem, Problems};
use redpoll_scheduler::service::{
    Attendance, Awaited, FilterRequest, Known, Outcome, Question, Report, Wanted, Wanting, Yield,
};
use redpoll_udfs::registry::Filter;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no scheduler answers at {url}: {reason}; is it running, and is --scheduler right?")]
    Unreachable { url: Url, reason: String },
    /// The scheduler's own words.
    #[error("{reason}")]
    Refused { status: StatusCode, reason: String },
    #[error("{0}")]
    Pipeline(Problems),
    /// It asks back: rows would differ.
    #[error("rows would differ from now on, and nobody agreed to that")]
    Unconfirmed(Box<Revision>),
    #[error("{url}: not an answer of redpoll: {reason}")]
    Answer { url: Url, reason: String },
}

impl Error {
    /// There is no job of that name.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// The job is between two states; a moment later the answer is another.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Refused { status: StatusCode::CONFLICT, .. })
    }
}

/// A scheduler; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

impl Client {
    pub fn new(base: Url) -> Result<Self, reqwest::Error> {
        let mut http = reqwest::Client::builder().connect_timeout(Duration::from_secs(5));
        let local = ["localhost", "127.0.0.1", "[::1]"];
        if base.host_str().is_some_and(|host| local.contains(&host)) {
            // A proxy of the environment leads out of this machine.
            http = http.no_proxy();
        }
        Ok(Self { http: http.build()?, base })
    }

    /// Begins a job, or goes on with it. `confirmed` is what the scheduler asked back before, and was agreed to.
    pub async fn submit(
        &self,
        config: &JobConfig,
        pipeline: &Pipeline,
        confirmed: Option<&Revision>,
    ) -> Result<Status, Error> {
        self.post(&["jobs"], &json!({ "config": config, "pipeline": pipeline, "confirmed": confirmed })).await
    }

    pub async fn revisions(&self, name: &str) -> Result<Vec<Revised>, Error> {
        self.get(&["jobs", name, "revisions"]).await
    }

    pub async fn jobs(&self) -> Result<Vec<Status>, Error> {
        self.get(&["jobs"]).await
    }

    pub async fn job(&self, name: &str) -> Result<Status, Error> {
        self.get(&["jobs", name]).await
    }

    pub async fn stop(&self, name: &str) -> Result<Status, Error> {
        self.post(&["jobs", name, "stop"], &json!({})).await
    }

    pub async fn resume(&self, name: &str, answer: Answer) -> Result<Status, Error> {
        self.post(&["jobs", name, "resume"], &json!({ "answer": answer })).await
    }

    pub async fn ledger(&self, name: &str) -> Result<Vec<Line>, Error> {
        self.get(&["jobs", name, "ledger"]).await
    }

    /// Asks for items of a job's quarantine to be sent again.
    pub async fn replay(&self, name: &str, wanted: &Wanted) -> Result<Accepted, Error> {
        self.post(&["jobs", name, "quarantine", "replay"], wanted).await
    }

    /// Takes as long as the job's alerts take to be read again.
    pub async fn audit(&self, name: &str, question: &Question) -> Result<Report, Error> {
        self.answer(self.request(Method::GET, &["jobs", name, "audit"]).query(question)).await
    }

    /// The warnings of a pipeline that may run: what is allowed but seldom meant.
    pub async fn check(&self, pipeline: &Pipeline) -> Result<Problems, Error> {
        #[derive(Deserialize)]
        struct Answer {
            warnings: Vec<Problem>,
        }
        let answer: Answer = self.post(&["check"], pipeline).await?;
        Ok(Problems { file: pipeline.file.clone(), problems: answer.warnings })
    }

    pub async fn modules(&self) -> Result<Vec<Known>, Error> {
        self.get(&["modules"]).await
    }

    /// Hands a module's files over. Nothing uses them until [`Client::deploy_module`] says so.
    pub async fn keep_bundle(&self, fingerprint: &str, bytes: Vec<u8>) -> Result<(), Error> {
        self.send(self.request(Method::PUT, &["bundles", fingerprint]).body(bytes)).await.map(drop)
    }

    /// Deploys a version of a module whose files were handed over. What running jobs made of it comes back, by job.
    pub async fn deploy_module(&self, wanting: &Wanting) -> Result<BTreeMap<String, Outcome>, Error> {
        self.post(&["modules"], wanting).await
    }

    /// As [`Client::deploy_module`], to take a module out of use.
    pub async fn remove_module(&self, name: &str) -> Result<BTreeMap<String, Outcome>, Error> {
        self.answer(self.request(Method::DELETE, &["modules", name])).await
    }

    pub async fn filters(&self) -> Result<BTreeMap<String, Filter>, Error> {
        self.get(&["filters"]).await
    }

    /// As [`Client::deploy_module`], of a filter.
    pub async fn add_filter(&self, request: &FilterRequest) -> Result<BTreeMap<String, Outcome>, Error> {
        self.post(&["filters"], request).await
    }

    pub async fn remove_filter(&self, name: &str) -> Result<BTreeMap<String, Outcome>, Error> {
        self.answer(self.request(Method::DELETE, &["filters", name])).await
    }

    /// What a filter would have picked of a past night, if the archive can tell.
    pub async fn filter_yield(&self, request: &FilterRequest, night: Option<&str>) -> Result<Option<Yield>, Error> {
        let question = self.request(Method::POST, &["filters", "yield"]).query(&[("night", night)]).json(request);
        self.answer(question).await
    }

    /// Says which versions of modules an executor has ready, and asks which it is to make ready.
    pub async fn attend(&self, executor: &str, attendance: &Attendance) -> Result<Awaited, Error> {
        self.post(&["executors", executor, "modules"], attendance).await
    }

    pub async fn executors(&self) -> Result<Vec<Value>, Error> {
        self.get(&["executors"]).await
    }

    /// The rows of a query, as they come.
    pub async fn sql(&self, query: &str) -> Result<Rows, Error> {
        let request = self.request(Method::POST, &["sql"]).json(&json!({ "query": query }));
        let mut rows = Rows {
            response: self.send(request).await?,
            decoder: StreamDecoder::new(),
            rest: Buffer::from(&[]),
            first: None,
        };
        rows.first = rows.pull().await?;
        Ok(rows)
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Error> {
        self.answer(self.request(Method::GET, path)).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, Error> {
        self.answer(self.request(Method::POST, path).json(body)).await
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        self.http.request(method, url)
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = self.send(request).await?;
        let url = response.url().clone();
        response.json().await.map_err(|error| Error::Answer { url, reason: deepest(&error) })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request
            .send()
            .await
            .map_err(|error| Error::Unreachable { url: self.base.clone(), reason: deepest(&error) })?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(refused(response).await),
        }
    }
}

async fn refused(response: Response) -> Error {
    let status = response.status();
    let url = response.url().clone();
    let body = response.text().await.unwrap_or_default();
    if status == StatusCode::UNPROCESSABLE_ENTITY
        && let Ok(problems) = serde_json::from_str::<Problems>(&body)
    {
        return Error::Pipeline(problems);
    }
    let said = serde_json::from_str::<Value>(&body).ok();
    if status == StatusCode::PRECONDITION_REQUIRED
        && let Some(revision) = said.as_ref().and_then(|said| Revision::deserialize(&said["revision"]).ok())
    {
        return Error::Unconfirmed(Box::new(revision));
    }
    match said.as_ref().and_then(|body| body["error"].as_str()) {
        Some(reason) => Error::Refused { status, reason: reason.to_owned() },
        None => Error::Answer { url, reason: format!("{status} {}", body.lines().next().unwrap_or_default()) },
    }
}

/// What an error is at bottom: the layers above it name only the layers.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Batches of an Arrow IPC stream, decoded as the bytes come.
pub struct Rows {
    response: Response,
    decoder: StreamDecoder,
    rest: Buffer,
    first: Option<RecordBatch>,
}

impl Rows {
    /// Known before the first batch; without columns if the query has none.
    pub fn schema(&self) -> SchemaRef {
        self.decoder.schema().unwrap_or_else(|| Schema::empty().into())
    }

    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        match self.first.take() {
            Some(batch) => Ok(Some(batch)),
            None => self.pull().await,
        }
    }

    pub async fn collect(mut self) -> Result<(SchemaRef, Vec<RecordBatch>), Error> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await? {
            batches.push(batch);
        }
        Ok((self.schema(), batches))
    }

    async fn pull(&mut self) -> Result<Option<RecordBatch>, Error> {
        loop {
            while !self.rest.is_empty() {
                if let Some(batch) = self.decoder.decode(&mut self.rest).map_err(|error| self.broken(&error))? {
                    return Ok(Some(batch));
                }
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.rest = Buffer::from(bytes),
                Ok(None) => {
                    let ended = self.decoder.finish();
                    return ended.map(|()| None).map_err(|error| self.broken(&error));
                }
                Err(error) => {
                    let reason = format!("the query broke off: {}", deepest(&error));
                    return Err(Error::Answer { url: self.response.url().clone(), reason });
                }
            }
        }
    }

    fn broken(&self, error: &ArrowError) -> Error {
        Error::Answer { url: self.response.url().clone(), reason: error.to_string() }
    }
}
