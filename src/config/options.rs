//! The sections as the options of the modules that they configure: the only place where a file's
//! words become a server's values.

use std::time::Duration;

use http::header;

use super::document::Document;
use super::fault::{Fault, Kind};
use super::sections::{self, Config};
use super::{Loaded, channel as rules, gate, namespace, tls};
use crate::gate::auth::{self, Authenticator, Jwt, Secret};
use crate::protocol::Format;
use crate::units::Interval;
use crate::{admin, channel, gateway, hub, route, server, session, upstream};

impl Loaded {
    /// Reads the files that the configuration names, and hands each module its part.
    pub fn into_options(self) -> Result<(server::Options, sections::Log), Fault> {
        let Self { config, document } = self;
        let auth = auth(&config.auth, &document)?;
        let upstream = upstream(&config, &document)?;
        let admin = config.admin.as_ref().map(|section| admin(section, &document)).transpose()?;
        let server = server::Options {
            listen: config.listen.0,
            workers: config.workers,
            connections: config.limits.connections,
            connections_per_address: config.limits.connections_per_address,
            history_bytes: config.limits.history_bytes.0,
            drain: config.timeouts.drain.0,
            tls: tls::pair(&config, &document)?,
            gateway: gateway(&config),
            namespaces: namespace::options(&config, &upstream),
            upstream,
            gate: gate::options(&config, &document)?,
            auth,
            session: session(&config.websocket),
            subscription: config.subscriptions.options(),
            hub: hub(&config),
            routes: config.routes.into_iter().map(rule).collect(),
            channels: config.channels.into_iter().map(channel).collect(),
            admin,
            traces: config.traces.options(),
        };
        Ok((server, config.log))
    }
}

fn gateway(config: &Config) -> gateway::Options {
    gateway::Options {
        header_read: config.timeouts.header_read.0,
        request_idle: config.timeouts.request_idle.0,
        body_bytes: u64::try_from(config.limits.body_bytes.0).unwrap_or(u64::MAX),
        header_bytes: config.limits.header_bytes.0,
        headers: config.limits.headers,
        via: Some(config.via.0.clone()).filter(|via| !via.is_empty()),
        websocket_path: config.websocket.path.0.clone(),
        ..gateway::Options::default()
    }
}

fn upstream(config: &Config, document: &Document) -> Result<upstream::Options, Fault> {
    let origin = config.upstream.as_ref().ok_or_else(|| document.no_upstream())?;
    let options = upstream::Options {
        origin: origin.origin.clone(),
        tls: None,
        connect_timeout: config.timeouts.upstream_connect.0,
        response_timeout: config.timeouts.upstream_response.0,
        idle_timeout: config.timeouts.upstream_idle.0,
        connections: config.limits.upstream_connections,
        slow_client: config.timeouts.slow_client.0,
        header_bytes: config.limits.header_bytes.0,
        // The upstream is trusted further than a client.
        headers: config.limits.headers.max(256),
    };
    tls::upstream(options, config, document)
}

