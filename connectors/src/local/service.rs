//! The store as a gRPC service.

use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use redpoll_proto::store::store_server::{Store as Rpc, StoreServer};
use redpoll_proto::store::{
    Batch, CreateRequest, CreateResponse, PutRequest, PutResponse, ScanRequest, ScanResponse, TablesRequest,
    TablesResponse, scan_request::Select,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::widecolumn::{Backend, Error, KeyRange, Scan};

/// The largest message, of either side, in bytes.
pub(super) const MAX_MESSAGE: usize = 64 << 20;

/// Serves a backend, usually a [`super::Store`].
#[derive(Debug, Clone)]
pub struct Service {
    backend: Arc<dyn Backend>,
}

impl Service {
    pub fn new(backend: Arc<dyn Backend>) -> Service {
        Service { backend }
    }

    /// The service for a tonic server that has others too.
    pub fn into_tonic(self) -> StoreServer<Service> {
        StoreServer::new(self).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }

    /// The routes for an axum server that has others too; its type is `axum::Router`. `.into_axum_router()` of the
    /// answer mounts them.
    pub fn routes(self) -> Routes {
        Routes::new(self.into_tonic())
    }

    /// Serves nothing else on this listener, until `stop` is ready and open calls are answered.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let incoming = TcpListenerStream::new(listener);
        Server::builder()
            .tcp_nodelay(true)
            .add_service(self.into_tonic())
            .serve_with_incoming_shutdown(incoming, stop)
            .await
    }
}

#[tonic::async_trait]
impl Rpc for Service {
    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let CreateRequest { table, families } = request.into_inner();
        self.backend.create(&table, &families).await.map_err(status)?;
        Ok(Response::new(CreateResponse {}))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let PutRequest { table, batch } = request.into_inner();
        self.backend.put(&table, batch.unwrap_or_default()).await.map_err(status)?;
        Ok(Response::new(PutResponse {}))
    }

    type ScanStream = BoxStream<'static, Result<ScanResponse, Status>>;

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<Self::ScanStream>, Status> {
        let ScanRequest { table, start, end, select, limit } = request.into_inner();
        let scan = Scan {
            range: KeyRange { start, end: Some(end).filter(|end| !end.is_empty()) },
            columns: match select {
                Some(Select::Columns(columns)) => Some(columns.columns),
                Some(Select::All(_)) | None => None,
            },
            limit: Some(limit).filter(|limit| *limit > 0),
        };
        let batches = self.backend.scan(&table, scan);
        let batches = batches.map_ok(|batch: Batch| ScanResponse { batch: Some(batch) }).map_err(status);
        Ok(Response::new(batches.boxed()))
    }

    async fn tables(&self, _: Request<TablesRequest>) -> Result<Response<TablesResponse>, Status> {
        Ok(Response::new(TablesResponse { tables: self.backend.tables().await.map_err(status)? }))
    }
}

/// What the caller should do is in the code; the text is for people.
fn status(error: Error) -> Status {
    match error {
        Error::MissingTable { remedy, .. } => Status::not_found(remedy),
        Error::Refused { reason, .. } => Status::invalid_argument(reason),
        Error::Unavailable { .. } => Status::unavailable(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}
