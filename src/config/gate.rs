//! `[gate]` and the sections in it, and the gate's options that they become.

use serde::{Deserialize, Serialize};

use super::document::Document;
use super::fault::{Fault, Kind};
use super::sections::Config;
use super::words::Network;
use crate::deny_file;
use crate::gate::{ban, forwarded};
use crate::units::{Interval, Rate};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    pub allow: Vec<Network>,
    pub deny: Vec<Network>,
    pub deny_file: Option<String>,
    pub trusted_proxies: Vec<Network>,
    pub client_header: ClientHeader,
    pub proxy_protocol: bool,
    pub rate: Rates,
    pub ban: Ban,
}

/// In which field trusted proxies name their client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientHeader {
    #[default]
    XForwardedFor,
    Forwarded,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    pub http: Option<Rate>,
    pub writes: Option<Rate>,
    pub connects: Option<Rate>,
    pub messages: Option<Rate>,
    pub binds: Option<Rate>,
    pub auth_failures: Option<Rate>,
    pub credential: CredentialRates,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CredentialRates {
    pub http: Option<Rate>,
    pub writes: Option<Rate>,
    pub connects: Option<Rate>,
    pub messages: Option<Rate>,
    pub binds: Option<Rate>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ban {
    pub after: Option<Rate>,
    #[serde(rename = "for")]
    pub lasts: Interval,
    pub exempt: Vec<Network>,
}

impl Default for Ban {
    fn default() -> Self {
        Self { after: None, lasts: Interval::seconds(10 * 60), exempt: Vec::new() }
    }
}

pub(super) fn options(config: &Config, document: &Document) -> Result<crate::gate::Options, Fault> {
    let nets = |list: &[Network]| list.iter().map(|network| network.0).collect();
    let gate = &config.gate;
    let deny_file = gate.deny_file.as_ref().map(|file| document.beside(file));
    if let Some(path) = &deny_file {
        // The server reads it when it starts; here the line of the option is known.
        deny_file::read(path).map_err(|error| {
            let reason = format!("{:?} {error}", path.display().to_string());
            document.fault("gate.deny_file", Kind::Refused(reason))
        })?;
    }
    Ok(crate::gate::Options {
        allow: nets(&gate.allow),
        deny: nets(&gate.deny),
        deny_file,
        trusted_proxies: nets(&gate.trusted_proxies),
        client_header: match gate.client_header {
            ClientHeader::XForwardedFor => forwarded::Field::XForwardedFor,
            ClientHeader::Forwarded => forwarded::Field::Forwarded,
        },
        proxy_protocol: gate.proxy_protocol,
        rates: rates(&gate.rate),
        credential_rates: credential_rates(&gate.rate.credential),
        auth_failures: gate.rate.auth_failures,
        ban: ban::Options {
            after: gate.ban.after,
            lasts: gate.ban.lasts.0,
            exempt: nets(&gate.ban.exempt),
        },
        credential_header: config.auth.header.0.clone(),
        allowed_origins: config.websocket.allowed_origins.iter().map(ToString::to_string).collect(),
    })
}

fn rates(rates: &Rates) -> crate::gate::Rates {
    let &Rates { http, writes, connects, messages, binds, .. } = rates;
    crate::gate::Rates { http, writes, connects, messages, binds }
}

fn credential_rates(rates: &CredentialRates) -> crate::gate::Rates {
    let &CredentialRates { http, writes, connects, messages, binds } = rates;
    crate::gate::Rates { http, writes, connects, messages, binds }
}