fn session(websocket: &sections::WebSocket) -> session::Options {
    session::Options {
        path: websocket.path.0.clone(),
        formats: websocket.formats.iter().copied().map(format).collect(),
        compression: websocket.compression,
        compress_from: websocket.compress_from.0,
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

fn format(format: sections::Format) -> Format {
    match format {
        sections::Format::Json => Format::Json,
        sections::Format::JsonCompact => Format::JsonCompact,
        sections::Format::MsgPack => Format::MsgPack,
        sections::Format::MsgPackCompact => Format::MsgPackCompact,
    }
}

fn hub(config: &Config) -> hub::Options {
    let views = &config.views;
    // The hub knows of these two by itself; the header that `auth` puts tokens in it does not.
    let known = [header::AUTHORIZATION, header::COOKIE];
    let mut credential_headers = Vec::new();
    for header in views.credential_headers.iter().chain([&config.auth.header]) {
        if !known.contains(&header.0) && !credential_headers.contains(&header.0) {
            credential_headers.push(header.0.clone());
        }
    }
    hub::Options {
        min_interval: views.min_interval.0,
        refetch_concurrency: views.refetch_concurrency,
        stale_after: views.stale_after.0,
        recheck: duration(config.auth.recheck),
        history: views.history,
        credential_headers,
        body_bytes: views.body_bytes.0,
        fetch_timeout: config.timeouts.upstream_response.0,
    }
}

fn auth(auth: &sections::Auth, document: &Document) -> Result<auth::Options, Fault> {
    let options = auth::Options {
        header: auth.header.0.clone(),
        scheme: auth.scheme.0.clone(),
        verify: auth.verify.as_ref().map(ToString::to_string),
        expires_pointer: auth.expires_pointer.clone(),
        lifetime: auth.lifetime.0,
        required: auth.required,
        logout: auth.logout.iter().map(|it| (it.method.clone(), it.path.clone())).collect(),
        jwt: auth.jwt.as_ref().map(|section| jwt(section, document)).transpose()?,
    };
    // What the authenticator would refuse at the start it refuses here, where the line is known.
    match Authenticator::new(&options) {
        Ok(_) => Ok(options),
        Err(error) => {
            let path = format!("auth.{}", place(&error, auth.jwt.as_ref()));
            Err(document.fault(&path, Kind::Refused(error.to_string())))
        }
    }
}

/// The key that an authenticator's refusal is about.
fn place(error: &auth::Error, jwt: Option<&sections::Jwt>) -> &'static str {
    match error {
        auth::Error::Header(_) => "header",
        auth::Error::Scheme(_) => "scheme",
        auth::Error::VerifyPath(_) | auth::Error::VerifyAndJwt => "verify",
        auth::Error::ExpiresPointer(_) | auth::Error::PointerWithoutVerify => "expires_pointer",
        auth::Error::Lifetime => "lifetime",
        auth::Error::Logout(_) => "logout",
        auth::Error::KeyCount(_) => "jwt",
        auth::Error::UnknownAlgorithm(_) | auth::Error::AlgorithmMismatch { .. } => {
            "jwt.algorithms"
        }
        auth::Error::ShortSecret(_) => match jwt {
            Some(jwt) if jwt.secret_env.is_some() => "jwt.secret_env",
            _ => "jwt.secret_file",
        },
        auth::Error::PrivateKey
        | auth::Error::Certificate
        | auth::Error::PublicKey
        | auth::Error::WeakRsaKey => "jwt.public_key_file",
        auth::Error::JwksUrl(_) | auth::Error::HttpClient(_) => "jwt.jwks_url",
    }
}

fn jwt(jwt: &sections::Jwt, document: &Document) -> Result<Jwt, Fault> {
    let secret = match (&jwt.secret_file, &jwt.secret_env) {
        (Some(file), _) => Some(secret_of_file(file, "auth.jwt.secret_file", document)?),
        (None, Some(variable)) => Some(secret_of_environment(variable, document)?),
        (None, None) => None,
    };
    let public_key = jwt.public_key_file.as_ref();
    Ok(Jwt {
        algorithms: jwt.algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect(),
        secret,
        public_key: public_key
            .map(|file| read(file, "auth.jwt.public_key_file", document))
            .transpose()?,
        jwks_url: jwt.jwks_url.as_ref().map(ToString::to_string),
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
        leeway: jwt.leeway.0,
    })
}

/// A shorter token could be found by trying.
const SHORTEST_TOKEN: usize = 16;

pub(super) fn admin(
    section: &sections::Admin,
    document: &Document,
) -> Result<admin::Options, Fault> {
    const KEY: &str = "admin.token_file";
    let token = section.token_file.as_ref();
    let token = token.map(|file| secret_of_file(file, KEY, document)).transpose()?;
    if let Some(token) = &token {
        let refuse = |reason: String| Err(document.fault(KEY, Kind::Refused(reason)));
        if token.expose().len() < SHORTEST_TOKEN {
            return refuse(format!("a token has {SHORTEST_TOKEN} bytes or more"));
        }
        if !token.expose().iter().all(u8::is_ascii_graphic) {
            return refuse("a token is one word of visible ASCII characters".into());
        }
    }
    Ok(admin::Options {
        listen: section.listen.0,
        token,
        hosts: section.hosts.iter().map(|host| host.0.clone()).collect(),
        ..admin::Options::default()
    })
}

fn secret_of_file(file: &str, key: &str, document: &Document) -> Result<Secret, Fault> {
    let mut secret = read(file, key, document)?;
    // An editor ends the last line; nobody means the line end to be part of a secret.
    while matches!(secret.last(), Some(b'\n' | b'\r')) {
        secret.pop();
    }
    Ok(Secret::new(secret))
}

fn secret_of_environment(variable: &str, document: &Document) -> Result<Secret, Fault> {
    std::env::var(variable).map(Secret::new).map_err(|_| {
        let reason = format!("the environment has no {variable}");
        document.fault("auth.jwt.secret_env", Kind::Refused(reason))
    })
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
            sections::UpdateMethod::Put => http::Method::PUT,
            sections::UpdateMethod::Patch => http::Method::PATCH,
        },
        min_interval: duration(route.min_interval),
        poll: duration(route.poll),
        settle: route.settle.into_iter().map(|delay| delay.0).collect(),
        ttl: duration(route.ttl),
        rate: route.rate,
        items: route::Items {
            at: route.items,
            id: route.item_id,
            uri: route.item_uri,
            data: route.item_data,
        },
    }
}

pub(super) fn channel(channel: rules::Channel) -> channel::Rule {
    let who = |who| match who {
        rules::Who::Anyone => channel::Who::Anyone,
        rules::Who::Authenticated => channel::Who::Authenticated,
        rules::Who::Nobody => channel::Who::Nobody,
        rules::Who::Ask => channel::Who::Ask,
    };
    channel::Rule {
        pattern: channel.pattern,
        subscribe: who(channel.subscribe),
        publish: who(channel.publish),
        ask: channel.ask.map(|path| path.0),
        ask_for: channel.ask_for.0,
        presence: channel.presence,
        presence_subject: channel.presence_subject,
        history: channel.history.map(|history| channel::History {
            count: history.count,
            ttl: history.ttl.0,
            bytes: history.bytes.0,
        }),
        echo: channel.echo,
        overflow: match channel.overflow {
            rules::Overflow::Lost => channel::Overflow::Lost,
            rules::Overflow::Close => channel::Overflow::Close,
        },
    }
}

fn duration(interval: Option<Interval>) -> Option<Duration> {
    interval.map(|interval| interval.0)
}
