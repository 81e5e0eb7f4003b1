//! The sections as the options of the modules that they configure: the only place where a file's
//! words become a server's values.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, Method, header};
use ipnet::IpNet;
use jsonwebtoken::DecodingKey;

use super::Loaded;
use super::check::Family;
use super::document::Document;
use super::fault::{Fault, Kind};
use super::sections::{self, Config};
use super::words;
use crate::route;
use crate::units::{Interval, Rate};

/// Everything that a server is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub listen: SocketAddr,
    pub workers: usize,
    pub connections: usize,
    pub connections_per_address: Option<usize>,
    pub drain: Duration,
    pub upstream: Upstream,
    pub gateway: Gateway,
    pub gate: Gate,
    pub auth: Auth,
    pub session: Session,
    pub hub: Hub,
    pub routes: Vec<route::Rule>,
    pub channels: Vec<Channel>,
    pub log: sections::Log,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    pub origin: Authority,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    pub idle_timeout: Duration,
    pub connections: usize,
    pub header_bytes: usize,
    pub headers: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    pub header_read: Duration,
    pub request_idle: Duration,
    pub body_bytes: Option<usize>,
    pub header_bytes: usize,
    pub headers: usize,
    pub via: Option<String>,
    pub websocket_path: String,
    pub access_log: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
    pub trusted_proxies: Vec<IpNet>,
    pub http: Option<Rate>,
    pub messages: Option<Rate>,
    pub allowed_origins: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    pub header: HeaderName,
    pub scheme: String,
    pub verify: Option<String>,
    pub expires_pointer: Option<String>,
    pub lifetime: Duration,
    pub required: bool,
    pub recheck: Option<Duration>,
    pub logout: Vec<(Method, String)>,
    pub jwt: Option<Jwt>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Jwt {
    pub algorithms: Vec<String>,
    pub secret: Option<Secret>,
    /// PEM.
    pub public_key: Option<Vec<u8>>,
    pub jwks_url: Option<String>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub leeway: Duration,
}

/// Never printed.
#[derive(Clone, PartialEq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    pub path: String,
    pub formats: Vec<String>,
    pub message_bytes: usize,
    pub bindings: usize,
    pub channels: usize,
    pub requests_in_flight: usize,
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    pub max_lifetime: Option<Duration>,
    pub outbox_bytes: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Hub {
    pub min_interval: Duration,
    pub refetch_concurrency: usize,
    pub stale_after: Duration,
    /// Every header that carries a credential, `Authorization` and `Cookie` among them.
    pub credential_headers: Vec<HeaderName>,
    pub body_bytes: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    pub pattern: String,
    pub subscribe: sections::Who,
    pub publish: sections::Who,
}

impl Loaded {
    /// Reads the files that the configuration names, and hands each module its part.
    pub fn into_options(self) -> Result<Options, Fault> {
        let Self { config, document } = self;
        let (gateway, session) = (gateway(&config), session(&config.websocket));
        let (gate, hub) = (gate(&config), hub(&config));
        let Config { listen, upstream, workers, timeouts, limits, auth, log, .. } = config;
        let origin = upstream.ok_or_else(|| document.no_upstream())?.0;
        Ok(Options {
            listen: listen.0,
            workers,
            connections: limits.connections,
            connections_per_address: nonzero(limits.connections_per_address),
            drain: timeouts.drain.0,
            upstream: Upstream {
                origin,
                connect_timeout: timeouts.upstream_connect.0,
                response_timeout: timeouts.upstream_response.0,
                idle_timeout: timeouts.upstream_idle.0,
                connections: limits.upstream_connections,
                header_bytes: limits.header_bytes.0,
                headers: limits.headers,
            },
            gateway,
            gate,
            auth: self::auth(auth, &document)?,
            session,
            hub,
            routes: config.routes.into_iter().map(rule).collect(),
            channels: config.channels.into_iter().map(channel).collect(),
            log,
        })
    }
}

fn gateway(config: &Config) -> Gateway {
    Gateway {
        header_read: config.timeouts.header_read.0,
        request_idle: config.timeouts.request_idle.0,
        body_bytes: nonzero(config.limits.body_bytes.0),
        header_bytes: config.limits.header_bytes.0,
        headers: config.limits.headers,
        via: Some(config.via.0.clone()).filter(|via| !via.is_empty()),
        websocket_path: config.websocket.path.0.clone(),
        access_log: config.log.access,
    }
}

fn gate(config: &Config) -> Gate {
    let nets = |list: &[words::Network]| list.iter().map(|network| network.0).collect();
    let gate = &config.gate;
    Gate {
        allow: nets(&gate.allow),
        deny: nets(&gate.deny),
        trusted_proxies: nets(&gate.trusted_proxies),
        http: gate.rate.http,
        messages: gate.rate.messages,
        allowed_origins: config.websocket.allowed_origins.iter().map(ToString::to_string).collect(),
    }
}

fn session(websocket: &sections::WebSocket) -> Session {
    let format = |format: &sections::Format| match format {
        sections::Format::Json => "json".to_owned(),
    };
    Session {
        path: websocket.path.0.clone(),
        formats: websocket.formats.iter().map(format).collect(),
        message_bytes: websocket.message_bytes.0,
        bindings: websocket.bindings,
        channels: websocket.channels,
        requests_in_flight: websocket.requests_in_flight,
        ping_interval: websocket.ping_interval.0,
        pong_timeout: websocket.pong_timeout.0,
        max_lifetime: duration(websocket.max_lifetime),
        outbox_bytes: websocket.outbox_bytes.0,
    }
}

