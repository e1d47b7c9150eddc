//! The server: a node's own process, its listeners, its settings, its log.
//!
//! Connections live on the node's thread, so a request passes through no channel. Must never know:
//! how consensus is reached.

mod clients;
mod copies;
mod descriptors;
mod files;
mod http;
mod metrics;
mod replicas;
mod run;
mod settings;
mod tables;

pub use files::{read_file, read_password};
pub use run::{RunError, run};
pub use settings::{
    Given, LogFormat, NodeChoice, Settings, SettingsError, Where, parse_duration, parse_lifetime,
};
