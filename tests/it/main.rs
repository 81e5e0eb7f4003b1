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
mod braid;
mod channels;
mod closing;
mod deploy;
mod descriptors;
mod differential;
mod differential_http2;
mod drain;
mod endings;
mod errors;
mod expect;
mod formats;
mod forward;
mod framing;
mod groups;
mod hop_by_hop;
mod host;
mod http2;
mod http2_floods;
mod http2_strict;
mod http_limits;
mod http_page;
mod limits;
mod load;
mod logout;
mod long_poll;
mod messages;
mod metrics;
mod model;
mod pool;
mod prep;
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
mod sse;
mod sse_ends;
mod sse_model;
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
