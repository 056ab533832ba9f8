//! What the commands of `redpoll` are made of.

pub mod embedded;
pub mod parts;
pub mod roles;
