//! Words that every crate shares: ids, positions, the protocol's objects, the ledger, where objects live, and the
//! steps of an epoch's plan.

pub mod catalog;
pub mod codec;
pub mod digest;
pub mod fault;
pub mod ids;
pub mod ledger;
pub mod log;
pub mod objects;
pub mod protocol;
pub mod quarantine;
pub mod revision;
pub mod runtime;
pub mod sink;
pub mod sky;
pub mod source;
pub mod steps;
