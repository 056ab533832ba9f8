//! Records with the number of a schema before the alert.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use redpoll_connectors::avro::Format;

static FORMAT: LazyLock<Format> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("redpoll-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for schemas can be made");
    std::fs::write(folder.join("7.avsc"), redpoll_fuzz::WRITER).expect("a schema can be written");
    let format = Format::open("confluent", None, folder.to_str()).expect("a folder is a registry");
    let known = redpoll_fuzz::record(None, &[0, 0, 0, 0, 7, 0]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    runtime.block_on(format.prepare(&[known])).expect("the schema is in the folder");
    format
});

fuzz_target!(|data: &[u8]| {
    redpoll_fuzz::decode(FORMAT.clone(), None, data);
    let framed = [&[0, 0, 0, 0, 7], data].concat();
    redpoll_fuzz::decode(FORMAT.clone(), None, &framed);
});
