mod delivering;
mod recording;
mod settings;

use std::collections::BTreeMap;

use redpoll_core::sink::{SinkKind, SinkSpec};

use super::Message;

fn spec(url: &str, options: &[(&str, &str)]) -> SinkSpec {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options: BTreeMap<_, _> = [("key".to_owned(), "{candid}".to_owned())].into_iter().chain(options).collect();
    SinkSpec { name: "bot".into(), kind: SinkKind::Outbox, url: url.into(), partition_by: vec![], options }
}

fn message(key: &str) -> Message {
    let row = format!(r#"{{"candid":{key},"text":"a & b"}}"#);
    Message { key: key.into(), row, topic: "ztf".into(), partition: 1, offset: 7, alert: 0 }
}
