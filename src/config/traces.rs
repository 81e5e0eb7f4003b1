//! The section of spans.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::words::service;
use crate::traces::Options;
use crate::units::{Malformed, Notation};
use crate::{as_text, traces};

/// Who is told of each request; without an endpoint nobody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    pub endpoint: Option<CollectorUrl>,
    pub service_name: String,
}

impl Default for Traces {
    fn default() -> Self {
        Self { endpoint: None, service_name: "pogo".into() }
    }
}

impl Traces {
    pub(super) fn options(&self) -> Option<Options> {
        let CollectorUrl(endpoint) = self.endpoint.clone()?;
        let (service_name, bounds) = (self.service_name.clone(), traces::Bounds::default());
        Some(Options { endpoint, service_name, bounds })
    }
}

/// Where a collector takes spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorUrl(pub String);

as_text!(CollectorUrl);

impl FromStr for CollectorUrl {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        service(text).map(Self)
    }
}

impl Notation for CollectorUrl {
    const EXPECTED: &'static str = r#"a URL such as "http://127.0.0.1:4318/v1/traces""#;
}

impl fmt::Display for CollectorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
