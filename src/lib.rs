//! Pogo makes a REST API realtime without changing it: a reverse proxy that sees which writes
//! succeed, and gives every WebSocket client that bound to a URI the new state of that URI, as that
//! client is allowed to see it.
//!
//! To read the code, begin with the words ([`uri`], [`protocol`]) and the decisions that need
//! neither sockets nor clocks ([`change`], [`audience`], [`view`]). Then follow a write: [`gateway`],
//! [`exchange`], [`upstream`], [`hub`]; and a bind: [`session`], [`hub`]. [`server`] starts it all;
//! a program
//! that embeds Pogo needs nothing else, or [`embed`] if it has handlers of its own.
//!
//! ```no_run
//! use pogo::server::{Options, Server};
//!
//! let mut options = Options::default();
//! options.upstream.origin = "127.0.0.1:3000".parse().expect("an authority");
//! let server = Server::start(options)?;
//! println!("http://{}", server.address());
//! server.drain()?;
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod access;
pub mod admin;
mod alarm;
pub mod audience;
pub mod body;
pub mod callers;
pub mod change;
pub mod channel;
pub mod config;
pub mod connections;
pub mod deny_file;
pub mod downstream;
pub mod embed;
pub mod exchange;
pub mod gate;
pub mod gateway;
pub mod groups;
pub mod handlers;
pub mod head;
pub mod headers;
pub mod holds;
pub mod hub;
pub mod metrics;
pub mod namespace;
pub mod protocol;
pub mod proxy_protocol;
pub mod rejection;
pub mod route;
pub mod server;
pub mod session;
pub mod spelling;
pub mod streams;
pub mod subscription;
pub mod title_case;
pub mod tls;
pub mod trace;
pub mod traces;
pub mod transport;
pub mod units;
pub mod upstream;
pub mod uri;
pub mod view;
pub mod watched;
mod worker;

pub use self::embed::{Handle, Pogo};
pub use self::handlers::{Event, HandlerError};
