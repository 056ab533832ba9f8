//! What a user may set about a table of messages: `CREATE EXTERNAL TABLE … STORED AS OUTBOX`.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::Schema;
use redpoll_core::sink::SinkSpec;
use url::Url;

use super::pauses::Rate;
use super::secret::Text;
use crate::kafka::span;
use crate::widecolumn::RowKey;

/// Options by name; beside them there are `header.NAME` and `field.NAME`.
pub const OPTIONS: [&str; 7] = ["key", "format", "method", "rate", "timeout", "tries", "on_failure"];

const HEADER: &str = "header.";
const FIELD: &str = "field.";
const METHODS: [&str; 3] = ["POST", "PUT", "PATCH"];
/// A request that takes longer has its answer in doubt too often.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(120);

/// A table of messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub to: Address,
    /// By what a message is told from others, as `{candid}`: one message is sent for each key.
    pub key: RowKey,
    pub format: Format,
    pub method: String,
    pub headers: BTreeMap<String, Text>,
    /// Constant fields of every message.
    pub fields: BTreeMap<String, Text>,
    pub rate: Rate,
    /// Of one request, to the last byte of its answer.
    pub timeout: Duration,
    /// Requests for one message before [`OnFailure`] applies.
    pub tries: u32,
    pub on_failure: OnFailure,
}

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A web server.
    Web(Text),
    /// A folder, as path or URL, with a file for each message.
    Folder(String),
}

/// How a row becomes the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An object with the row's columns; those that are null are left out.
    Json,
    /// The same as fields of an HTML form.
    Form,
    /// The text of the row's single column.
    Text,
}

/// What becomes of a message that a receiver neither takes nor refuses, however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    SetAside,
    Wait,
}

/// An option, or the location, that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Wrong {
    /// None: the table's LOCATION.
    pub option: Option<String>,
    pub reason: String,
}

impl Config {
    /// Reads a table's location and options; everything that is wrong comes back.
    pub fn parse(spec: &SinkSpec) -> Result<Self, Vec<Wrong>> {
        let mut read = Read { options: &spec.options, wrong: Vec::new() };
        read.unknown();
        let to = read.note(None, address(&spec.url));
        let key = read.key();
        let format = read.one("format", Format::Json, format);
        let method = read.one("method", "POST".to_owned(), method);
        let rate = read.one("rate", Rate { gap: Duration::from_millis(200) }, Rate::parse);
        let timeout = read.one("timeout", Duration::from_secs(10), timeout);
        let tries = read.one("tries", 10, tries);
        let on_failure = read.one("on_failure", OnFailure::SetAside, on_failure);
        let (headers, fields) = (read.texts(HEADER), read.texts(FIELD));
        read.headers(&headers);
        if format == Format::Text && !fields.is_empty() {
            read.say(fields.keys().next().map(|name| format!("{FIELD}{name}")), "format 'text' has no fields");
        }
        match (to, key, read.wrong) {
            (Some(to), Some(key), wrong) if wrong.is_empty() => {
                Ok(Self { to, key, format, method, headers, fields, rate, timeout, tries, on_failure })
            }
            (_, _, wrong) => Err(wrong),
        }
    }

    /// Whether rows of these columns have the key.
    pub fn check_key(&self, rows: &Schema) -> Result<(), String> {
        self.key.check(rows).map_err(|error| as_key(&error))
    }

    /// Every text that may hold a secret, with the option that it stands in; none: the location.
    pub fn texts(&self) -> impl Iterator<Item = (Option<String>, &Text)> {
        let location = match &self.to {
            Address::Web(text) => Some((None, text)),
            Address::Folder(_) => None,
        };
        let of = |prefix: &'static str| move |(name, text)| (Some(format!("{prefix}{name}")), text);
        location.into_iter().chain(self.headers.iter().map(of(HEADER))).chain(self.fields.iter().map(of(FIELD)))
    }
}

/// Whether an option changes what is sent, and not only when and how.
pub fn alters_messages(option: &str) -> bool {
    !option.starts_with(HEADER) && !matches!(option, "rate" | "timeout" | "tries" | "on_failure")
}

struct Read<'a> {
    options: &'a BTreeMap<String, String>,
    wrong: Vec<Wrong>,
}

