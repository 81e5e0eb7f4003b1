//! The program's memory: an allocator that gives back what a peak of connections has taken, where
//! the C library's keeps it.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// More than shares a page with anything else.
const LARGE: usize = 2 << 20;
const PAUSE: Duration = Duration::from_secs(2);

/// Has memory given back that is free and has not been used for some seconds. The allocator does so
/// when a page of its own becomes free, which after the end of a peak may not be the case for
/// hours. The memory that is asked for here is never written to.
pub(crate) async fn give_back() -> Infallible {
    let mut pauses = tokio::time::interval(PAUSE);
    pauses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pauses.tick().await;
        drop(black_box(Vec::<u8>::with_capacity(LARGE)));
    }
}
