//! Sentences through the front door: a real Pogo on a free port, a scripted upstream behind it and
//! clients that write every byte themselves.

mod harness;

mod abort;
mod auth;
mod autobind;
mod bind;
mod channels;
mod closing;
mod drain;
mod errors;
mod forward;
mod framing;
mod hop_by_hop;
mod host;
mod limits;
mod messages;
mod model;
mod pool;
mod rest;
mod seed;
mod slow;
mod streaming;
mod target;
mod upgrade;
