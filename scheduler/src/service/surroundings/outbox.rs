//! Tables of messages: their options, and whether their rows can be messages. Nothing is sent to ask.

use datafusion::arrow::datatypes::SchemaRef;
use redpoll_connectors::outbox::{Config, Wrong, check_columns};
use redpoll_core::sink::SinkSpec;

use crate::pipeline::{At, Finding};

/// What names of headers and fields hold whose values are secrets, as a rule.
const SECRET: [&str; 7] = ["authorization", "cookie", "api-key", "api_key", "token", "secret", "password"];

pub(super) fn options(spec: &SinkSpec) -> Vec<Finding> {
    match Config::parse(spec) {
        Ok(config) => open_secrets(&config),
        Err(wrong) => wrong.into_iter().map(|wrong| problem(spec, &wrong)).collect(),
    }
}

fn open_secrets(config: &Config) -> Vec<Finding> {
    let is_secret = |option: &str| SECRET.iter().any(|secret| option.to_lowercase().contains(secret));
    let texts = config.texts().filter(|(_, text)| text.variables().next().is_none());
    let open = texts.filter_map(|(option, _)| option.filter(|option| is_secret(option)));
    let told = "its value becomes part of the job's log; write '{env:NAME}', a variable of the scheduler's environment";
    open.map(|option| Finding::warning(At::Value(option), told)).collect()
}

fn problem(spec: &SinkSpec, wrong: &Wrong) -> Finding {
    let at = match &wrong.option {
        Some(option) if wrong.reason.starts_with("there is no option") => At::Option(option.clone()),
        Some(option) if spec.options.contains_key(option) => At::Value(option.clone()),
        _ => At::Declaration,
    };
    Finding::problem(at, wrong)
}

pub(super) fn rows(spec: &SinkSpec, rows: &[SchemaRef]) -> Vec<Finding> {
    let wrong =
        |(insert, rows)| columns(spec, rows).into_iter().map(move |text| Finding::problem(At::Insert(insert), text));
    rows.iter().enumerate().flat_map(wrong).collect()
}

/// Why rows of these columns cannot be messages.
pub(in crate::service) fn columns(spec: &SinkSpec, rows: &SchemaRef) -> Vec<String> {
    let Ok(config) = Config::parse(spec) else { return Vec::new() };
    let key = config.check_key(rows).err();
    key.into_iter().chain(check_columns(rows, config.format)).collect()
}
