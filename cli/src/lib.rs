//! What the commands of `redpoll` are made of.

pub mod args;
pub mod commands;
pub mod exit;
pub mod log;
pub mod traces;

pub mod client;
pub mod cluster;
pub mod pipeline_file;
pub mod shipped;
pub mod warehouse;

pub mod output;
pub mod progress;
pub mod under_way;
pub mod values;
pub mod watch;

pub mod allocator;
pub mod attendant;
pub mod embedded;
pub mod parts;
pub mod roles;
