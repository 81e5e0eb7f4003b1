//! Pogo makes a REST API realtime without changing it.
#![forbid(unsafe_code)]

pub mod rejection;
pub mod route;
pub mod units;
