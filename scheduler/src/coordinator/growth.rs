//! Alerts with fields that a job's plan does not have: which of them it takes, and which no table of it can.
//!
//! Fields are taken all at once where that goes. Where it does not, they are tried one by one, so that a field that one
//! table cannot take costs no other field.

use async_trait::async_trait;
use redpoll_connectors::avro::ReaderSchema;
use redpoll_core::protocol::{Grown, Growth};
use tracing::{info, warn};

use crate::pipeline::Problems;

/// Times that the alerts of a job may grow. Honest surveys change a few times a year; whoever sends another field with
/// each alert must not fill the log with revisions.
const MAX_GROWTHS: usize = 200;

/// Plans a job for alerts with more fields.
#[async_trait]
pub trait Planner: Send + Sync {
    type Plan: Send;

    /// A plan whose every table can take the alerts with these fields. Nothing changes for rows without them.
    async fn plan(&self, grown: &Grown) -> Result<Self::Plan, Error>;
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline is wrong, with such fields or what else is new.
    #[error("{0}")]
    Problems(Problems),
    /// A table or the pipeline cannot have such fields.
    #[error("{0}")]
    Refused(String),
    /// It may be the fields, or a service that is down: a plan without them tells.
    #[error("{0}")]
    Unsure(String),
    /// A service did not answer.
    #[error("{0}")]
    Moment(String),
}

/// What the alerts have by now, and a plan for it; `None` if `known` says it all. `reader` has what is known.
/// An error is one of the moment.
pub async fn take<P: Planner>(
    planner: &P,
    reader: &ReaderSchema,
    known: &Grown,
    met: &[Growth],
) -> Result<Option<(Grown, P::Plan)>, String> {
    let news = news(reader, met)?;
    let Some(wanted) = add(known, reader, &news)? else { return Ok(None) };
    if wanted.fields.len() > MAX_GROWTHS {
        warn!(MAX_GROWTHS, "alerts have grown too often: further fields are not read");
        let grown = Grown { closed: true, ..known.clone() };
        let plan = planner.plan(&grown).await.map_err(|error| error.to_string())?;
        return Ok(Some((grown, plan)));
    }
    match planner.plan(&wanted).await {
        Ok(plan) => {
            let schemas: Vec<_> = met.iter().map(|growth| growth.fingerprint.as_str()).collect();
            info!(?schemas, fields = ?paths(reader, &news), "alerts have grown");
            Ok(Some((wanted, plan)))
        }
        Err(Error::Moment(reason)) => Err(reason),
        Err(error) => {
            if matches!(error, Error::Unsure(_) | Error::Problems(_)) {
                planner.plan(known).await.map_err(|error| error.to_string())?;
            }
            one_by_one(planner, reader, known, &news).await.map(Some)
        }
    }
}

async fn one_by_one<P: Planner>(
    planner: &P,
    reader: &ReaderSchema,
    known: &Grown,
    news: &[ReaderSchema],
) -> Result<(Grown, P::Plan), String> {
    let (mut grown, mut reader) = (known.clone(), reader.clone());
    for (path, field) in news.iter().flat_map(|new| reader.beyond_one_by_one(new)).collect::<Vec<_>>() {
        let Some(wanted) = add(&grown, &reader, std::slice::from_ref(&field))? else { continue };
        match planner.plan(&wanted).await {
            Ok(_) => (grown, reader) = (wanted, reader.grow(&field)),
            Err(Error::Moment(reason)) => return Err(reason),
            Err(reason) => {
                warn!(field = path, %reason, "a new field of the alerts is not read: a table cannot take it");
                grown.passed_over.insert(path, reason.to_string());
            }
        }
    }
    let plan = planner.plan(&grown).await.map_err(|error| error.to_string())?;
    Ok((grown, plan))
}

/// The parts of what was met that the reader does not have, each once.
fn news(reader: &ReaderSchema, met: &[Growth]) -> Result<Vec<ReaderSchema>, String> {
    let (mut reader, mut news) = (reader.clone(), Vec::new());
    for growth in met {
        let written = ReaderSchema::from_avsc(&growth.fields);
        let written = written.map_err(|error| format!("fields of schema {}: {error}", growth.fingerprint))?;
        if let Some(new) = reader.beyond(&written) {
            reader = reader.grow(&new);
            news.push(new);
        }
    }
    Ok(news)
}

