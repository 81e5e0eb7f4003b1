//! What no single value can say: contradictions between options, and values that would start a
//! server which cannot work. Each refusal names the key and says why.

mod items;
mod pattern;

use crate::units::{Interval, Size};

use self::pattern::parameters;
use super::document::Document;
use super::fault::{Fault, Kind};
use super::gate::{ClientHeader, Gate};
use super::sections::{Auth, Config, Jwt, Push, Route, Visibility};
use super::subscriptions::Subscriptions;
use super::tls;
use super::words::{Origin, UpstreamUrl};

/// The first contradiction in `config`, told by the place it has in `document`.
pub(super) fn check(config: &Config, document: &Document) -> Result<(), Fault> {
    let check = Check { document };
    check.upstream(config)?;
    check.timeouts(config)?;
    check.limits(config)?;
    check.websocket(config)?;
    check.subscriptions(&config.subscriptions)?;
    check.auth(&config.auth)?;
    check.views(config)?;
    check.gate(&config.gate)?;
    check.admin(config)?;
    check.traces(config)?;
    tls::check(config, document)?;
    check.routes("route", &config.routes, config)?;
    check.channel_rules("channel", &config.channels, &config.auth)?;
    check.namespaces(config)
}

pub(super) struct Check<'a> {
    pub(super) document: &'a Document,
}

