//! REST under `/v1/`, and `/metrics`.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use redpoll_core::protocol::Pipeline;
use redpoll_udfs::registry::MAX_BYTES;
use serde::Deserialize;
use serde_json::json;

use super::jobs::{Request, read_ledger};
use super::{Attendance, Error, FilterRequest, Question, Service, Wanted, Wanting};
use crate::coordinator::Answer;
use crate::metrics;

/// The routes that the scheduler serves beside the engine's.
pub fn routes(service: Service) -> Router {
    Router::new()
        .route("/v1/jobs", post(start).get(list))
        .route("/v1/jobs/{name}", get(describe))
        .route("/v1/jobs/{name}/stop", post(stop))
        .route("/v1/jobs/{name}/resume", post(resume))
        .route("/v1/jobs/{name}/ledger", get(ledger))
        .route("/v1/jobs/{name}/quarantine/replay", post(replay))
        .route("/v1/jobs/{name}/revisions", get(revisions))
        .route("/v1/jobs/{name}/audit", get(audit))
        .route("/v1/check", post(check))
        .route("/v1/sql", post(sql))
        .route("/v1/executors", get(executors))
        .route("/v1/executors/{name}/modules", post(attend))
        .route("/v1/modules", get(modules).post(deploy_module))
        .route("/v1/modules/{name}", delete(remove_module))
        .route("/v1/bundles/{fingerprint}", put(keep_bundle).layer(DefaultBodyLimit::max(MAX_BYTES as usize)))
        .route("/v1/filters", get(filters).post(add_filter))
        .route("/v1/filters/yield", post(filter_yield))
        .route("/v1/filters/{name}", delete(remove_filter))
        .with_state(service)
        .route("/metrics", get(|| async { Ok::<_, Infallible>(metrics::text()) }))
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Error::Pipeline(problems) => {
                return (StatusCode::UNPROCESSABLE_ENTITY, Json(problems.clone())).into_response();
            }
            Error::NoJob(_) => StatusCode::NOT_FOUND,
            Error::Unconfirmed(revision) => {
                let body = json!({ "error": self.to_string(), "revision": revision });
                return (StatusCode::PRECONDITION_REQUIRED, Json(body)).into_response();
            }
            Error::Running(_) | Error::Taken { .. } | Error::Busy(_) => StatusCode::CONFLICT,
            Error::Refused(_) => StatusCode::BAD_REQUEST,
            Error::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

async fn start(State(service): State<Service>, Json(request): Json<Request>) -> Result<Response, Error> {
    Ok((StatusCode::CREATED, Json(service.start(request).await?)).into_response())
}

async fn list(State(service): State<Service>) -> Result<Response, Error> {
    Ok(Json(service.statuses().await?).into_response())
}

async fn describe(State(service): State<Service>, Path(name): Path<String>) -> Result<Response, Error> {
    Ok(Json(service.status(&name).await?).into_response())
}

async fn stop(State(service): State<Service>, Path(name): Path<String>) -> Result<Response, Error> {
    Ok(Json(service.stop(&name).await?).into_response())
}

#[derive(Deserialize)]
struct Word {
    answer: Answer,
}

async fn resume(
    State(service): State<Service>,
    Path(name): Path<String>,
    Json(word): Json<Word>,
) -> Result<Response, Error> {
    Ok(Json(service.answer(&name, word.answer).await?).into_response())
}

async fn ledger(State(service): State<Service>, Path(name): Path<String>) -> Result<Response, Error> {
    let (store, warehouse) = service.objects();
    let mut ledgers = read_ledger(store.clone(), warehouse).await.map_err(|error| Error::failed("ledger", error))?;
    let lines = ledgers.remove(&name).ok_or(Error::NoJob(name))?;
    Ok(Json(lines).into_response())
}

async fn replay(
    State(service): State<Service>,
    Path(name): Path<String>,
    Json(wanted): Json<Wanted>,
) -> Result<Response, Error> {
    Ok((StatusCode::ACCEPTED, Json(service.replay(&name, wanted).await?)).into_response())
}

async fn revisions(State(service): State<Service>, Path(name): Path<String>) -> Result<Response, Error> {
    Ok(Json(service.revisions(&name).await?).into_response())
}

async fn audit(
    State(service): State<Service>,
    Path(name): Path<String>,
    Query(question): Query<Question>,
) -> Result<Response, Error> {
    Ok(Json(service.audit(&name, &question).await?).into_response())
}

async fn check(State(service): State<Service>, Json(pipeline): Json<Pipeline>) -> Result<Response, Error> {
    let compiled = service.check(&pipeline).await?;
    let sinks: Vec<_> = compiled.sinks.iter().map(|(sink, _)| sink.name.clone()).collect();
    let modules: Vec<_> = compiled.modules.keys().cloned().collect();
    Ok(Json(json!({ "warnings": compiled.warnings, "sinks": sinks, "modules": modules })).into_response())
}

#[derive(Deserialize)]
struct SqlQuestion {
    query: String,
}

async fn sql(State(service): State<Service>, Json(question): Json<SqlQuestion>) -> Result<Response, Error> {
    let rows = service.sql(&question.query).await?;
    let body = Body::from_stream(rows.into_stream());
    Ok(([(header::CONTENT_TYPE, "application/vnd.apache.arrow.stream")], body).into_response())
}

async fn modules(State(service): State<Service>) -> Result<Response, Error> {
    Ok(Json(service.modules().await?).into_response())
}

async fn keep_bundle(
    State(service): State<Service>,
    Path(fingerprint): Path<String>,
    bytes: Bytes,
) -> Result<Response, Error> {
    service.keep_bundle(&fingerprint, bytes.to_vec()).await?;
    Ok(StatusCode::CREATED.into_response())
}

async fn deploy_module(State(service): State<Service>, Json(wanting): Json<Wanting>) -> Result<Response, Error> {
    Ok(Json(service.deploy_module(wanting).await?).into_response())
}

async fn remove_module(State(service): State<Service>, Path(name): Path<String>) -> Result<Response, Error> {
    Ok(Json(service.remove_module(&name).await?).into_response())
}

async fn filters(State(service): State<Service>) -> Result<Response, Error> {
    Ok(Json(service.filters().await?).into_response())
}

async fn add_filter(State(service): State<Service>, Json(request): Json<FilterRequest>) -> Result<Response, Error> {
    Ok(Json(service.add_filter(request).await?).into_response())
}

async fn remove_filter(State(service): State<Service>, Path(name): Path<String>) -> Result<Response, Error> {
    Ok(Json(service.remove_filter(&name).await?).into_response())
}

#[derive(Deserialize)]
struct Night {
    night: Option<String>,
}

async fn filter_yield(
    State(service): State<Service>,
    Query(Night { night }): Query<Night>,
    Json(request): Json<FilterRequest>,
) -> Result<Response, Error> {
    let found = service.filter_yield(&request.name, &request.filter, night.as_deref()).await?;
    Ok(Json(found).into_response())
}

async fn attend(
    State(service): State<Service>,
    Path(name): Path<String>,
    Json(attendance): Json<Attendance>,
) -> Result<Response, Error> {
    Ok(Json(service.attend(&name, attendance)).into_response())
}

async fn executors(State(service): State<Service>) -> Result<Response, Error> {
    let executors = service.engine()?.executors().await;
    let rows = executors.iter().map(|executor| {
        json!({
            "id": executor.id, "group": executor.group, "host": executor.host, "port": executor.port,
            "vcores": executor.vcores, "used": executor.used, "draining": executor.draining,
        })
    });
    Ok(Json(rows.collect::<Vec<_>>()).into_response())
}
