//! `[tls]` and `[upstream_tls]`, and the options that they become.

use serde::{Deserialize, Serialize};

use super::document::Document;
use super::fault::{Fault, Kind};
use super::sections::Config;
use crate::tls::{Identity, Pair, Unusable};
use crate::upstream::{self, Insecure, Secure};

/// Both must be written; without the section clients are spoken to in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    pub certificate: Option<String>,
    pub key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    pub ca_file: Option<String>,
    pub server_name: Option<String>,
    pub client_certificate: Option<String>,
    pub client_key: Option<String>,
}

/// Contradictions in both sections.
pub(super) fn check(config: &Config, document: &Document) -> Result<(), Fault> {
    let refuse =
        |path: &str, reason: &str| Err(document.fault(path, Kind::Refused(reason.to_owned())));
    if let Some(tls) = &config.tls {
        match (&tls.certificate, &tls.key) {
            (Some(_), Some(_)) => (),
            (None, Some(_)) => return refuse("tls.key", "it needs tls.certificate beside it"),
            (Some(_), None) => return refuse("tls.certificate", "it needs tls.key beside it"),
            (None, None) => return refuse("tls", "this section needs certificate and key"),
        }
    }
    let tls = &config.upstream_tls;
    match (&tls.client_certificate, &tls.client_key) {
        (Some(_), None) => {
            let reason = "it needs upstream_tls.client_key beside it";
            return refuse("upstream_tls.client_certificate", reason);
        }
        (None, Some(_)) => {
            let reason = "it needs upstream_tls.client_certificate beside it";
            return refuse("upstream_tls.client_key", reason);
        }
        _ => (),
    }
    let in_the_clear = config.upstream.as_ref().is_some_and(|upstream| !upstream.https);
    if in_the_clear && *tls != UpstreamTls::default() {
        return refuse("upstream_tls", "the upstream is spoken to in the clear; expected https://");
    }
    Ok(())
}

/// What clients are shown. That it can be used is found out here, where the line is known.
pub(super) fn pair(config: &Config, document: &Document) -> Result<Option<Pair>, Fault> {
    let Some(Tls { certificate: Some(certificate), key: Some(key) }) = &config.tls else {
        return Ok(None);
    };
    let pair = Pair { certificate: document.beside(certificate), key: document.beside(key) };
    match Identity::new(&pair) {
        Ok(_) => Ok(Some(pair)),
        Err(unusable) => {
            let path = if unusable.path == pair.key { "tls.key" } else { "tls.certificate" };
            Err(document.fault(path, Kind::Refused(unusable.to_string())))
        }
    }
}

/// `options` over TLS, if the upstream is an https one.
pub(super) fn upstream(
    options: upstream::Options,
    config: &Config,
    document: &Document,
) -> Result<upstream::Options, Fault> {
    if !config.upstream.as_ref().is_some_and(|upstream| upstream.https) {
        return Ok(options);
    }
    let section = &config.upstream_tls;
    let client = section.client_certificate.as_ref().zip(section.client_key.as_ref());
    let tls = upstream::Tls {
        ca_file: section.ca_file.as_ref().map(|file| document.beside(file)),
        client: client.map(|(certificate, key)| Pair {
            certificate: document.beside(certificate),
            key: document.beside(key),
        }),
        server_name: section.server_name.clone(),
    };
    let options = upstream::Options { tls: Some(tls), ..options };
    match Secure::new(&options) {
        Ok(_) => Ok(options),
        Err(error) => {
            let path = place(&error, &options);
            Err(document.fault(path, Kind::Refused(error.to_string())))
        }
    }
}

/// The key that a refusal is about.
fn place(error: &Insecure, options: &upstream::Options) -> &'static str {
    let client = options.tls.as_ref().and_then(|tls| tls.client.as_ref());
    let is_key = |unusable: &Unusable| client.is_some_and(|client| client.key == unusable.path);
    match error {
        Insecure::Ca(_) => "upstream_tls.ca_file",
        Insecure::Client(unusable) if is_key(unusable) => "upstream_tls.client_key",
        Insecure::Client(_) => "upstream_tls.client_certificate",
        Insecure::Name(_) if options.tls.as_ref().is_some_and(|tls| tls.server_name.is_some()) => {
            "upstream_tls.server_name"
        }
        Insecure::Name(_) | Insecure::NoRoots(_) | Insecure::Refused(_) => "upstream",
    }
}
