//! Manifests of science modules.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use redpoll_udfs::manifest::{FILE_NAME, Module};

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("redpoll-fuzz-manifest-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the manifest can be made");
    folder
});

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.join(FILE_NAME);
    std::fs::write(&path, data).expect("the manifest can be written");
    if let Err(error) = Module::load(&path) {
        assert!(!error.to_string().is_empty());
    }
});
