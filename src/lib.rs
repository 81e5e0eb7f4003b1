//! Pogo makes a REST API realtime without changing it.
#![forbid(unsafe_code)]

pub mod gate;
pub mod rejection;
pub mod route;
pub mod units;
pub mod upstream;
mod worker;
