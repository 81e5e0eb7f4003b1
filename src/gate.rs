//! Who comes in.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;
use ipnet::IpNet;

use crate::units::Rate;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
    pub trusted_proxies: Vec<IpNet>,
    pub http: Option<Rate>,
    pub messages: Option<Rate>,
    pub allowed_origins: Vec<String>,
}

#[derive(Debug)]
pub struct Gate(Options);

#[derive(Debug)]
pub struct BadOrigin;

impl std::fmt::Display for BadOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bad origin")
    }
}

impl std::error::Error for BadOrigin {}

#[derive(Debug)]
pub struct Refusal;

#[derive(Debug, Clone, Copy)]
pub struct Wait {
    pub retry: Duration,
}

impl Wait {
    pub fn seconds(self) -> u64 {
        self.retry.as_secs()
    }
}

impl Gate {
    pub fn new(options: &Options) -> Result<Self, BadOrigin> {
        Ok(Self(options.clone()))
    }

    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lines = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok());
        let chain: Vec<IpAddr> = lines
            .flat_map(|line| line.split(','))
            .filter_map(|hop| hop.trim().parse().ok())
            .collect();
        let mut client = peer;
        for hop in chain.into_iter().rev() {
            if !self.trusts(client) {
                break;
            }
            client = hop;
        }
        client
    }

    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.0.trusted_proxies.iter().any(|network| network.contains(&peer))
    }

    pub fn admit(&self, client: IpAddr) -> Result<(), Refusal> {
        let denied = self.0.deny.iter().any(|network| network.contains(&client));
        if denied { Err(Refusal) } else { Ok(()) }
    }

    pub fn spend_http(&self, _: IpAddr) -> Result<(), Wait> {
        Ok(())
    }

    pub fn origin_allowed(&self, _: &HeaderMap, _: &str) -> bool {
        true
    }

    pub fn sweep(&self) {}
}
