//! Pogo makes a REST API realtime without changing it.
#![forbid(unsafe_code)]

pub mod change;
pub mod config;
pub mod rejection;
pub mod route;
pub mod units;
