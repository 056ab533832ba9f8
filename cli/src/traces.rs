//! Spans sent to an OpenTelemetry collector (OTLP over gRPC), where the environment names one.
//!
//! The variables are those of the OpenTelemetry specification: `OTEL_EXPORTER_OTLP_ENDPOINT` or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` turns it on; `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
//! `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_…` and the like mean what they mean everywhere.

use std::env;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};

use crate::exit::Usage;

/// What is still in hand is given this long to leave at the end.
const LAST_EXPORT: Duration = Duration::from_secs(3);

/// Sends spans until it is dropped, and then the last of them.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// None if the environment names no collector. Needs a Tokio runtime.
    pub fn from_env() -> Result<Option<Self>, Usage> {
        let variable = [OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT];
        let named = variable.iter().find(|name| env::var(name).is_ok_and(|value| !value.is_empty()));
        let Some(name) = named else { return Ok(None) };
        let exporter = SpanExporter::builder().with_tonic().build();
        let exporter = exporter.map_err(|error| Usage(format!("{name}: {error}; such as http://collector:4317")))?;
        let resource = Resource::builder();
        let resource = match env::var_os("OTEL_SERVICE_NAME") {
            Some(_) => resource,
            None => resource.with_service_name("redpoll"),
        };
        let provider = SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter);
        Ok(Some(Self(provider.build())))
    }

    pub fn tracer(&self) -> Tracer {
        self.0.tracer("redpoll")
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // A collector that is away is no reason for a command to fail.
        let _ = self.0.shutdown_with_timeout(LAST_EXPORT);
    }
}
