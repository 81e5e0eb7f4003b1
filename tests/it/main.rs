//! Sentences through the front door: a real Pogo on a free port, a scripted upstream behind it and
//! clients that write every byte themselves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::needless_pass_by_value, reason = "a JSON literal reads best where it is passed")]

mod harness;

mod abort;
mod access_log;
mod addresses;
mod admin;
mod auth;
mod autobind;
mod bans;
mod bind;
mod bounds;
mod channels;
mod closing;
mod deflate;
mod deploy;
mod descriptors;
mod differential;
mod differential_http2;
mod drain;
mod embed;
mod endings;
mod errors;
mod expect;
mod explain;
mod formats;
mod forward;
mod framing;
mod groups;
mod handlers;
mod hop_by_hop;
mod host;
mod http2;
mod http2_floods;
mod http2_strict;
mod http_limits;
mod import;
mod limits;
mod load;
mod logout;
mod messages;
mod metrics;
mod model;
mod namespaces;
mod poll;
mod pool;
mod quickstart;
mod rates;
mod ready;
mod refetch;
mod refusals;
mod reload;
mod reload_file;
mod reload_sockets;
mod rest;
mod restart;
mod resting;
mod route_rate;
mod routes;
mod secrets;
mod seed;
mod slow;
mod smuggling;
mod stale;
mod start;
mod streaming;
mod target;
mod tidy;
mod tls;
mod unanswered;
mod upgrade;
mod websocket_cases;
mod written;
