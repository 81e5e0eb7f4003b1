//! What the tests are told with. Nothing sleeps: every step waits for the other side's bytes, or
//! for the end of its connection, and fails when neither comes within [`PATIENCE`].

#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod api;
mod deflating;
mod events;
mod folder;
mod format;
pub mod frames;
mod http2;
mod operator;
mod pogo;
mod process;
mod recorder;
pub mod reference;
mod secure;
mod socket;
mod spaces;
pub mod streams;
mod upstream;
mod wire;

use std::time::Duration;

pub use api::{Api, Reply, Seen};
pub use deflating::{Deflating, deflated};
pub use events::Events;
pub use folder::Folder;
pub use format::{in_every_format, in_plain_json};
pub use http2::Http2;
pub use operator::Operator;
pub use pogo::{Pogo, start, start_of_two};
pub use process::{Launch, Process};
pub use recorder::Recorder;
pub use secure::{Authority, Private, reach};
pub use socket::{Socket, frame};
pub use spaces::{apart, namespace};
pub use upstream::{Nowhere, Upstream};
pub use wire::{Message, Wire};

/// How long a step may take before the test is told that it will not happen.
pub const PATIENCE: Duration = Duration::from_secs(5);
