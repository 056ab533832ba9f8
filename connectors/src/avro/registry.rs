//! Writer schemas by number, from a schema registry or a folder of `<id>.avsc` files.
//!
//! A number never changes its meaning, so what was found is kept for good. What was not found is asked for again after
//! a while: a new schema may be registered just after its first alerts. A registry that does not answer is an error of
//! the moment (try the epoch again), never a reason to quarantine alerts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use serde::Deserialize;

/// How long a number that the registry does not know is not asked for again.
const ABSENT_FOR: Duration = Duration::from_secs(30);
const NO_URL: &str = "it is a folder; give the URL of a registry, or the option 'schema_id'";
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the registry {location} did not give schema {id}: {reason}")]
    Unreachable { location: String, id: u32, reason: String },
    #[error("the registry {location} did not take the schema of {subject}: {reason}")]
    Refused { location: String, subject: String, reason: String },
    #[error("the registry {location} has schemas of {subject} that this one is not compatible with: {reason}")]
    Incompatible { location: String, subject: String, reason: String },
    #[error("'{location}' is neither a folder of <id>.avsc files nor an http(s) URL of a schema registry")]
    Location { location: String },
}

#[derive(Debug)]
pub struct Registry {
    location: String,
    from: From,
    known: DashMap<u32, Known>,
}

#[derive(Debug)]
enum From {
    Folder(PathBuf),
    Url(reqwest::Client),
}

#[derive(Debug, Clone)]
enum Known {
    Schema(Arc<str>),
    Absent(Instant),
}

/// The registry's answer, as Confluent's and Apicurio's ccompat API give it.
#[derive(Deserialize)]
struct Answer {
    schema: String,
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Deserialize)]
struct Compatibility {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

/// Of an answer that is no success.
#[derive(Deserialize)]
struct Failure {
    error_code: u32,
}

/// Codes of a subject, and of a version of it, that is not there.
const MISSING: [u32; 2] = [40401, 40402];
/// What the API wants to be sent.
const CONTENT: &str = "application/vnd.schemaregistry.v1+json";

impl Registry {
    /// `location` is a folder or a URL, which may hold a user and a password.
    pub fn open(location: &str) -> Result<Registry, Error> {
        let wrong = || Error::Location { location: location.to_owned() };
        let from = match location.starts_with("http://") || location.starts_with("https://") {
            true => From::Url(reqwest::Client::builder().timeout(TIMEOUT).build().map_err(|_| wrong())?),
            false => From::Folder(PathBuf::from(location.strip_prefix("file://").unwrap_or(location))),
        };
        if let From::Folder(folder) = &from
            && !folder.is_dir()
        {
            return Err(wrong());
        }
        Ok(Registry { location: location.trim_end_matches('/').to_owned(), from, known: DashMap::new() })
    }

    /// The schema if it has been loaded.
    pub(super) fn get(&self, id: u32) -> Option<Arc<str>> {
        match self.known.get(&id).as_deref() {
            Some(Known::Schema(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// Loads a schema unless it is known. An id that the registry does not have is remembered, not an error.
    pub async fn load(&self, id: u32) -> Result<(), Error> {
        match self.known.get(&id).as_deref() {
            Some(Known::Schema(_)) => return Ok(()),
            Some(Known::Absent(since)) if since.elapsed() < ABSENT_FOR => return Ok(()),
            _ => {}
        }
        let found = match &self.from {
            From::Folder(folder) => match tokio::fs::read_to_string(folder.join(format!("{id}.avsc"))).await {
                Ok(text) => Some(text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(self.unreachable(id, &error)),
            },
            From::Url(client) => self.fetch(client, id).await?,
        };
        let known = found.map_or_else(|| Known::Absent(Instant::now()), |text| Known::Schema(text.into()));
        self.known.insert(id, known);
        Ok(())
    }

    async fn fetch(&self, client: &reqwest::Client, id: u32) -> Result<Option<String>, Error> {
        let request = client.get(format!("{}/schemas/ids/{id}", self.location));
        let response = request.send().await.map_err(|error| self.unreachable(id, &error.without_url()))?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = response.error_for_status().map_err(|error| self.unreachable(id, &error.without_url()))?;
        let answer: Answer = response.json().await.map_err(|error| self.unreachable(id, &error.without_url()))?;
        Ok(Some(answer.schema))
    }

    /// Whether a schema may be registered under a subject, as far as its newest version tells. Nothing is registered.
    pub async fn check(&self, subject: &str, schema: &str) -> Result<(), Error> {
        let refused = |reason: String| Error::Refused { location: self.shown(), subject: subject.to_owned(), reason };
        let incompatible = |reason| {
            let (location, subject) = (self.shown(), subject.to_owned());
            Err(Error::Incompatible { location, subject, reason })
        };
        let From::Url(client) = &self.from else { return Err(refused(NO_URL.to_owned())) };
        let url = format!("{}/compatibility/subjects/{subject}/versions/latest?verbose=true", self.location);
        let request = client.post(url).header("content-type", CONTENT);
        let response = request.json(&serde_json::json!({ "schema": schema })).send().await;
        let response = response.map_err(|error| refused(error.without_url().to_string()))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| refused(error.without_url().to_string()))?;
        if status == reqwest::StatusCode::NOT_FOUND
            && serde_json::from_str::<Failure>(&text).is_ok_and(|failure| MISSING.contains(&failure.error_code))
        {
            return Ok(());
        }
        if status == reqwest::StatusCode::UNPROCESSABLE_ENTITY {
            return incompatible(text);
        }
        match serde_json::from_str::<Compatibility>(&text) {
            Ok(answer) if status.is_success() && answer.is_compatible => Ok(()),
            Ok(answer) if status.is_success() => incompatible(answer.messages.join(", ")),
            _ => Err(refused(format!("{status} {}", text.lines().next().unwrap_or_default()))),
        }
    }

    /// The number of a schema under a subject such as `alerts-value`; it is registered if it is not there.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, Error> {
        let refused = |reason: String| Error::Refused { location: self.shown(), subject: subject.to_owned(), reason };
        let From::Url(client) = &self.from else {
            return Err(refused(NO_URL.to_owned()));
        };
        let request = client.post(format!("{}/subjects/{subject}/versions", self.location));
        let request = request.header("content-type", CONTENT);
        let response = request.json(&serde_json::json!({ "schema": schema })).send().await;
        let response = response.map_err(|error| refused(error.without_url().to_string()))?;
        if !response.status().is_success() {
            let status = response.status();
            if status == reqwest::StatusCode::CONFLICT || status == reqwest::StatusCode::UNPROCESSABLE_ENTITY {
                let (location, reason) = (self.shown(), response.text().await.unwrap_or_default());
                return Err(Error::Incompatible { location, subject: subject.to_owned(), reason });
            }
            return Err(refused(format!("{status} {}", response.text().await.unwrap_or_default())));
        }
        let answer: Registered = response.json().await.map_err(|error| refused(error.without_url().to_string()))?;
        Ok(answer.id)
    }

    fn unreachable(&self, id: u32, reason: &dyn std::fmt::Display) -> Error {
        Error::Unreachable { location: self.shown(), id, reason: reason.to_string() }
    }

    /// The location without the password it may hold.
    pub(super) fn shown(&self) -> String {
        match url::Url::parse(&self.location) {
            Ok(mut url) if url.password().is_some() => match url.set_password(Some("…")) {
                Ok(()) => url.to_string(),
                Err(()) => url.host_str().unwrap_or_default().to_owned(),
            },
            _ => self.location.clone(),
        }
    }
}
