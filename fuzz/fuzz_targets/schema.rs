//! Schemas off the wire: columns of a table, growth, and a decoder made of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redpoll_connectors::avro::{Format, ReaderSchema};

fuzz_target!(|data: &str| {
    redpoll_fuzz::decode(Format::Schemaless(data.into()), None, &[0; 64]);
    let Ok(schema) = ReaderSchema::from_avsc(data) else { return };
    let _ = redpoll_fuzz::TABLE.merge(&schema);
    let Some(beyond) = redpoll_fuzz::TABLE.beyond(&schema) else { return };
    let text = beyond.to_avsc().expect("what grows can be said in Avro");
    let read = ReaderSchema::from_avsc(&text).expect("what we write can be read");
    assert_eq!(read.fields(), beyond.fields());
    assert!(redpoll_fuzz::TABLE.grow(&schema).beyond(&schema).is_none());
});
