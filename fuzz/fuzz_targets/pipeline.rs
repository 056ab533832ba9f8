//! Pipelines: SQL with variables, over one table of alerts.
#![no_main]

use std::sync::LazyLock;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use libfuzzer_sys::fuzz_target;
use redpoll_core::protocol::Pipeline;
use redpoll_core::runtime::SourceSpec;
use redpoll_core::sink::SinkSpec;
use redpoll_scheduler::pipeline::{Finding, Surroundings, TableKind, compile};
use redpoll_udfs::functions;
use redpoll_udfs::registry::Registry;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime can be made"));

/// Every table is there and takes everything.
struct Desk;

#[async_trait]
impl Surroundings for Desk {
    fn locate(&self, _: TableKind, location: &str, _: &Pipeline) -> Result<String, String> {
        Ok(location.to_owned())
    }

    async fn alerts(&self, _: &SourceSpec, _: &Pipeline) -> Result<SchemaRef, Vec<Finding>> {
        Ok(redpoll_fuzz::TABLE.arrow())
    }

    async fn sink(&self, _: &SinkSpec, _: &[SchemaRef]) -> Vec<Finding> {
        Vec::new()
    }
}

fuzz_target!(|data: &str| {
    let head = "CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION 'night';\n\
        CREATE EXTERNAL TABLE copy STORED AS DELTA LOCATION 'copy';\n";
    for text in [data.to_owned(), format!("{head}{data}"), format!("{head}INSERT INTO copy SELECT * FROM alerts WHERE {data}")] {
        let (file, folder) = ("p.sql".to_owned(), String::new());
        let (working_folder, variables) = (String::new(), Default::default());
        let pipeline = Pipeline { text, file, folder, working_folder, variables, filters: Default::default() };
        if let Err(problems) = RUNTIME.block_on(compile(&pipeline, &functions::all(), &Registry::default(), &Desk)) {
            assert!(problems.to_string().starts_with("p.sql:"));
        }
    }
});
