//! Namespaces to be configured.

use pogo::namespace::Name;
use pogo::session::namespaces;

use super::Api;

pub fn namespace(name: &str) -> namespaces::Options {
    namespaces::Options::new(Name::new(name).unwrap())
}

/// One with an API of its own.
pub fn apart(name: &str, api: &Api) -> namespaces::Options {
    let origin = api.address().to_string().parse().unwrap();
    let upstream = Some(pogo::upstream::Options { origin, ..Default::default() });
    namespaces::Options { upstream, ..namespace(name) }
}
