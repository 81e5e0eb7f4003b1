//! Pogo makes a REST API realtime without changing it.
#![forbid(unsafe_code)]

pub mod route;
pub mod rejection;
pub mod units;