fn add(grown: &Grown, reader: &ReaderSchema, news: &[ReaderSchema]) -> Result<Option<Grown>, String> {
    let mut wanted = grown.clone();
    for new in news {
        let Some(new) = reader.beyond(new) else { continue };
        wanted.fields.push(new.to_avsc().map_err(|error| error.to_string())?);
    }
    Ok((wanted != *grown).then_some(wanted))
}

fn paths(reader: &ReaderSchema, news: &[ReaderSchema]) -> Vec<String> {
    news.iter().flat_map(|new| reader.beyond_one_by_one(new)).map(|(path, _)| path).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Plans are the paths that they know; `fp` is refused, and nothing goes while it is down.
    #[derive(Default)]
    struct Desk {
        refuses: Option<&'static str>,
        down: bool,
        asked: Mutex<usize>,
    }

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"alert","fields":[{fields}]}}"#)
    }

    fn reader() -> ReaderSchema {
        let candidate = record(r#"{"name":"jd","type":"double"}"#).replace("alert", "candidate");
        ReaderSchema::from_avsc(&record(&format!(r#"{{"name":"candidate","type":{candidate}}}"#))).unwrap()
    }

    fn met() -> Vec<Growth> {
        let candidate = record(r#"{"name":"drb","type":"float"},{"name":"rbversion","type":"string"}"#);
        let candidate = candidate.replace("alert", "candidate");
        let fields = record(&format!(r#"{{"name":"candidate","type":{candidate}}},{{"name":"fp","type":"long"}}"#));
        vec![Growth { fingerprint: "id:402".into(), fields }]
    }

    #[async_trait]
    impl Planner for Desk {
        type Plan = Vec<String>;

        async fn plan(&self, grown: &Grown) -> Result<Vec<String>, Error> {
            *self.asked.lock().unwrap() += 1;
            let grown = reader().with(grown).unwrap();
            let mut paths = paths(&reader(), std::slice::from_ref(&grown));
            paths.sort();
            match self.refuses {
                _ if self.down => Err(Error::Unsure("the broker is down".into())),
                Some(refused) if paths.iter().any(|path| path == refused) => {
                    Err(Error::Unsure(format!("'{refused}' is taken")))
                }
                _ => Ok(paths),
            }
        }
    }

    #[tokio::test]
    async fn all_new_fields_are_taken_at_once_and_known_ones_are_no_news() {
        let desk = Desk::default();
        let (grown, plan) = take(&desk, &reader(), &Grown::default(), &met()).await.unwrap().unwrap();
        assert_eq!(plan, ["candidate.drb", "candidate.rbversion", "fp"]);
        assert_eq!((grown.fields.len(), *desk.asked.lock().unwrap()), (1, 1));
        let reader = reader().with(&grown).unwrap();
        assert!(take(&desk, &reader, &grown, &met()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_field_that_a_table_cannot_take_costs_no_other() {
        let desk = Desk { refuses: Some("candidate.drb"), ..Desk::default() };
        let (grown, plan) = take(&desk, &reader(), &Grown::default(), &met()).await.unwrap().unwrap();
        assert_eq!(plan, ["candidate.rbversion", "fp"]);
        assert_eq!(grown.passed_over["candidate.drb"], "'candidate.drb' is taken");
        // Executors pass over it too, so it is not met again.
        let reader = reader().with(&grown).unwrap();
        assert!(reader.beyond(&ReaderSchema::from_avsc(&met()[0].fields).unwrap()).is_none());
    }

    #[tokio::test]
    async fn a_service_that_is_down_passes_over_nothing() {
        let desk = Desk { down: true, ..Desk::default() };
        assert_eq!(take(&desk, &reader(), &Grown::default(), &met()).await.unwrap_err(), "the broker is down");
    }

    #[tokio::test]
    async fn endless_growth_is_closed() {
        let mut grown = Grown::default();
        for n in 0..MAX_GROWTHS {
            grown.fields.push(record(&format!(r#"{{"name":"f{n}","type":"int"}}"#)));
        }
        let reader = reader().with(&grown).unwrap();
        let (closed, _) = take(&Desk::default(), &reader, &grown, &met()).await.unwrap().unwrap();
        assert!(closed.closed && closed.fields == grown.fields);
        assert!(
            self::reader().with(&closed).unwrap().beyond(&ReaderSchema::from_avsc(&met()[0].fields).unwrap()).is_none()
        );
    }
}
