//! The sections as the options of the modules that they configure: the only place where a file's
//! words become a server's values.

use std::time::Duration;

use http::Method;
use jsonwebtoken::DecodingKey;

use super::Loaded;
use super::check::Family;
use super::document::Document;
use super::fault::{Fault, Kind};
use super::sections::{self, Config};
use super::words;
use crate::gate::auth::{self, Secret};
use crate::units::Interval;
use crate::{channel, gate, gateway, hub, route, server, session, upstream};

impl Loaded {
    /// Reads the files that the configuration names, and hands each module its part.
    pub fn into_options(self) -> Result<(server::Options, sections::Log), Fault> {
        let Self { config, document } = self;
        let (gateway, session) = (gateway(&config), session(&config.websocket));
        let (gate, hub) = (gate(&config), hub(&config));
        let Config { listen, upstream, workers, timeouts, limits, auth, log, .. } = config;
        let origin = upstream.ok_or_else(|| document.no_upstream())?.0;
        let server = server::Options {
            listen: listen.0,
            workers,
            connections: limits.connections,
            connections_per_address: limits.connections_per_address,
            drain: timeouts.drain.0,
            upstream: upstream::Options {
                origin,
                connect_timeout: timeouts.upstream_connect.0,
                response_timeout: timeouts.upstream_response.0,
                idle_timeout: timeouts.upstream_idle.0,
                connections: limits.upstream_connections,
                header_bytes: limits.header_bytes.0,
                // The upstream is trusted further than a client.
                headers: limits.headers.max(256),
            },
            gateway,
            gate,
            auth: self::auth(auth, &document)?,
            session,
            hub,
            routes: config.routes.into_iter().map(rule).collect(),
            channels: config.channels.into_iter().map(channel).collect(),
        };
        Ok((server, log))
    }
}

fn gateway(config: &Config) -> gateway::Options {
    gateway::Options {
        header_read: config.timeouts.header_read.0,
        request_idle: config.timeouts.request_idle.0,
        body_bytes: config.limits.body_bytes.0 as u64,
        header_bytes: config.limits.header_bytes.0,
        headers: config.limits.headers,
        via: Some(config.via.0.clone()).filter(|via| !via.is_empty()),
        websocket_path: config.websocket.path.0.clone(),
    }
}

fn gate(config: &Config) -> gate::Options {
    let nets = |list: &[words::Network]| list.iter().map(|network| network.0).collect();
    let gate = &config.gate;
    gate::Options {
        allow: nets(&gate.allow),
        deny: nets(&gate.deny),
        trusted_proxies: nets(&gate.trusted_proxies),
        http: gate.rate.http,
        messages: gate.rate.messages,
        allowed_origins: config.websocket.allowed_origins.iter().map(ToString::to_string).collect(),
    }
}

fn session(websocket: &sections::WebSocket) -> session::Options {
    // The one format that there is; the list is there for those to come.
    let [sections::Format::Json, ..] = websocket.formats[..] else {
        return session::Options::default();
    };
    session::Options {
        path: websocket.path.0.clone(),
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

fn hub(config: &Config) -> hub::Options {
    let views = &config.views;
    let configured = views.credential_headers.iter().chain([&config.auth.header]);
    hub::Options {
        min_interval: views.min_interval.0,
        refetch_concurrency: views.refetch_concurrency,
        stale_after: views.stale_after.0,
        recheck: duration(config.auth.recheck),
        credential_headers: configured.map(|header| header.0.clone()).collect(),
        body_bytes: views.body_bytes.0,
        fetch_timeout: config.timeouts.upstream_response.0,
    }
}

fn auth(auth: sections::Auth, document: &Document) -> Result<auth::Options, Fault> {
    Ok(auth::Options {
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

fn jwt(jwt: sections::Jwt, document: &Document) -> Result<auth::Jwt, Fault> {
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
    Ok(auth::Jwt {
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
    Ok(Secret::new(secret))
}

fn secret_of_environment(variable: &str, document: &Document) -> Result<Secret, Fault> {
    match std::env::var(variable) {
        Ok(secret) if !secret.is_empty() => Ok(Secret::new(secret.into_bytes())),
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

fn channel(rule: sections::Channel) -> channel::Rule {
    let who = |who| match who {
        sections::Who::Anyone => channel::Who::Anyone,
        sections::Who::Authenticated => channel::Who::Authenticated,
        sections::Who::Nobody => channel::Who::Nobody,
    };
    channel::Rule {
        pattern: rule.pattern,
        subscribe: who(rule.subscribe),
        publish: who(rule.publish),
    }
}

fn duration(interval: Option<Interval>) -> Option<Duration> {
    interval.map(|interval| interval.0)
}