impl Check<'_> {
    pub(super) fn refuse(&self, path: &str, reason: impl Into<String>) -> Result<(), Fault> {
        Err(self.document.fault(path, Kind::Refused(reason.into())))
    }

    fn upstream(&self, config: &Config) -> Result<(), Fault> {
        let Some(upstream) = &config.upstream else { return Err(self.document.no_upstream()) };
        self.not_itself("upstream", upstream, config)
    }

    pub(super) fn not_itself(
        &self,
        key: &str,
        upstream: &UpstreamUrl,
        config: &Config,
    ) -> Result<(), Fault> {
        let address = upstream.origin.host().trim_matches(['[', ']']).parse();
        let port = upstream.origin.port_u16().unwrap_or(if upstream.https { 443 } else { 80 });
        if address == Ok(config.listen.0.ip()) && port == config.listen.0.port() {
            return self.refuse(key, "the upstream is Pogo itself: it equals listen");
        }
        Ok(())
    }

    fn timeouts(&self, config: &Config) -> Result<(), Fault> {
        let timeouts = &config.timeouts;
        for (key, value) in [
            ("header_read", timeouts.header_read),
            ("request_idle", timeouts.request_idle),
            ("slow_client", timeouts.slow_client),
            ("upstream_connect", timeouts.upstream_connect),
            ("upstream_response", timeouts.upstream_response),
            ("upstream_idle", timeouts.upstream_idle),
        ] {
            self.lasting(&format!("timeouts.{key}"), value)?;
        }
        Ok(())
    }

    fn limits(&self, config: &Config) -> Result<(), Fault> {
        let limits = &config.limits;
        const MOST_WORKERS: usize = 1024;
        if config.workers > MOST_WORKERS {
            return self.refuse("workers", format!("at most {MOST_WORKERS} threads can serve"));
        }
        for (key, count) in [
            ("connections", limits.connections),
            ("headers", limits.headers),
            ("upstream_connections", limits.upstream_connections),
        ] {
            self.positive(&format!("limits.{key}"), count)?;
        }
        for (key, count) in [
            ("limits.connections", limits.connections),
            ("limits.upstream_connections", limits.upstream_connections),
        ] {
            if count < config.workers {
                let workers = config.workers;
                return self.refuse(
                    key,
                    format!("{count} cannot be divided among {workers} workers; expected as many or more"),
                );
            }
        }
        let smallest = Size::kib(8);
        if limits.header_bytes < smallest {
            return self.refuse(
                "limits.header_bytes",
                format!("requests need room for their headers; expected {smallest} or more"),
            );
        }
        Ok(())
    }

    fn websocket(&self, config: &Config) -> Result<(), Fault> {
        let websocket = &config.websocket;
        if websocket.formats.is_empty() {
            return self.refuse(
                "websocket.formats",
                "the list is empty; expected [\"json\"], which is spoken in any case, or more",
            );
        }
        let origins = &websocket.allowed_origins;
        if origins.len() > 1 && origins.iter().any(|origin| origin.0 == Origin::ANY) {
            return self.refuse(
                "websocket.allowed_origins",
                "\"*\" allows every origin, so the others in the list contradict it",
            );
        }
        self.positive("websocket.message_bytes", websocket.message_bytes.0)?;
        self.positive("websocket.outbox_bytes", websocket.outbox_bytes.0)?;
        self.positive("websocket.requests_in_flight", websocket.requests_in_flight)?;
        self.lasting("websocket.ping_interval", websocket.ping_interval)?;
        self.lasting("websocket.pong_timeout", websocket.pong_timeout)?;
        match websocket.max_lifetime {
            Some(lifetime) => self.lasting("websocket.max_lifetime", lifetime),
            None => Ok(()),
        }
    }

    fn subscriptions(&self, subscriptions: &Subscriptions) -> Result<(), Fault> {
        self.positive("subscriptions.limit", subscriptions.limit)?;
        self.lasting("subscriptions.heartbeat", subscriptions.heartbeat)?;
        self.lasting("subscriptions.longest_wait", subscriptions.longest_wait)?;
        match subscriptions.max_lifetime {
            Some(lifetime) => self.lasting("subscriptions.max_lifetime", lifetime),
            None => Ok(()),
        }
    }

    fn auth(&self, auth: &Auth) -> Result<(), Fault> {
        self.lasting("auth.lifetime", auth.lifetime)?;
        if let Some(recheck) = auth.recheck {
            self.lasting("auth.recheck", recheck)?;
        }
        if let Some(pointer) = &auth.expires_pointer {
            if !pointer.is_empty() && !pointer.starts_with('/') {
                let found = format!("{pointer:?}");
                let expected = r#"a JSON pointer such as "/data/expires""#.to_owned();
                let kind = Kind::Value { found, expected };
                return Err(self.document.fault("auth.expires_pointer", kind));
            }
            if auth.verify.is_none() {
                return self.refuse(
                    "auth.expires_pointer",
                    "it points into the answer of auth.verify, which is not set",
                );
            }
        }
        if auth.verify.is_some() && auth.jwt.is_some() {
            return self
                .refuse("auth.verify", "tokens are checked by it or by [auth.jwt], not both");
        }
        if auth.required && !checks_tokens(auth) {
            return self.refuse(
                "auth.required",
                "nothing checks tokens, so any would do; set auth.verify or [auth.jwt]",
            );
        }
        auth.jwt.as_ref().map_or(Ok(()), |jwt| self.jwt(jwt))
    }

    fn jwt(&self, jwt: &Jwt) -> Result<(), Fault> {
        let keys = [
            ("secret_file", jwt.secret_file.is_some()),
            ("secret_env", jwt.secret_env.is_some()),
            ("public_key_file", jwt.public_key_file.is_some()),
            ("jwks_url", jwt.jwks_url.is_some()),
        ];
        let given: Vec<_> = keys.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        match given[..] {
            [_] => Ok(()),
            [] => {
                let all = keys.map(|(key, _)| key).join(", ");
                self.refuse("auth.jwt", format!("no key is given; expected one of {all}"))
            }
            [first, second, ..] => self.refuse(
                &format!("auth.jwt.{second}"),
                format!("{first} is given too; expected one key"),
            ),
        }
    }

    fn views(&self, config: &Config) -> Result<(), Fault> {
        self.positive("views.refetch_concurrency", config.views.refetch_concurrency)?;
        self.positive("views.body_bytes", config.views.body_bytes.0)?;
        const MOST_HISTORY: usize = 64;
        if config.views.history > MOST_HISTORY {
            let reason = format!("at most {MOST_HISTORY} states of a view are remembered");
            return self.refuse("views.history", reason);
        }
        self.lasting("views.stale_after", config.views.stale_after)
    }

    fn gate(&self, gate: &Gate) -> Result<(), Fault> {
        for (at, allowed) in gate.allow.iter().enumerate() {
            if let Some(denied) = gate.deny.iter().find(|denied| denied.0.contains(&allowed.0)) {
                return self.refuse(
                    &format!("gate.allow.{at}"),
                    format!("{allowed} can never come in: gate.deny has {denied}, and deny wins"),
                );
            }
        }
        if gate.trusted_proxies.is_empty() {
            let needs = "only trusted proxies are asked, and gate.trusted_proxies names none";
            if gate.proxy_protocol {
                return self.refuse("gate.proxy_protocol", needs);
            }
            if gate.client_header == ClientHeader::Forwarded {
                return self.refuse("gate.client_header", needs);
            }
        }
        self.lasting("gate.ban.for", gate.ban.lasts)?;
        Ok(())
    }

    fn admin(&self, config: &Config) -> Result<(), Fault> {
        let Some(admin) = &config.admin else { return Ok(()) };
        if !admin.listen.0.ip().is_loopback() && admin.token_file.is_none() {
            return self.refuse(
                "admin.listen",
                "others than this machine can reach this address, so token_file must be set",
            );
        }
        if admin.listen == config.listen && admin.listen.0.port() != 0 {
            return self.refuse("admin.listen", "it equals listen");
        }
        Ok(())
    }

    fn traces(&self, config: &Config) -> Result<(), Fault> {
        if config.traces.service_name.is_empty() {
            let (found, expected) = ("\"\"".into(), "a name such as \"pogo\"".into());
            return Err(self
                .document
                .fault("traces.service_name", Kind::Value { found, expected }));
        }
        Ok(())
    }

    /// Those at `section`: `route`, or that of a namespace.
    pub(super) fn routes(
        &self,
        section: &str,
        routes: &[Route],
        config: &Config,
    ) -> Result<(), Fault> {
        let mut table = matchit::Router::new();
        for (at, route) in routes.iter().enumerate() {
            let key = format!("{section}.{at}.path");
            let path = &route.path;
            if !path.starts_with('/') || path.contains(['?', '#']) {
                let found = format!("{path:?}");
                let expected = r#"a path pattern such as "/posts/{id}""#.to_owned();
                return Err(self.document.fault(&key, Kind::Value { found, expected }));
            }
            if let Err(error) = table.insert(path.as_str(), at) {
                return self.refuse(&key, self.bad_pattern(section, routes, path, &error));
            }
            let section = format!("{section}.{at}");
            self.route(&section, route)?;
            self.poll(&section, route, config)?;
        }
        Ok(())
    }

    /// Each poll of each view is a request to the API: one that is too short is taken for a slip.
    fn poll(&self, section: &str, route: &Route, config: &Config) -> Result<(), Fault> {
        const SHORTEST: Interval = Interval::millis(100);
        let Some(poll) = route.poll else { return Ok(()) };
        let key = format!("{section}.poll");
        if poll.0 < SHORTEST.0 {
            let expected = format!("a duration of {SHORTEST} or more");
            let kind = Kind::Value { found: poll.to_string(), expected };
            return Err(self.document.fault(&key, kind));
        }
        let shortest = route.min_interval.unwrap_or(config.views.min_interval);
        if poll.0 < shortest.0 {
            let reason = format!("a view is not fetched more often than min_interval, {shortest}");
            return self.refuse(&key, reason);
        }
        if !route.realtime {
            return self.refuse(&key, "realtime = false, so there is nothing to look at");
        }
        Ok(())
    }

    fn route(&self, section: &str, route: &Route) -> Result<(), Fault> {
        let key = |name: &str| format!("{section}.{name}");
        if route.push == Push::Response && route.visibility != Visibility::Public {
            return self.refuse(
                &key("push"),
                "\"response\" shows the writer's answer to everybody, so it needs \
                 visibility = \"public\"",
            );
        }
        if route.affects_only.is_some() && !route.affects.is_empty() {
            return self.refuse(
                &key("affects"),
                "affects_only replaces what a write touches and affects adds to it; expected one",
            );
        }
        let parameters = parameters(&route.path);
        let only = route.affects_only.as_deref().unwrap_or_default();
        for (name, templates) in [("affects", &route.affects[..]), ("affects_only", only)] {
            for (place, template) in templates.iter().enumerate() {
                let key = format!("{}.{place}", key(name));
                if !template.starts_with('/') {
                    return self.refuse(&key, format!("{template:?} must begin with \"/\""));
                }
                if template.contains('*') {
                    let reason = format!("{template:?} must name one path: there are no wildcards");
                    return self.refuse(&key, reason);
                }
                let known = |name: &&str| !parameters.contains(name);
                if let Some(unknown) = pattern::parameters(template).into_iter().find(known) {
                    let path = &route.path;
                    return self.refuse(&key, format!("{path:?} has no parameter {{{unknown}}}"));
                }
            }
        }
        self.pointers(section, route)?;
        const MOST_SETTLES: usize = 8;
        if route.settle.len() > MOST_SETTLES {
            return self.refuse(&key("settle"), format!("at most {MOST_SETTLES} delays"));
        }
        for (place, delay) in route.settle.iter().enumerate() {
            self.lasting(&format!("{}.{place}", key("settle")), *delay)?;
        }
        match route.ttl {
            Some(ttl) => self.lasting(&key("ttl"), ttl),
            None => Ok(()),
        }
    }

    pub(super) fn positive(&self, path: &str, count: usize) -> Result<(), Fault> {
        if count == 0 {
            let kind = Kind::Value { found: "0".into(), expected: "1 or more".into() };
            return Err(self.document.fault(path, kind));
        }
        Ok(())
    }

    pub(super) fn lasting(&self, path: &str, interval: Interval) -> Result<(), Fault> {
        if interval.0.is_zero() {
            let expected = "a duration longer than zero".into();
            let kind = Kind::Value { found: "0s".into(), expected };
            return Err(self.document.fault(path, kind));
        }
        Ok(())
    }
}

pub(super) fn checks_tokens(auth: &Auth) -> bool {
    auth.verify.is_some() || auth.jwt.is_some()
}
