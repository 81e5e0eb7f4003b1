//! The sections of `pogo.toml` and their defaults: the only list of keys there is.
//! What each option means is said in the shipped `pogo.toml`.

use serde::{Deserialize, Serialize};

use super::channel::Channel;
use super::gate::Gate;
use super::namespace::Namespace;
use super::subscriptions::Subscriptions;
use super::tls::{Tls, UpstreamTls};
use super::traces::Traces;
use super::words::{
    Header, Host, KeySetUrl, Listen, Logout, Origin, Path, Target, Token, UpstreamUrl,
};
use crate::units::{Interval, Rate, Size};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub listen: Listen,
    /// The one option without which nothing can be done.
    pub upstream: Option<UpstreamUrl>,
    pub workers: usize,
    pub via: Token,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub websocket: WebSocket,
    pub subscriptions: Subscriptions,
    pub auth: Auth,
    pub views: Views,
    pub gate: Gate,
    pub tls: Option<Tls>,
    pub upstream_tls: UpstreamTls,
    /// The listener for operators, which there is if this section is there.
    pub admin: Option<Admin>,
    pub log: Log,
    pub traces: Traces,
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    #[serde(rename = "channel")]
    pub channels: Vec<Channel>,
    #[serde(rename = "namespace", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Namespace>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen(([127, 0, 0, 1], 8080).into()),
            upstream: None,
            workers: 0,
            via: Token("pogo".into()),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            websocket: WebSocket::default(),
            subscriptions: Subscriptions::default(),
            auth: Auth::default(),
            views: Views::default(),
            gate: Gate::default(),
            tls: None,
            upstream_tls: UpstreamTls::default(),
            admin: None,
            log: Log::default(),
            traces: Traces::default(),
            routes: Vec::new(),
            channels: vec![Channel::open()],
            namespaces: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    pub header_read: Interval,
    pub request_idle: Interval,
    pub slow_client: Interval,
    pub upstream_connect: Interval,
    pub upstream_response: Interval,
    pub upstream_idle: Interval,
    pub drain: Interval,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header_read: Interval::seconds(30),
            request_idle: Interval::seconds(30),
            slow_client: Interval::seconds(3),
            upstream_connect: Interval::seconds(5),
            upstream_response: Interval::seconds(60),
            upstream_idle: Interval::seconds(4),
            drain: Interval::seconds(30),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub connections: usize,
    /// 0 is none.
    pub connections_per_address: usize,
    pub history_bytes: Size,
    pub header_bytes: Size,
    pub headers: usize,
    /// 0 is none.
    pub body_bytes: Size,
    pub upstream_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_address: 0,
            history_bytes: Size(64 << 20),
            header_bytes: Size::kib(64),
            headers: 100,
            body_bytes: Size(0),
            upstream_connections: 256,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    pub path: Path,
    pub formats: Vec<Format>,
    pub allowed_origins: Vec<Origin>,
    pub compression: bool,
    pub compress_from: Size,
    pub message_bytes: Size,
    pub bindings: usize,
    pub channels: usize,
    pub requests_in_flight: usize,
    pub ping_interval: Interval,
    pub pong_timeout: Interval,
    pub max_lifetime: Option<Interval>,
    pub outbox_bytes: Size,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            path: Path("/".into()),
            formats: vec![
                Format::Json,
                Format::JsonCompact,
                Format::MsgPack,
                Format::MsgPackCompact,
            ],
            allowed_origins: Vec::new(),
            compression: false,
            compress_from: Size::kib(1),
            message_bytes: Size::kib(64),
            bindings: 1000,
            channels: 100,
            requests_in_flight: 16,
            ping_interval: Interval::seconds(30),
            pong_timeout: Interval::seconds(60),
            max_lifetime: None,
            outbox_bytes: Size::kib(256),
        }
    }
}

/// How messages are encoded on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Json,
    #[serde(rename = "json.compact")]
    JsonCompact,
    MsgPack,
    #[serde(rename = "msgpack.compact")]
    MsgPackCompact,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    pub header: Header,
    pub scheme: Token,
    pub verify: Option<Target>,
    pub expires_pointer: Option<String>,
    pub lifetime: Interval,
    pub required: bool,
    pub recheck: Option<Interval>,
    pub logout: Vec<Logout>,
    pub jwt: Option<Jwt>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            header: Header(http::header::AUTHORIZATION),
            scheme: Token("Bearer".into()),
            verify: None,
            expires_pointer: None,
            lifetime: Interval::seconds(60 * 60),
            required: false,
            recheck: None,
            logout: Vec::new(),
            jwt: None,
        }
    }
}

/// Exactly one of the four keys is given; no algorithms are all that fit it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    pub algorithms: Vec<Algorithm>,
    pub secret_file: Option<String>,
    pub secret_env: Option<String>,
    pub public_key_file: Option<String>,
    pub jwks_url: Option<KeySetUrl>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub leeway: Interval,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            algorithms: Vec::new(),
            secret_file: None,
            secret_env: None,
            public_key_file: None,
            jwks_url: None,
            issuer: None,
            audience: None,
            leeway: Interval::seconds(30),
        }
    }
}

/// How a token is signed (RFC 7518 §3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Views {
    pub min_interval: Interval,
    pub refetch_concurrency: usize,
    pub stale_after: Interval,
    pub history: usize,
    pub credential_headers: Vec<Header>,
    pub body_bytes: Size,
}

impl Default for Views {
    fn default() -> Self {
        Self {
            min_interval: Interval::millis(100),
            refetch_concurrency: 32,
            stale_after: Interval::seconds(30),
            history: 4,
            credential_headers: Vec::new(),
            body_bytes: Size::mib(4),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    pub listen: Listen,
    pub token_file: Option<String>,
    pub hosts: Vec<Host>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: Listen(([127, 0, 0, 1], 9180).into()),
            token_file: None,
            hosts: vec![Host("localhost".into())],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
    pub access: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// `path` must be written; the rest has defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub path: String,
    #[serde(default = "yes")]
    pub realtime: bool,
    #[serde(default = "yes")]
    pub autobind: bool,
    #[serde(default)]
    pub visibility: Visibility,
    #[serde(default)]
    pub push: Push,
    #[serde(default)]
    pub affects: Vec<String>,
    #[serde(default)]
    pub affects_only: Option<Vec<String>>,
    #[serde(default)]
    pub update_method: UpdateMethod,
    #[serde(default)]
    pub min_interval: Option<Interval>,
    #[serde(default)]
    pub poll: Option<Interval>,
    #[serde(default)]
    pub settle: Vec<Interval>,
    #[serde(default)]
    pub ttl: Option<Interval>,
    pub rate: Option<Rate>,
    #[serde(default = "crate::route::Items::places")]
    pub items: Vec<String>,
    #[serde(default = "crate::route::Items::key")]
    pub item_id: String,
    pub item_uri: Option<String>,
    #[serde(default)]
    pub item_data: crate::route::ItemData,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    #[default]
    Viewer,
    Public,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Push {
    #[default]
    State,
    Notify,
    Response,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum UpdateMethod {
    #[default]
    Put,
    Patch,
}