fn hub(config: &Config) -> Hub {
    let views = &config.views;
    let mut credential_headers = vec![header::AUTHORIZATION, header::COOKIE];
    let configured = views.credential_headers.iter().chain([&config.auth.header]);
    for header in configured {
        if !credential_headers.contains(&header.0) {
            credential_headers.push(header.0.clone());
        }
    }
    Hub {
        min_interval: views.min_interval.0,
        refetch_concurrency: views.refetch_concurrency,
        stale_after: views.stale_after.0,
        credential_headers,
        body_bytes: views.body_bytes.0,
    }
}

fn auth(auth: sections::Auth, document: &Document) -> Result<Auth, Fault> {
    Ok(Auth {
        header: auth.header.0,
        scheme: auth.scheme.0,
        verify: auth.verify.map(|target| target.to_string()),
        expires_pointer: auth.expires_pointer,
        lifetime: auth.lifetime.0,
        required: auth.required,
        recheck: duration(auth.recheck),
        logout: auth.logout.into_iter().map(|logout| (logout.method, logout.path)).collect(),
        jwt: auth.jwt.map(|section| jwt(section, document)).transpose()?,
    })
}

fn jwt(jwt: sections::Jwt, document: &Document) -> Result<Jwt, Fault> {
    let secret = match (&jwt.secret_file, &jwt.secret_env) {
        (Some(file), _) => Some(secret_of_file(file, document)?),
        (None, Some(variable)) => Some(secret_of_environment(variable, document)?),
        (None, None) => None,
    };
    let family = jwt.algorithms.first().map(|algorithm| algorithm.family());
    let public_key = match (&jwt.public_key_file, family) {
        (Some(file), Some(family)) => Some(public_key(file, family, document)?),
        _ => None,
    };
    Ok(Jwt {
        algorithms: jwt.algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect(),
        secret,
        public_key,
        jwks_url: jwt.jwks_url.map(|url| url.0),
        issuer: jwt.issuer,
        audience: jwt.audience,
        leeway: jwt.leeway.0,
    })
}

fn secret_of_file(file: &str, document: &Document) -> Result<Secret, Fault> {
    const KEY: &str = "auth.jwt.secret_file";
    let mut secret = read(file, KEY, document)?;
    // An editor ends the last line; nobody means the line end to be part of a secret.
    while matches!(secret.last(), Some(b'\n' | b'\r')) {
        secret.pop();
    }
    if secret.is_empty() {
        return Err(document.fault(KEY, Kind::Refused(format!("{file:?} is empty"))));
    }
    Ok(Secret(secret))
}

fn secret_of_environment(variable: &str, document: &Document) -> Result<Secret, Fault> {
    match std::env::var(variable) {
        Ok(secret) if !secret.is_empty() => Ok(Secret(secret.into_bytes())),
        _ => {
            let reason = format!("the environment has no {variable}, or an empty one");
            Err(document.fault("auth.jwt.secret_env", Kind::Refused(reason)))
        }
    }
}

fn public_key(file: &str, family: Family, document: &Document) -> Result<Vec<u8>, Fault> {
    const KEY: &str = "auth.jwt.public_key_file";
    let pem = read(file, KEY, document)?;
    let (kind, key) = match family {
        Family::Rsa => ("an RSA", DecodingKey::from_rsa_pem(&pem)),
        Family::Ec => ("an elliptic curve", DecodingKey::from_ec_pem(&pem)),
        Family::Ed => ("an Ed25519", DecodingKey::from_ed_pem(&pem)),
        Family::Secret => return Ok(pem),
    };
    if key.is_err() {
        let reason =
            format!("{file:?} is not {kind} public key in PEM form, which the algorithms need");
        return Err(document.fault(KEY, Kind::Refused(reason)));
    }
    Ok(pem)
}

fn read(file: &str, key: &str, document: &Document) -> Result<Vec<u8>, Fault> {
    let path = document.beside(file);
    std::fs::read(&path).map_err(|error| {
        let reason = format!("{:?} cannot be read: {error}", path.display().to_string());
        document.fault(key, Kind::Refused(reason))
    })
}

pub(super) fn rule(route: sections::Route) -> route::Rule {
    route::Rule {
        path: route.path,
        realtime: route.realtime,
        autobind: route.autobind,
        visibility: match route.visibility {
            sections::Visibility::Viewer => route::Visibility::Viewer,
            sections::Visibility::Public => route::Visibility::Public,
        },
        push: match route.push {
            sections::Push::State => route::Push::State,
            sections::Push::Notify => route::Push::Notify,
            sections::Push::Response => route::Push::Response,
        },
        affects: route.affects,
        affects_only: route.affects_only,
        update_method: match route.update_method {
            sections::UpdateMethod::Put => Method::PUT,
            sections::UpdateMethod::Patch => Method::PATCH,
        },
        min_interval: duration(route.min_interval),
        settle: route.settle.into_iter().map(|delay| delay.0).collect(),
        rate: route.rate,
    }
}

fn channel(channel: sections::Channel) -> Channel {
    Channel { pattern: channel.pattern, subscribe: channel.subscribe, publish: channel.publish }
}

fn duration(interval: Option<Interval>) -> Option<Duration> {
    interval.map(|interval| interval.0)
}

/// In the file 0 is "no limit"; in the program nothing is.
fn nonzero(count: usize) -> Option<usize> {
    Some(count).filter(|count| *count != 0)
}
