//! One port for all: gRPC of the executors, Ballista's `/api` for queries, health, and the caller's routes.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_scheduler::api::get_routes;
use tokio::net::TcpListener;
use tokio::sync::watch::Receiver;
use tonic::service::RoutesBuilder;

use super::{Config, Server};

/// `routes` may bring a fallback; without one, unknown paths are 404.
pub(super) fn router(server: &Server, config: &Config, routes: Router) -> Router {
    let max = config.max_message_bytes as usize;
    let service =
        SchedulerGrpcServer::new(server.clone()).max_encoding_message_size(max).max_decoding_message_size(max);
    let mut grpc = RoutesBuilder::default();
    grpc.add_service(service);
    let grpc = grpc.routes().into_axum_router().reset_fallback();
    grpc.merge(get_routes(Arc::new(server.clone()))).merge(health(server.clone())).merge(routes)
}

/// `/healthz`: the process lives. `/readyz`: it has the executors that it was told to wait for.
fn health(server: Server) -> Router {
    let ready = move || {
        let ready = server.is_ready();
        async move {
            match ready {
                true => (StatusCode::OK, "ready\n"),
                false => (StatusCode::SERVICE_UNAVAILABLE, "waiting for executors\n"),
            }
        }
    };
    Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready))
}

/// Serves until `stopped` says true. Callers' addresses are kept: an executor without a name is known by its own.
pub(super) async fn serve(listener: TcpListener, router: Router, mut stopped: Receiver<bool>) -> std::io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let stop = async move { _ = stopped.wait_for(|stopped| *stopped).await };
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}
