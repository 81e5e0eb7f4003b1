//! `pogo.toml`, strictly.
//!
//! A file is read in three steps, and each refuses in its own words: the text into [`Config`] (unknown
//! keys, values out of their notation), the whole against itself (contradictions), and the whole
//! into the modules' options (files it names). Nothing is ever ignored or replaced by a default:
//! a server that starts does what its file says.
//!
//! An option on the command line beats one in the environment, which beats the file.

mod channel;
mod check;
mod document;
mod fault;
mod gate;
mod named;
mod namespace;
mod options;
mod sections;
mod subscriptions;
mod tls;
mod traces;
mod words;

use std::path::{Path, PathBuf};

use crate::units::{Malformed, Notation};

use self::document::Document;
pub use self::fault::Fault;
pub use self::sections::{Config, Log, LogFormat, LogLevel};
use self::words::{Listen, UpstreamUrl};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "pogo.toml";

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A file that must be there; without one, `./pogo.toml` is read if it is there.
    pub file: Option<PathBuf>,
    pub upstream: Option<Given>,
    pub listen: Option<Given>,
    pub workers: Option<Given>,
}

/// A value from outside the file.
#[derive(Debug, Clone)]
pub struct Given {
    pub value: String,
    /// `--upstream` or `POGO_UPSTREAM`: what a message about it names.
    pub by: String,
}

/// A configuration without contradictions, and where each of its keys stands.
#[derive(Debug, Clone)]
pub struct Loaded {
    config: Config,
    document: Document,
}

/// Reads and checks everything but the files that the configuration names:
/// [`Loaded::into_options`] does that.
pub fn load(sources: &Sources) -> Result<Loaded, Fault> {
    let document = match &sources.file {
        Some(file) => Document::open(file)?,
        None => Document::open_existing(Path::new(DEFAULT_FILE))?.unwrap_or_else(Document::absent),
    };
    let mut config: Config = document.read()?;
    if let Some(given) = &sources.upstream {
        config.upstream = Some(given.read::<UpstreamUrl>()?);
    }
    if let Some(given) = &sources.listen {
        config.listen = given.read::<Listen>()?;
    }
    if let Some(given) = &sources.workers {
        let workers = given.value.parse();
        config.workers = workers.map_err(|_| given.refuse("a whole number"))?;
    }
    check::check(&config, &document)?;
    Ok(Loaded { config, document })
}

/// As [`load`], from the text of a file.
pub fn parse(text: &str) -> Result<Loaded, Fault> {
    let document = Document::parse(Path::new(DEFAULT_FILE), text.to_owned())?;
    let config: Config = document.read()?;
    check::check(&config, &document)?;
    Ok(Loaded { config, document })
}

impl Loaded {
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The configuration in effect, as TOML that reads back as the same. Secrets are not in it: only
    /// the names of the files and variables that hold them.
    pub fn effective(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&self.config)
    }
}

impl Given {
    fn read<T: Notation>(&self) -> Result<T, Fault> {
        self.value.parse().map_err(|malformed| match malformed {
            Malformed::Shape => self.refuse(T::EXPECTED),
            Malformed::Refused(reason) => Fault::of_source(&self.by, reason),
        })
    }

