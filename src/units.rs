//! Units of the configuration: durations `"10s"`, sizes `"64KiB"`, rates `"100/s burst 200"`.

use std::num::NonZeroU32;
use std::time::Duration;

/// A budget that refills steadily: `count` per `per`, of which `burst` may be spent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: NonZeroU32,
    pub per: Duration,
    pub burst: NonZeroU32,
}
