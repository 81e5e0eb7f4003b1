//! Who a request comes from, as the upstream is told.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use super::Found;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");

/// Who a request comes from, and how the upstream is told.
#[derive(Debug, Clone)]
pub struct ClientAddress {
    /// The client behind all trusted proxies.
    pub ip: IpAddr,
    /// The whole `X-Forwarded-For` to send.
    forwarded_for: HeaderValue,
    /// The connection's other end is a proxy whose words about its client are believed.
    trusted: bool,
    /// And it says them in `Forwarded`, which is passed on.
    in_forwarded: bool,
    /// It is connected over TLS.
    over_tls: bool,
}

impl ClientAddress {
    /// A client that is connected directly.
    pub fn direct(peer: SocketAddr) -> Self {
        let ip = peer.ip().to_canonical();
        Self { ip, forwarded_for: text(ip), trusted: false, in_forwarded: false, over_tls: false }
    }

    /// The same, connected over TLS.
    pub fn over_tls(self) -> Self {
        Self { over_tls: true, ..self }
    }

    /// A client `ip` behind the trusted proxy that `self` is, as its request says.
    pub fn behind(&self, ip: IpAddr, headers: &HeaderMap) -> Self {
        let mut chain = Vec::new();
        for line in headers.get_all(X_FORWARDED_FOR) {
            chain.extend_from_slice(line.as_bytes());
            chain.extend_from_slice(b", ");
        }
        chain.extend_from_slice(self.forwarded_for.as_bytes());
        let forwarded_for = HeaderValue::from_maybe_shared(Bytes::from(chain))
            .unwrap_or_else(|_| self.forwarded_for.clone());
        Self { ip, forwarded_for, trusted: true, in_forwarded: false, over_tls: self.over_tls }
    }

    /// The same, where the proxy has said so in `Forwarded`: whatever `X-Forwarded-For` there is, the
    /// client may have written.
    pub fn behind_forwarded(&self, ip: IpAddr) -> Self {
        let proxy = self.forwarded_for.to_str().unwrap_or("unknown");
        let chain = HeaderValue::try_from(format!("{ip}, {proxy}"));
        let forwarded_for = chain.unwrap_or_else(|_| self.forwarded_for.clone());
        Self { ip, forwarded_for, trusted: true, in_forwarded: true, over_tls: self.over_tls }
    }
}

fn text(ip: IpAddr) -> HeaderValue {
    HeaderValue::try_from(ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

/// Tells the upstream who asks. What an untrusted client says about itself is overwritten.
pub(super) fn forwarded(
    headers: &mut HeaderMap,
    found: &Found,
    client: &ClientAddress,
    host: Option<HeaderValue>,
) {
    // Room for all that is added here and for Via, so that the map grows once.
    headers.reserve(4);
    headers.insert(X_FORWARDED_FOR, client.forwarded_for.clone());
    let scheme = if client.over_tls { HTTPS } else { HTTP };
    if client.trusted {
        if found.forwarded && !client.in_forwarded {
            // The proxy speaks X-Forwarded-For: this is its client's.
            headers.remove(FORWARDED);
        }
        headers.entry(X_FORWARDED_PROTO).or_insert(scheme);
        if let Some(host) = host {
            headers.entry(X_FORWARDED_HOST).or_insert(host);
        }
        return;
    }
    headers.insert(X_FORWARDED_PROTO, scheme);
    match host {
        Some(host) => headers.insert(X_FORWARDED_HOST, host),
        None => headers.remove(X_FORWARDED_HOST),
    };
    if found.forwarded {
        headers.remove(FORWARDED);
    }
    if found.real_ip {
        headers.remove(X_REAL_IP);
    }
}
