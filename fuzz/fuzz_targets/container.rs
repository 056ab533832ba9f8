//! Records that are object containers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redpoll_connectors::avro::Format;

fuzz_target!(|data: &[u8]| {
    redpoll_fuzz::decode(Format::Container, None, data);
    // Most inputs do not get past the header.
    let schema = redpoll_fuzz::WRITER.as_bytes();
    let mut container = b"Obj\x01\x04\x16avro.schema".to_vec();
    put_long(&mut container, schema.len());
    container.extend_from_slice(schema);
    container.extend_from_slice(b"\x14avro.codec");
    let codec: &[u8] = match data.first().map(|first| first % 3) {
        Some(0) => b"null",
        Some(1) => b"deflate",
        _ => b"snappy",
    };
    put_long(&mut container, codec.len());
    container.extend_from_slice(codec);
    container.push(0);
    container.extend_from_slice(&[7; 16]);
    container.extend_from_slice(data.get(1..).unwrap_or_default());
    container.extend_from_slice(&[7; 16]);
    redpoll_fuzz::decode(Format::Container, None, &container);
});

fn put_long(bytes: &mut Vec<u8>, value: usize) {
    let mut left = value << 1;
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}
