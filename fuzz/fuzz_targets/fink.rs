//! Alerts with their schema in the key: a length, the schema, the alert.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redpoll_connectors::avro::Format;

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let (key, value) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    redpoll_fuzz::decode(Format::Fink, Some(key), value);
});
