//! Brings one message to its receiver and says what came of it.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use redpoll_core::objects::{Location, Stores};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode};
use url::Url;

use super::config::{Address, Config, Format};
use super::message::Message;

/// By which a receiver may know a request that it has had already.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Bytes of an answer that are told.
const TOLD: usize = 300;

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The receiver has the message.
    Taken { status: u16 },
    /// It does not want this message, and would not if it were sent again.
    Refused { reason: String },
    /// It may take it later, or has it: the answer did not come.
    Later { reason: String, after: Option<Duration> },
    /// Nothing was sent: nobody answers there.
    Unreachable { reason: String },
}

/// Whoever brings messages.
#[async_trait]
pub trait Deliver: Send + Sync {
    /// `id` is the message's idempotency key.
    async fn deliver(&self, id: u128, message: &Message) -> Answer;
}

/// An environment variable that a table names and this process does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unset {
    #[error("the scheduler has no environment variable {0}, which {{env:{0}}} stands for; start it with one")]
    Variable(String),
    #[error("{0}")]
    Unusable(String),
}

/// Brings messages to a web server, or puts them in a folder.
#[derive(Debug)]
pub struct Courier {
    to: To,
    format: Format,
    fields: Vec<(String, String)>,
    /// What must not be told, though an answer may hold it.
    secrets: Vec<String>,
}

#[derive(Debug)]
enum To {
    Web { client: Client, method: Method, url: Box<Url>, headers: HeaderMap },
    Folder(Location),
}

impl Courier {
    /// Looks up the secrets that the table names, by `variable`.
    pub fn open(config: &Config, stores: &Stores, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Unset> {
        let fill = |text: &super::secret::Text| text.fill(variable).map_err(Unset::Variable);
        let fields = config.fields.iter().map(|(name, text)| Ok((name.clone(), fill(text)?)));
        let to = match &config.to {
            Address::Folder(location) => To::Folder(stores.locate(location).map_err(unusable)?),
            Address::Web(location) => To::Web {
                client: client(config.timeout)?,
                method: config.method.parse().map_err(unusable)?,
                url: Box::new(Url::parse(&fill(location)?).map_err(unusable)?),
                headers: config
                    .headers
                    .iter()
                    .map(|(name, text)| header(name, &fill(text)?))
                    .collect::<Result<_, _>>()?,
            },
        };
        let names: BTreeSet<&str> = config.texts().flat_map(|(_, text)| text.variables()).collect();
        let secrets = names.into_iter().filter_map(variable).filter(|secret| !secret.is_empty()).collect();
        Ok(Self { to, format: config.format, fields: fields.collect::<Result<_, _>>()?, secrets })
    }

    /// Without the secrets that an answer may repeat.
    fn hide(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "…"))
    }

    async fn put(&self, folder: &Location, id: u128, body: Vec<u8>) -> Answer {
        let ending = match self.format {
            Format::Json => "json",
            Format::Form | Format::Text => "txt",
        };
        let path: Path = folder.path.clone().join(format!("{id:032x}.{ending}"));
        match folder.store.put(&path, PutPayload::from(body)).await {
            Ok(_) => Answer::Taken { status: StatusCode::CREATED.as_u16() },
            Err(error) => Answer::Unreachable { reason: error.to_string() },
        }
    }
}

#[async_trait]
impl Deliver for Courier {
    async fn deliver(&self, id: u128, message: &Message) -> Answer {
        let (body, content) = message.body(self.format, &self.fields);
        let (client, method, url, headers) = match &self.to {
            To::Folder(folder) => return self.put(folder, id, body).await,
            To::Web { client, method, url, headers } => (client, method, url, headers),
        };
        let mut request = client.request(method.clone(), url.as_ref().clone()).body(body);
        if !headers.contains_key(CONTENT_TYPE) {
            request = request.header(CONTENT_TYPE, content);
        }
        let request = request.headers(headers.clone()).header(IDEMPOTENCY_KEY, format!("{id:032x}"));
        match request.send().await {
            Ok(response) => self.judge(response).await,
            Err(error) if error.is_connect() => Answer::Unreachable { reason: in_words(error) },
            Err(error) => Answer::Later { reason: in_words(error), after: None },
        }
    }
}

impl Courier {
    async fn judge(&self, response: Response) -> Answer {
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|after| retry_after(after.to_str().ok()?, Utc::now()));
        let reason = match response.headers().get(LOCATION).filter(|_| status.is_redirection()) {
            Some(_) => format!("HTTP {status}: it is somewhere else; give that as LOCATION"),
            None if status.is_success() => String::new(),
            None => self.hide(format!("HTTP {status}{}", beginning(response).await)),
        };
        match status {
            status if status.is_success() => Answer::Taken { status: status.as_u16() },
            // A conflict: the first request with this key is still being worked on.
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::CONFLICT
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS => Answer::Later { reason, after },
            status if status.is_server_error() => Answer::Later { reason, after },
            _ => Answer::Refused { reason },
        }
    }
}

fn client(timeout: Duration) -> Result<Client, Unset> {
    // A redirect would turn a POST into a GET, and take secrets elsewhere.
    Client::builder().timeout(timeout).redirect(Policy::none()).build().map_err(unusable)
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Unset> {
    let wrong = || Unset::Unusable(format!("header {name}: its value cannot stand in a request"));
    let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?, value))
}

fn unusable(error: impl ToString) -> Unset {
    Unset::Unusable(error.to_string())
}

/// An error with its causes and without the URL, which may hold a secret.
fn in_words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// How an answer's text begins, on one line.
async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() >= TOLD {
            break;
        }
    }
    bytes.truncate(TOLD);
    let text = String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { text } else { format!(": {text}") }
}

/// Seconds, or the time at which to come again.
pub(super) fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    match text.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let at = DateTime::parse_from_rfc2822(text.trim()).ok()?;
            Some((at.to_utc() - now).to_std().unwrap_or_default())
        }
    }
}
