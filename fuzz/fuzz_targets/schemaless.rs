//! Alerts alone, of a schema that is known.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redpoll_connectors::avro::Format;

fuzz_target!(|data: &[u8]| redpoll_fuzz::decode(Format::Schemaless(redpoll_fuzz::WRITER.into()), None, data));
