//! Where alerts come from and where they go: one module per kind of place.

pub mod folder;
pub mod local;
pub mod widecolumn;

#[cfg(test)]
mod conformance;