impl Read<'_> {
    fn say(&mut self, option: Option<String>, reason: impl ToString) {
        self.wrong.push(Wrong { option, reason: reason.to_string() });
    }

    fn note<T>(&mut self, option: Option<&str>, read: Result<T, String>) -> Option<T> {
        read.map_err(|reason| self.say(option.map(str::to_owned), reason)).ok()
    }

    fn one<T>(&mut self, option: &str, default: T, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let Some(text) = self.options.get(option) else { return default };
        self.note(Some(option), parse(text)).unwrap_or(default)
    }

    fn unknown(&mut self) {
        let is_known = |name: &str| {
            let prefixed = [HEADER, FIELD].iter().any(|prefix| name.len() > prefix.len() && name.starts_with(prefix));
            OPTIONS.contains(&name) || prefixed
        };
        for option in self.options.keys().filter(|option| !is_known(option)) {
            let near = crate::widecolumn::nearest(option, OPTIONS.into_iter().chain(["header.NAME", "field.NAME"]));
            self.wrong.push(Wrong {
                option: Some(option.clone()),
                reason: format!("there is no option '{option}' of an OUTBOX table; {near}"),
            });
        }
    }

    fn key(&mut self) -> Option<RowKey> {
        let Some(text) = self.options.get("key") else {
            let reason = "it has no option 'key', and the table of alerts has no 'id'; add OPTIONS ('key' '{COLUMN}'): one \
                          message is sent for each key";
            self.say(Some("key".to_owned()), reason);
            return None;
        };
        self.note(Some("key"), RowKey::parse(text).map_err(|error| as_key(&error)))
    }

    fn texts(&mut self, prefix: &str) -> BTreeMap<String, Text> {
        let options = self.options;
        let given = options.iter().filter_map(|(option, text)| Some((option, option.strip_prefix(prefix)?, text)));
        let mut texts = BTreeMap::new();
        for (option, name, text) in given {
            if let Some(text) = self.note(Some(option), Text::parse(text)) {
                texts.insert(name.to_owned(), text);
            }
        }
        texts
    }

    fn headers(&mut self, headers: &BTreeMap<String, Text>) {
        for (name, text) in headers {
            let option = Some(format!("{HEADER}{name}"));
            if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
                self.say(option, format!("'{name}' is no name of an HTTP header"));
            } else if name.eq_ignore_ascii_case(super::courier::IDEMPOTENCY_KEY) {
                self.say(option, "this header is Redpoll's own; leave it out, and use the option 'key'");
            } else if reqwest::header::HeaderValue::from_str(&text.to_string()).is_err() {
                self.say(option, "its value cannot stand in an HTTP header");
            }
        }
    }
}

/// A template's error, in the words of a message's key.
pub(super) fn as_key(error: &impl ToString) -> String {
    error.to_string().replace("row key", "key")
}

fn address(location: &str) -> Result<Address, String> {
    if !location.starts_with("http://") && !location.starts_with("https://") {
        return match location.split_once("://") {
            Some((scheme, _)) if !matches!(scheme, "file" | "s3" | "s3a") => {
                Err(format!("nothing sends messages to '{scheme}://'; use https://, http:// or a folder"))
            }
            _ => Ok(Address::Folder(location.to_owned())),
        };
    }
    let text = Text::parse(location)?;
    // A variable's value is not known here, and what stands for it is no name that a host could have.
    let filled = text.fill(&|_| Some("0".to_owned())).unwrap_or_default();
    let url = Url::parse(&filled).map_err(|error| format!("'{location}' is no URL: {error}"))?;
    match url.path().contains("%7B") || filled.contains('{') {
        true => Err(format!("'{location}' has a '{{' that is no '{{env:NAME}}'; columns cannot stand in a LOCATION")),
        false => Ok(Address::Web(text)),
    }
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "json" => Ok(Format::Json),
        "form" => Ok(Format::Form),
        "text" => Ok(Format::Text),
        other => Err(format!("format '{other}' is none of json, form, text")),
    }
}

fn method(text: &str) -> Result<String, String> {
    let method = text.to_uppercase();
    match METHODS.contains(&method.as_str()) {
        true => Ok(method),
        false => Err(format!("method '{text}' is none of {}", METHODS.join(", "))),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match span(text)? {
        Duration::ZERO => Err("a request takes some time; write '10s'".to_owned()),
        timeout if timeout > LONGEST_TIMEOUT => Err(format!("'{text}' is more than {}s", LONGEST_TIMEOUT.as_secs())),
        timeout => Ok(timeout),
    }
}

fn tries(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|tries| *tries > 0).ok_or_else(|| format!("'{text}' is no number of tries, such as 10"))
}

fn on_failure(text: &str) -> Result<OnFailure, String> {
    match text {
        "set_aside" => Ok(OnFailure::SetAside),
        "wait" => Ok(OnFailure::Wait),
        other => Err(format!("'{other}' is none of set_aside, wait")),
    }
}
