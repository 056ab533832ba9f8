//! A store in another process.
//!
//! All calls share one HTTP/2 connection, made at the first of them. Puts are idempotent and scans know the last key they
//! gave, so both go on by themselves when the store restarts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parking_lot::Mutex;
use redpoll_proto::store::store_client::StoreClient;
use redpoll_proto::store::{
    AllColumns, Columns, CreateRequest, PutRequest, ScanRequest, ScanResponse, TablesRequest, scan_request::Select,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::service::MAX_MESSAGE;
use crate::widecolumn::{Backend, Batch, Error, KeyRange, Row, Scan, after};

/// How often, and how long apart, a call to a store that is away is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    /// Calls in all.
    pub tries: u32,
    /// Before the second call; doubled before each further one, up to 50 times this.
    pub delay: Duration,
}

impl Default for Retry {
    /// About 30 s: a store that is restarted, and reads its journal, is back by then.
    fn default() -> Retry {
        Retry { tries: 12, delay: Duration::from_millis(100) }
    }
}

/// A put is sent in messages of about this many bytes.
const PUT_BYTES: usize = 4 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A store that answers no ping within this time is away, though its connection still stands.
const PING: Duration = Duration::from_secs(10);

/// The client of a store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    address: Arc<str>,
    endpoint: Endpoint,
    channel: Arc<Mutex<Option<Channel>>>,
    retry: Retry,
}

impl Client {
    /// `address` is `store://host:port`. Nothing is sent yet.
    pub fn new(address: &str) -> Result<Client, Error> {
        let error = |reason: String| Error::Location { location: address.into(), reason };
        let authority = address.strip_prefix("store://").filter(|authority| !authority.is_empty());
        let authority = authority.ok_or_else(|| error("is no address; write store://HOST:PORT".into()))?;
        let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|e| error(e.to_string()))?;
        let endpoint = endpoint
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        Ok(Client { address: address.into(), endpoint, channel: Arc::default(), retry: Retry::default() })
    }

    #[cfg(test)]
    pub(super) fn with_retry(self, retry: Retry) -> Client {
        Client { retry, ..self }
    }

    fn stub(&self) -> StoreClient<Channel> {
        let channel = self.channel.lock().get_or_insert_with(|| self.endpoint.connect_lazy()).clone();
        StoreClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }

    /// Runs a call until it succeeds, fails for good, or has been tried often enough.
    async fn call<T, F>(&self, table: &str, mut call: impl FnMut(StoreClient<Channel>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut tries = 0;
        loop {
            match call(self.stub()).await {
                Ok(answer) => return Ok(answer),
                Err(status) => self.wait(table, status, &mut tries).await?,
            }
        }
    }

    /// Waits before the next try, or says why there is none.
    async fn wait(&self, table: &str, status: Status, tries: &mut u32) -> Result<(), Error> {
        *tries += 1;
        if !is_away(&status) || *tries >= self.retry.tries {
            return Err(self.error(table, status));
        }
        // A channel whose runtime has ended never recovers: make a new one.
        *self.channel.lock() = None;
        tokio::time::sleep(self.retry.delay * (1 << (*tries - 1).min(10)).min(50)).await;
        Ok(())
    }

    fn error(&self, table: &str, status: Status) -> Error {
        let (table, reason) = (table.to_string(), status.message().to_string());
        match status.code() {
            Code::NotFound => Error::MissingTable { table, remedy: reason },
            Code::InvalidArgument => Error::Refused { table, reason },
            _ if is_away(&status) => Error::Unavailable { location: self.address.to_string(), reason },
            _ => Error::Storage { location: self.address.to_string(), reason },
        }
    }
}

/// Whether the store, rather than the call, is at fault. A connection that breaks has no code of its own.
fn is_away(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
}

#[async_trait]
impl Backend for Client {
    async fn create(&self, table: &str, families: &[String]) -> Result<(), Error> {
        let request = CreateRequest { table: table.into(), families: families.to_vec() };
        self.call(table, |mut stub| {
            let request = request.clone();
            async move { stub.create(request).await.map(|_| ()) }
        })
        .await
    }

    async fn put(&self, table: &str, batch: Batch) -> Result<(), Error> {
        for batch in messages(batch) {
            let request = PutRequest { table: table.into(), batch: Some(batch) };
            let put = |mut stub: StoreClient<Channel>| {
                let request = request.clone();
                async move { stub.put(request).await.map(|_| ()) }
            };
            self.call(table, put).await?;
        }
        Ok(())
    }

    fn scan(&self, table: &str, scan: Scan) -> BoxStream<'static, Result<Batch, Error>> {
        if scan.range.is_empty() || scan.limit == Some(0) {
            return stream::empty().boxed();
        }
        let reader = Reader { client: self.clone(), table: table.into(), scan, open: None, tries: 0 };
        stream::try_unfold(reader, |mut reader| async move { Ok(reader.next().await?.map(|batch| (batch, reader))) })
            .boxed()
    }

    async fn tables(&self) -> Result<Vec<String>, Error> {
        self.call("", |mut stub| async move { stub.tables(TablesRequest {}).await })
            .await
            .map(|tables| tables.into_inner().tables)
    }
}

/// A scan that goes on behind the last row it gave.
struct Reader {
    client: Client,
    table: String,
    scan: Scan,
    open: Option<Streaming<ScanResponse>>,
    tries: u32,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Batch>, Error> {
        loop {
            let read = match &mut self.open {
                Some(open) => open.message().await,
                None => match self.client.stub().scan(self.request()).await {
                    Ok(open) => {
                        self.open = Some(open.into_inner());
                        continue;
                    }
                    Err(status) => Err(status),
                },
            };
            match read {
                Ok(answer) => {
                    let batch = answer.and_then(|answer| answer.batch);
                    batch.iter().for_each(|batch| self.advance(batch));
                    return Ok(batch);
                }
                Err(status) => {
                    self.open = None;
                    self.client.wait(&self.table, status, &mut self.tries).await?;
                    if self.scan.limit == Some(0) || self.scan.range.is_empty() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn advance(&mut self, batch: &Batch) {
        self.tries = 0;
        if let Some(Row { key, .. }) = batch.rows.last() {
            self.scan.range.start = after(key);
        }
        self.scan.limit = self.scan.limit.map(|limit| limit.saturating_sub(batch.rows.len() as u64));
    }

    fn request(&self) -> ScanRequest {
        let Scan { range: KeyRange { start, end }, columns, limit } = self.scan.clone();
        let select = match columns {
            Some(columns) => Select::Columns(Columns { columns }),
            None => Select::All(AllColumns {}),
        };
        ScanRequest {
            table: self.table.clone(),
            start,
            end: end.unwrap_or_default(),
            select: Some(select),
            limit: limit.unwrap_or(0),
        }
    }
}

/// A put in messages of whole rows.
fn messages(batch: Batch) -> Vec<Batch> {
    let Batch { columns, rows } = batch;
    let (mut messages, mut bytes) = (Vec::<Batch>::new(), usize::MAX);
    for row in rows {
        let size = row.key.len() + row.cells.iter().map(|cell| cell.value.len() + 16).sum::<usize>();
        bytes = bytes.saturating_add(size);
        if bytes > PUT_BYTES {
            messages.push(Batch { columns: columns.clone(), rows: Vec::new() });
            bytes = size;
        }
        messages.last_mut().expect("the first row makes a message").rows.push(row);
    }
    messages
}
