//! Every view of this node.

use crate::change::Change;

#[derive(Debug, Default)]
pub struct Hub;

impl Hub {
    pub fn changed(&self, _: Change) {}
}
