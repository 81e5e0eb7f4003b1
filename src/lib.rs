//! Pogo makes a REST API realtime without changing it.
#![forbid(unsafe_code)]

pub mod audience;
pub mod body;
pub mod change;
pub mod channel;
pub mod config;
pub mod connections;
pub mod downstream;
pub mod exchange;
pub mod gate;
pub mod gateway;
pub mod headers;
pub mod hub;
pub mod protocol;
pub mod rejection;
pub mod route;
pub mod server;
pub mod session;
pub mod units;
pub mod upstream;
pub mod uri;
pub mod view;
mod worker;