    fn refuse(&self, expected: &str) -> Fault {
        Fault::of_source(&self.by, format!("found {:?}, expected {expected}", self.value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::fault::Kind;
    use super::sections::{Admin, Jwt, Route};
    use super::*;

    const SHIPPED: &str = include_str!("../pogo.toml");

    fn read(text: &str) -> Result<Config, Fault> {
        Document::parse(Path::new("pogo.toml"), text.into())?.read()
    }

    /// The shipped file with its options set; `examples` are those whose default is none.
    fn uncommented(examples: bool) -> String {
        let set = |line: &'static str| match line.strip_prefix('#') {
            Some(option) if is_option(line) && (examples || !option.ends_with("# example")) => {
                option
            }
            Some(_) => "",
            None => line,
        };
        SHIPPED.lines().map(set).collect::<Vec<_>>().join("\n")
    }

    fn is_option(line: &str) -> bool {
        line.strip_prefix('#').is_some_and(|rest| !rest.is_empty() && !rest.starts_with(' '))
    }

    /// Every key there is, as paths: found by asking each section for a key that it has not.
    fn known_keys(section: &str, found: &mut BTreeSet<String>) {
        const STRANGER: &str = "no_such_key = 1";
        if matches!(section, "namespace.route" | "namespace.channel") {
            // By the same keys as those of the whole: see below.
            return;
        }
        let asked = match section {
            "" => vec![STRANGER.to_owned()],
            _ => {
                let own =
                    [format!("[{section}]\n{STRANGER}"), format!("[[{section}]]\n{STRANGER}")];
                // What is in an item of a list begins with that item.
                let list = section.split_once('.').map(|(list, _)| format!("[[{list}]]\n"));
                let inside = own.clone().map(|text| list.clone().map(|list| list + &text));
                own.into_iter().chain(inside.into_iter().flatten()).collect()
            }
        };
        for text in asked {
            let fault = read(&text).unwrap_err();
            let Kind::UnknownKey { key, known } = fault.kind() else { continue };
            assert_eq!(key, "no_such_key");
            for key in *known {
                let path =
                    if section.is_empty() { (*key).to_owned() } else { format!("{section}.{key}") };
                known_keys(&path, found);
                found.insert(path);
            }
        }
    }

    #[test]
    fn the_shipped_file_is_the_defaults() {
        let mut shipped = read(&uncommented(false)).unwrap();
        assert_eq!(shipped.upstream.take().unwrap().to_string(), "http://127.0.0.1:3000");
        assert_eq!(shipped.auth.jwt.take(), Some(Jwt::default()));
        assert_eq!(shipped.tls.take(), Some(tls::Tls::default()));
        assert_eq!(shipped.admin.take(), Some(Admin::default()));
        let route: Route = shipped.routes.pop().unwrap();
        let namespace = shipped.namespaces.pop().unwrap();
        assert_eq!((namespace.gate, namespace.channels, namespace.routes), Default::default());
        assert!(!namespace.handlers[0].credentials);
        assert_eq!(shipped, Config::default());
        assert_eq!(options::rule(route), crate::route::Rule::default());
    }

    #[test]
    fn the_shipped_file_has_every_option_and_no_other() {
        let everything = uncommented(true);
        read(&everything).unwrap();
        let shown: toml::Table = everything.parse().unwrap();
        let mut known = BTreeSet::new();
        known_keys("", &mut known);
        for some in
            ["upstream", "auth.jwt.leeway", "gate.rate.http", "route.rate", "channel.publish"]
        {
            assert!(known.contains(some), "{some} was not found among {known:?}");
        }
        for path in known {
            let mut value = toml::Value::Table(shown.clone());
            for key in path.split('.') {
                let inside = value.get(0).unwrap_or(&value).get(key).cloned();
                value = inside.unwrap_or_else(|| panic!("pogo.toml does not show {path}"));
            }
        }
    }

    #[test]
    fn routes_and_channels_of_a_namespace_have_the_keys_of_all_others() {
        for section in ["route", "channel"] {
            let stranger = "no_such_key = 1";
            let refusal = |text: String| match read(&text).unwrap_err().kind() {
                Kind::UnknownKey { known, .. } => *known,
                other => panic!("{other:?}"),
            };
            let of_all = refusal(format!("[[{section}]]\n{stranger}"));
            let inside = refusal(format!("[[namespace]]\n[[namespace.{section}]]\n{stranger}"));
            assert_eq!(of_all, inside);
        }
    }

    #[test]
    fn the_shipped_file_explains_every_option() {
        let lines: Vec<_> = SHIPPED.lines().collect();
        for pair in lines.windows(2) {
            if is_option(pair[1]) && !pair[1].starts_with("#[") {
                assert!(pair[0].starts_with("# "), "nothing explains {}", pair[1]);
            }
        }
    }

    #[test]
    fn what_is_in_effect_reads_back_as_the_same() {
        let file = Document::parse(Path::new("pogo.toml"), uncommented(true)).unwrap();
        let loaded = Loaded { config: file.read().unwrap(), document: file };
        assert_eq!(&read(&loaded.effective().unwrap()).unwrap(), loaded.config());
        let loaded = Loaded { config: Config::default(), document: Document::absent() };
        assert_eq!(read(&loaded.effective().unwrap()).unwrap(), Config::default());
    }

    #[test]
    fn the_file_and_the_library_have_the_same_defaults() {
        let upstream = Some("http://127.0.0.1:3000".parse().unwrap());
        let config = Config { upstream, ..Config::default() };
        let loaded = Loaded { config, document: Document::absent() };
        let (options, log) = loaded.into_options().unwrap();
        assert_eq!(options, crate::server::Options::default());
        let admin = options::admin(&Admin::default(), &Document::absent()).unwrap();
        assert_eq!(admin, crate::admin::Options::default());
        assert_eq!(log, Log::default());
    }

    /// What becomes of each option when it changes in a running server: `true` is taken at once.
    /// The value is another than that of [`BASE`]. An option that is not here is one that
    /// nobody thought of; docs/operations.md says the same in words.
    const RELOADED: &[(&str, &str, bool)] = &[
        ("listen", "\"127.0.0.1:9999\"", false),
        ("upstream", "\"http://b\"", true),
        ("workers", "7", false),
        ("via", "\"other\"", true),
        ("timeouts.header_read", "\"9s\"", true),
        ("timeouts.request_idle", "\"9s\"", true),
        ("timeouts.slow_client", "\"9s\"", true),
        ("timeouts.upstream_connect", "\"9s\"", true),
        ("timeouts.upstream_response", "\"9s\"", true),
        ("timeouts.upstream_idle", "\"9s\"", true),
        ("timeouts.drain", "\"9s\"", true),
        ("limits.connections", "99", true),
        ("limits.connections_per_address", "99", true),
        ("limits.history_bytes", "99", true),
        ("limits.header_bytes", "\"9KiB\"", true),
        ("limits.headers", "99", true),
        ("limits.body_bytes", "99", true),
        ("limits.upstream_connections", "99", true),
        ("websocket.path", "\"/ws\"", true),
        ("websocket.formats", "[\"json\"]", true),
        ("websocket.allowed_origins", "[\"https://b.example\"]", true),
        ("websocket.compression", "true", true),
        ("websocket.compress_from", "99", true),
        ("websocket.message_bytes", "99", true),
        ("websocket.bindings", "99", true),
        ("websocket.channels", "99", true),
        ("websocket.requests_in_flight", "9", true),
        ("websocket.ping_interval", "\"9s\"", true),
        ("websocket.pong_timeout", "\"9s\"", true),
        ("websocket.max_lifetime", "\"9h\"", true),
        ("websocket.outbox_bytes", "99", true),
        ("subscriptions.enabled", "false", true),
        ("subscriptions.heartbeat", "\"9s\"", true),
        ("subscriptions.max_lifetime", "\"9h\"", true),
        ("subscriptions.longest_wait", "\"9s\"", true),
        ("subscriptions.limit", "99", true),
        ("auth.header", "\"x-other\"", true),
        ("auth.scheme", "\"Token\"", true),
        ("auth.verify", "\"/other\"", true),
        ("auth.expires_pointer", "\"/other\"", true),
        ("auth.lifetime", "\"9h\"", true),
        ("auth.required", "true", true),
        ("auth.recheck", "\"9m\"", true),
        ("auth.logout", "[\"POST /logout\"]", true),
        ("views.min_interval", "\"9ms\"", true),
        ("views.refetch_concurrency", "9", true),
        ("views.stale_after", "\"9s\"", true),
        ("views.history", "9", true),
        ("views.credential_headers", "[\"x-tenant\"]", true),
        ("views.body_bytes", "99", true),
        ("gate.allow", "[\"192.0.2.0/24\"]", true),
        ("gate.deny", "[\"192.0.2.1\"]", true),
        ("gate.trusted_proxies", "[\"192.0.2.1\", \"192.0.2.2\"]", true),
        ("gate.client_header", "\"forwarded\"", true),
        ("gate.proxy_protocol", "true", true),
        ("gate.rate.http", "\"9/s\"", true),
        ("gate.rate.writes", "\"9/s\"", true),
        ("gate.rate.connects", "\"9/s\"", true),
        ("gate.rate.messages", "\"9/s\"", true),
        ("gate.rate.binds", "\"9/s\"", true),
        ("gate.rate.auth_failures", "\"9/s\"", true),
        ("gate.rate.credential.http", "\"9/s\"", true),
        ("gate.rate.credential.writes", "\"9/s\"", true),
        ("gate.rate.credential.connects", "\"9/s\"", true),
        ("gate.rate.credential.messages", "\"9/s\"", true),
        ("gate.rate.credential.binds", "\"9/s\"", true),
        ("gate.ban.after", "\"9/s\"", true),
        ("gate.ban.for", "\"9m\"", true),
        ("gate.ban.exempt", "[\"192.0.2.1\"]", true),
        ("admin.listen", "\"127.0.0.1:9999\"", false),
        ("traces.endpoint", "\"http://b/v1/traces\"", false),
        ("traces.service_name", "\"other\"", false),
        ("admin.hosts", "[\"pogo.internal\"]", true),
        ("log.format", "\"json\"", true),
        ("log.level", "\"warn\"", true),
        ("log.access", "true", true),
        ("route.path", "\"/other/{id}\"", true),
        ("route.realtime", "false", true),
        ("route.autobind", "false", true),
        ("route.visibility", "\"public\"", true),
        ("route.push", "\"notify\"", true),
        ("route.affects", "[\"/a\"]", true),
        ("route.affects_only", "[\"/a\"]", true),
        ("route.update_method", "\"PATCH\"", true),
        ("route.min_interval", "\"9s\"", true),
        ("route.poll", "\"9s\"", true),
        ("route.settle", "[\"9s\"]", true),
        ("route.ttl", "\"9h\"", true),
        ("route.rate", "\"9/s\"", true),
        ("route.items", "[\"/a\"]", true),
        ("route.item_id", "\"/key\"", true),
        ("route.item_uri", "\"/self\"", true),
        ("route.item_data", "\"embedded\"", true),
        ("channel.pattern", "\"other\"", true),
        ("channel.subscribe", "\"nobody\"", true),
        ("channel.publish", "\"nobody\"", true),
        ("channel.ask", "\"/other\"", true),
        ("channel.ask_for", "\"9s\"", true),
        ("channel.presence", "true", true),
        ("channel.echo", "true", true),
        ("channel.overflow", "\"close\"", true),
        ("channel.history.count", "9", true),
        ("channel.history.ttl", "\"9s\"", true),
        ("channel.history.bytes", "99", true),
        ("namespace.name", "\"/other\"", true),
        ("namespace.upstream", "\"http://b\"", true),
        ("namespace.gate.rate.messages", "\"9/s\"", true),
        ("namespace.route", "[{ path = \"/b\" }]", true),
        (
            "namespace.channel",
            "[{ pattern = \"b\", subscribe = \"nobody\", publish = \"nobody\" }]",
            true,
        ),
        ("namespace.handler.event", "\"other\"", true),
        ("namespace.handler.forward", "\"/other\"", true),
        ("namespace.handler.credentials", "true", true),
    ];
    /// Of these a change is a change of what a file holds, or of how it is checked: the tests
    /// through the front door make it.
    const RELOADED_FILES: &[&str] = &[
        "auth.jwt.algorithms",
        "auth.jwt.secret_file",
        "auth.jwt.secret_env",
        "auth.jwt.public_key_file",
        "auth.jwt.jwks_url",
        "auth.jwt.issuer",
        "auth.jwt.audience",
        "auth.jwt.leeway",
        "gate.deny_file",
        "tls.certificate",
        "tls.key",
        "upstream_tls.ca_file",
        "upstream_tls.server_name",
        "upstream_tls.client_certificate",
        "upstream_tls.client_key",
        "admin.token_file",
        "channel.presence_subject",
    ];
    const BASE: &str = "upstream = \"http://a\"\n[auth]\nverify = \"/me\"\n\
        expires_pointer = \"/expires\"\n[gate]\ntrusted_proxies = [\"192.0.2.1\"]\n[admin]\n\
        [traces]\nendpoint = \"http://a/v1/traces\"\n\
        [[route]]\npath = \"/{id}\"\n[[channel]]\npattern = \"a\"\nsubscribe = \"ask\"\n\
        publish = \"ask\"\nask = \"/may\"\n[[namespace]]\nname = \"/a\"\nupstream = \"http://c\"\n\
        [[namespace.route]]\npath = \"/{id}\"\n[[namespace.channel]]\n\
        pattern = \"a\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n\
        [[namespace.handler]]\nevent = \"a\"\nforward = \"http://a/b\"\n";

    /// The base with another value at `path`.
    fn with(path: &str, value: &str) -> String {
        let mut table: toml::Table = BASE.parse().unwrap();
        let value: toml::Table = format!("value = {value}").parse().unwrap();
        let (last, sections) = path.rsplit_once('.').map_or((path, ""), |(a, b)| (b, a));
        let mut at = &mut table;
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            let entry = at.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let entry = match entry {
                toml::Value::Array(list) => &mut list[0],
                entry => entry,
            };
            at = entry.as_table_mut().unwrap();
        }
        at.insert(last.to_owned(), value["value"].clone());
        toml::to_string(&table).unwrap()
    }

    #[test]
    fn of_every_option_it_is_known_what_a_reload_does() {
        let mut known = BTreeSet::new();
        known_keys("", &mut known);
        let is_section =
            |key: &str| known.iter().any(|other| other.starts_with(&format!("{key}.")));
        let options: BTreeSet<&str> =
            known.iter().map(String::as_str).filter(|key| !is_section(key)).collect();
        let told = RELOADED.iter().map(|(key, ..)| *key).chain(RELOADED_FILES.iter().copied());
        assert_eq!(options, told.collect());
        let read = |text: &str| parse(text).and_then(Loaded::into_options).unwrap();
        let (before, log) = read(BASE);
        for (key, value, is_taken) in RELOADED {
            let (mut after, log_after) = read(&with(key, value));
            assert!(after != before || log_after != log, "{key} changes nothing at all");
            let kept = crate::server::keep_what_cannot_change(&mut after, &before);
            assert_eq!(kept.is_empty(), *is_taken, "{key}");
            if !is_taken {
                assert_eq!((kept, after), (vec![*key], before.clone()));
            }
        }
    }

    #[test]
    fn every_credential_header_tells_viewers_apart() {
        let text = "upstream = \"http://a\"\n[auth]\nheader = \"X-Api-Key\"\n\
                    [views]\ncredential_headers = [\"cookie\", \"x-tenant\"]";
        let document = Document::parse(Path::new("pogo.toml"), text.into()).unwrap();
        let loaded = Loaded { config: document.read().unwrap(), document };
        let headers = loaded.into_options().unwrap().0.hub.credential_headers;
        assert_eq!(headers, ["x-tenant", "x-api-key"]);
    }
}
