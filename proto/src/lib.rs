//! Messages that travel between Redpoll's processes.

/// The embedded wide-column store's service.
#[allow(clippy::all, missing_docs, reason = "generated")]
pub mod store {
    tonic::include_proto!("redpoll.store");
}
