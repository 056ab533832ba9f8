//! Tables of alerts: their options, whether the source is there, and the columns that it has.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::SchemaRef;
use redpoll_connectors::{kafka, sources};
use redpoll_core::runtime::SourceSpec;
use redpoll_core::source::Error;

use super::unknown;
use crate::pipeline::{At, Finding};
use crate::service::Service;

/// The columns of a table of alerts, or all that is wrong with it.
pub(super) async fn columns(service: &Service, spec: &SourceSpec) -> Result<SchemaRef, Vec<Finding>> {
    let mut findings = options(spec);
    findings.extend(sources::format(spec).err().map(|error| finding(spec, &error)));
    if !findings.is_empty() {
        return Err(findings);
    }
    let wrong = |error: Error| vec![finding(spec, &error)];
    let source = sources::open(spec, &service.inner.stores).await.map_err(wrong)?;
    if spec.url.starts_with("kafka://") {
        // A topic that is not there is found now, not at night.
        source.begin(Default::default()).await.map_err(wrong)?;
    }
    service.bucket(&spec.url).await.map_err(|error| vec![Finding::problem(At::Declaration, error)])?;
    sources::schema(spec, source.as_ref()).await.map_err(wrong)
}

fn options(spec: &SourceSpec) -> Vec<Finding> {
    match spec.url.starts_with("kafka://") {
        true => {
            let ours = |option: &&String| sources::OPTIONS.contains(&option.as_str());
            let others: BTreeMap<_, _> = spec.options.iter().filter(|(option, _)| !ours(option)).collect();
            broker_options(&spec.url, &others, &sources::OPTIONS, "a table of alerts")
        }
        false => unknown(spec.options.keys(), &sources::OPTIONS, "a table of alerts in files"),
    }
}

/// What is wrong with the options of a broker. `ours` are those that the table has beside them.
pub(super) fn broker_options(url: &str, options: &BTreeMap<&String, &String>, ours: &[&str], of: &str) -> Vec<Finding> {
    let known = kafka::Config::options();
    let known: Vec<&str> = ours.iter().copied().chain(known.iter().map(String::as_str)).collect();
    let named = options.keys().filter(|option| !option.starts_with("kafka.")).copied();
    let mut findings = unknown(named, &known, of);
    let is_known = |name: &str| known.contains(&name) || name.starts_with("kafka.");
    let rest = options.iter().filter(|(name, _)| is_known(name.as_str()));
    let mut rest: BTreeMap<String, String> = rest.map(|(name, value)| ((*name).clone(), (*value).clone())).collect();
    // Each option that is refused is told and left out, until the rest is right.
    while let Err(error) = kafka::Config::parse(url, &rest) {
        let option = match &error {
            kafka::Error::Option { option, .. } => option.clone(),
            _ => String::new(),
        };
        let is_given = rest.remove(&option).is_some();
        findings.push(Finding::problem(if is_given { At::Value(option) } else { At::Declaration }, error));
        if !is_given {
            break;
        }
    }
    findings
}

fn finding(spec: &SourceSpec, error: &Error) -> Finding {
    match error {
        Error::Option { option, .. } if spec.options.contains_key(option) => {
            Finding::problem(At::Value(option.clone()), error)
        }
        error => Finding::problem(At::Declaration, error),
    }
}
