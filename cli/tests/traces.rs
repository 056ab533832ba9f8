//! An epoch's trace, as a collector of the OpenTelemetry protocol receives it from the real program.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

const PIPELINE: &str = "
CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}' OPTIONS (format 'ztf');
CREATE EXTERNAL TABLE raw STORED AS DELTA LOCATION 'ztf/raw';
INSERT INTO raw SELECT candid, objectId FROM alerts;
";

/// Spans, with the service that sent them.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for sent in request.into_inner().resource_spans {
            let attributes = sent.resource.unwrap_or_default().attributes;
            let service = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
            let service = format!("{:?}", service.value.unwrap().value.unwrap());
            let spans = sent.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn run(folder: &Path, endpoint: &str) -> std::process::Output {
    let pipeline = folder.join("night.sql");
    std::fs::write(&pipeline, PIPELINE).unwrap();
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/ztf/ZTF19acyjzeo.avro");
    let mut command = Command::new(env!("CARGO_BIN_EXE_redpoll"));
    command.arg("run").arg(&pipeline).arg("--set").arg(format!("source={}", alerts.display()));
    command.arg("--warehouse").arg(folder.join("warehouse")).arg("--available-now").current_dir(folder);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("REDPOLL_NAME", "night").output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_one_trace_from_its_plan_to_its_commit() {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let folder = tempfile::tempdir().unwrap();
    let done = run(folder.path(), &endpoint).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let spans = collector.0.lock().unwrap().clone();
    assert!(spans.iter().all(|(service, _)| service.contains("redpoll")), "{spans:?}");
    let mut traces: BTreeMap<Vec<u8>, BTreeSet<String>> = BTreeMap::new();
    for (_, span) in spans {
        // The id that the logs show is the collector's.
        let told = span.attributes.iter().find(|attribute| attribute.key == "trace_id").unwrap();
        let id: String = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(format!("{:?}", told.value).contains(&id), "{told:?} of {id}");
        traces.entry(span.trace_id).or_default().insert(span.name);
    }
    let names = ["epoch", "plan", "run", "receipts", "prepare", "publish", "commit"];
    assert_eq!(traces.into_values().collect::<Vec<_>>(), [BTreeSet::from(names.map(str::to_owned))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_does_not_keep_a_night_from_running() {
    let folder = tempfile::tempdir().unwrap();
    let done = run(folder.path(), "http://127.0.0.1:9").await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let done = run(folder.path(), "http://no host").await;
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{told}");
    assert!(told.contains("OTEL_EXPORTER_OTLP_ENDPOINT: "), "{told}");
}
