//! The program and its configuration, through the front door: what it says and how it ends.

#![allow(clippy::unwrap_used, reason = "a test fails by its panics")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// A directory of its own for each test, gone with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("config-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(text: &str) -> Self {
        let place = Self::new();
        place.write("pogo.toml", text);
        place
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    /// `pogo` in this directory, with none of the variables it listens to.
    fn pogo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pogo"));
        command.args(arguments).current_dir(&self.0);
        for variable in ["POGO_CONFIG", "POGO_UPSTREAM", "POGO_LISTEN", "POGO_TOKEN"] {
            command.env_remove(variable);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.pogo(arguments).output().unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn refused(&self, message: &str) {
        assert_eq!((self.err.as_str(), self.code), (format!("{message}\n").as_str(), Some(64)));
        assert_eq!(self.out, "", "a refusal belongs on stderr");
    }

    #[track_caller]
    fn effective(&self) -> toml::Table {
        assert_eq!((self.err.as_str(), self.code), ("", Some(0)));
        self.out.parse().unwrap()
    }
}

const UPSTREAM: &str = "upstream = \"http://127.0.0.1:3000\"\n";

/// Both ways in read the file alike: `pogo check` and `pogo`.
#[track_caller]
fn refuses(text: &str, message: &str) {
    let place = Place::with(text);
    place.run(&["check"]).refused(message);
    place.run(&[]).refused(message);
}

/// As above for lines that follow a good upstream: they begin at line 2.
#[track_caller]
fn refuses_after_upstream(lines: &str, message: &str) {
    refuses(&format!("{UPSTREAM}{lines}"), message);
}

#[test]
fn an_unknown_key_is_told_with_the_nearest_known_one() {
    refuses(
        "# Pogo\n\nupsteam = \"http://a\"\n",
        "pogo.toml:3: unknown key \"upsteam\"; did you mean \"upstream\"?",
    );
    refuses_after_upstream(
        "\n[timeouts]\nheader_reed = \"1s\"",
        "pogo.toml:4: unknown key \"header_reed\" in [timeouts]; did you mean \"header_read\"?",
    );
    refuses_after_upstream(
        "auth.jwt.secret = \"x\"",
        "pogo.toml:2: unknown key \"secret\" in [auth.jwt]; the keys here are algorithms, \
         secret_file, secret_env, public_key_file, jwks_url, issuer, audience, leeway",
    );
    refuses_after_upstream(
        "[[route]]\npath = \"/a\"\n[[route]]\npath = \"/b\"\nautobnd = true",
        "pogo.toml:6: unknown key \"autobnd\" in [route]; did you mean \"autobind\"?",
    );
}

#[test]
fn a_collector_of_spans_has_a_url_and_knows_this_server_by_a_name() {
    for (line, message) in [
        (
            "endpoint = \"collector:4318\"",
            "traces.endpoint: found \"collector:4318\", expected a URL such as \
             \"http://127.0.0.1:4318/v1/traces\"",
        ),
        (
            "endpoint = \"http://me:hunter2@collector/v1/traces\"",
            "traces.endpoint: a user name or password does not belong in this URL",
        ),
        (
            "service_name = \"\"",
            "traces.service_name: found \"\", expected a name such as \"pogo\"",
        ),
        (
            "headers = 1",
            "unknown key \"headers\" in [traces]; the keys here are endpoint, service_name",
        ),
    ] {
        refuses_after_upstream(&format!("[traces]\n{line}"), &format!("pogo.toml:3: {message}"));
    }
}

#[test]
fn an_option_of_a_later_release_is_an_unknown_key() {
    for (lines, start) in [
        ("[cache]\n", "pogo.toml:2: unknown key \"cache\""),
        ("[cluster]\n", "pogo.toml:2: unknown key \"cluster\""),
        ("[gate.rate]\nlogins = \"1/s\"", "pogo.toml:3: unknown key \"logins\" in [gate.rate]"),
    ] {
        let ended = Place::with(&format!("{UPSTREAM}{lines}")).run(&["check"]);
        assert!(ended.err.starts_with(start), "{}", ended.err);
        assert_eq!(ended.code, Some(64));
    }
}

#[test]
fn a_namespace_that_cannot_be_what_it_says_is_refused() {
    for (lines, start) in [
        ("name = \"a\"", "3: namespace.name: found \"a\", expected a path"),
        ("name = \"/a\"\n[[namespace]]\nname = \"/a\"", "5: namespace.name: \"/a\" is there"),
        ("name = \"/\"\nupstream = \"http://b\"", "4: namespace.upstream: \"/\" goes by"),
        ("name = \"/a\"\nupstream = \"http://127.0.0.1:8080\"", "4: namespace.upstream: the up"),
        ("name = \"/\"\n[[namespace.route]]\npath = \"/b\"", "4: namespace.route: \"/\" goes by"),
        (
            "name = \"/a\"\n[[namespace.handler]]\nevent = \"bind\"\nforward = \"/b\"",
            "5: namespace.handler.event: found \"bind\", expected",
        ),
        (
            "name = \"/a\"\n[[namespace.handler]]\nevent = \"b\"\nforward = \"b\"",
            "6: namespace.handler.forward: found \"b\", expected a path",
        ),
        (
            "name = \"/a\"\n[[namespace.handler]]\nevent = \"b\"\nforward = \"/b\"\ncredentials = true",
            "7: namespace.handler.credentials: the API",
        ),
    ] {
        let ended = Place::with(&format!("{UPSTREAM}[[namespace]]\n{lines}")).run(&["check"]);
        assert!(ended.err.starts_with(&format!("pogo.toml:{start}")), "{}", ended.err);
        assert_eq!(ended.code, Some(64));
    }
}

#[test]
fn a_poll_that_would_never_rest_or_never_be_made_is_refused() {
    refuses_after_upstream(
        "[[route]]\npath = \"/a\"\npoll = \"99ms\"",
        "pogo.toml:4: route.poll: found 99ms, expected a duration of 100ms or more",
    );
    refuses_after_upstream(
        "[[route]]\npath = \"/a\"\nmin_interval = \"2s\"\npoll = \"1s\"",
        "pogo.toml:5: route.poll: a view is not fetched more often than min_interval, 2s",
    );
    refuses_after_upstream(
        "[views]\nmin_interval = \"2s\"\n[[route]]\npath = \"/a\"\npoll = \"1s\"",
        "pogo.toml:6: route.poll: a view is not fetched more often than min_interval, 2s",
    );
    refuses_after_upstream(
        "[[route]]\npath = \"/a\"\nrealtime = false\npoll = \"1s\"",
        "pogo.toml:5: route.poll: realtime = false, so there is nothing to look at",
    );
    Place::with(&format!("{UPSTREAM}[[route]]\npath = \"/a\"\npoll = \"100ms\""))
        .run(&["check"])
        .effective();
}

#[test]
fn a_missing_key_is_named() {
    refuses(
        "listen = \"127.0.0.1:8080\"",
        "pogo.toml: missing key \"upstream\": the API to stand in front of, such as \
         \"http://127.0.0.1:3000\" (or --upstream, or POGO_UPSTREAM)",
    );
    refuses_after_upstream(
        "[[route]]\npush = \"notify\"",
        "pogo.toml:2: missing key \"path\" in [route]",
    );
    refuses_after_upstream(
        "[[channel]]\npattern = \"*\"\nsubscribe = \"anyone\"",
        "pogo.toml:2: missing key \"publish\" in [channel]",
    );
    Place::new().run(&[]).refused(
        "pogo: no upstream and no pogo.toml here; give --upstream URL, the API to stand in front \
         of, such as \"http://127.0.0.1:3000\", or --config FILE",
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_told_with_what_was_expected() {
    for (lines, message) in [
        ("workers = \"many\"", "2: workers: found \"many\", expected a whole number"),
        ("workers = -1", "2: workers: found -1, expected a whole number"),
        ("workers = 1.5", "2: workers: found 1.5, expected a whole number"),
        ("[log]\naccess = \"yes\"", "3: log.access: found \"yes\", expected true or false"),
        ("timeouts = 3", "2: timeouts: found 3, expected a section"),
        ("[gate]\nallow = \"::1\"", "3: gate.allow: found \"::1\", expected a list"),
        (
            "via = [\"pogo\"]",
            "2: via: found a list, expected a single word such as \"pogo\", or \"\" for none",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "3: log.level: found \"loud\", expected \"error\" or \"warn\" or \"info\" or \"debug\" or \"trace\"",
        ),
        ("[log]\nformat = 1", "3: log.format: found 1, expected \"text\" or \"json\""),
    ] {
        refuses_after_upstream(lines, &format!("pogo.toml:{message}"));
    }
}

#[test]
fn a_unit_is_never_guessed() {
    let duration = r#"expected a duration such as "250ms", "10s" or "1h30m""#;
    let size = r#"expected a size in bytes such as 4096, "64KiB" or "1MB""#;
    let rate = r#"expected a rate such as "100/s", "5/m" or "100/s burst 200""#;
    for (lines, message) in [
        ("[timeouts]\ndrain = 30", format!("3: timeouts.drain: found 30, {duration}")),
        ("[timeouts]\ndrain = \"30\"", format!("3: timeouts.drain: found \"30\", {duration}")),
        ("[timeouts]\ndrain = \"9999d\"", "3: timeouts.drain: a duration is at most 3650d".into()),
        (
            "[limits]\nbody_bytes = \"1 MB\"",
            format!("3: limits.body_bytes: found \"1 MB\", {size}"),
        ),
        ("[limits]\nbody_bytes = -1", format!("3: limits.body_bytes: found -1, {size}")),
        ("[gate.rate]\nhttp = \"100\"", format!("3: gate.rate.http: found \"100\", {rate}")),
        (
            "[gate.rate]\nhttp = \"0/s\"",
            "3: gate.rate.http: a rate counts from 1 to 4294967295, not 0".into(),
        ),
        (
            "[[route]]\npath = \"/\"\nsettle = [\n\"1s\",\n\"2\",\n]",
            format!("6: route.settle: found \"2\", {duration}"),
        ),
    ] {
        refuses_after_upstream(lines, &format!("pogo.toml:{message}"));
    }
}

#[test]
fn an_address_that_is_none_is_refused() {
    let url = r#"expected a URL such as "http://127.0.0.1:3000""#;
    for (text, message) in [
        ("upstream = \"localhost:3000\"", format!("1: upstream: found \"localhost:3000\", {url}")),
        (
            "upstream = \"https://127.0.0.1:8080\"",
            "1: upstream: the upstream is Pogo itself: it equals listen".into(),
        ),
        (
            "upstream = \"http://me:hunter2@a\"",
            "1: upstream: a user name or password does not belong in this URL".into(),
        ),
        (
            "upstream = \"http://a/v1\"",
            "1: upstream: \"http://a/v1\" has a path; paths reach the upstream as the client wrote \
             them, so only a scheme, a host and a port belong here"
                .into(),
        ),
        (
            "upstream = \"http://127.0.0.1:8080\"",
            "1: upstream: the upstream is Pogo itself: it equals listen".into(),
        ),
    ] {
        refuses(text, &format!("pogo.toml:{message}"));
    }
    for (lines, message) in [
        (
            "listen = \"localhost:8080\"",
            "2: listen: found \"localhost:8080\", expected an IP address and a port such as \
             \"127.0.0.1:8080\" or \"[::]:8080\"",
        ),
        (
            "[gate]\ndeny = [\n  \"10.0.0.0/8\",\n  \"10.0.0.0/33\",\n]",
            "5: gate.deny: found \"10.0.0.0/33\", expected an address or a range such as \
             \"10.0.0.0/8\" or \"2001:db8::1\"",
        ),
        (
            "[gate]\ndeny = [\"10.0.0.1/8\"]",
            "3: gate.deny: 10.0.0.1/8 names an address inside a range; expected \"10.0.0.0/8\" for \
             the range or \"10.0.0.1\" for the address",
        ),
        (
            "[websocket]\nallowed_origins = [\"https://app.example/\"]",
            "3: websocket.allowed_origins: found \"https://app.example/\", expected an origin such \
             as \"https://app.example\": a scheme, a host, maybe a port, no path",
        ),
    ] {
        refuses_after_upstream(lines, &format!("pogo.toml:{message}"));
    }
}

#[test]
fn contradictions_are_told_with_both_sides() {
    for (lines, message) in [
        (
            "[gate]\nallow = [\"::1\", \"10.1.0.0/16\"]\ndeny = [\"10.0.0.0/8\"]",
            "3: gate.allow: 10.1.0.0/16 can never come in: gate.deny has 10.0.0.0/8, and deny wins",
        ),
        (
            "[gate]\nproxy_protocol = true",
            "3: gate.proxy_protocol: only trusted proxies are asked, and gate.trusted_proxies names \
             none",
        ),
        (
            "[gate]\nclient_header = \"forwarded\"",
            "3: gate.client_header: only trusted proxies are asked, and gate.trusted_proxies names \
             none",
        ),
        (
            "[gate.ban]\nafter = \"20/m\"\nfor = \"0s\"",
            "4: gate.ban.for: found 0s, expected a duration longer than zero",
        ),
        ("[tls]", "2: tls: this section needs certificate and key"),
        ("[tls]\nkey = \"k\"", "3: tls.key: it needs tls.certificate beside it"),
        ("[tls]\ncertificate = \"c\"", "3: tls.certificate: it needs tls.key beside it"),
        (
            "[upstream_tls]\nca_file = \"ca.pem\"",
            "2: upstream_tls: the upstream is spoken to in the clear; expected https://",
        ),
        (
            "[upstream_tls]\nclient_key = \"k\"",
            "3: upstream_tls.client_key: it needs upstream_tls.client_certificate beside it",
        ),
        (
            "[upstream_tls]\nclient_certificate = \"c\"",
            "3: upstream_tls.client_certificate: it needs upstream_tls.client_key beside it",
        ),
        (
            "[websocket]\nallowed_origins = [\"*\", \"https://a\"]",
            "3: websocket.allowed_origins: \"*\" allows every origin, so the others in the list \
             contradict it",
        ),
        (
            "[subscriptions]\nheartbeat = \"0s\"",
            "3: subscriptions.heartbeat: found 0s, expected a duration longer than zero",
        ),
        ("[subscriptions]\nlimit = 0", "3: subscriptions.limit: found 0, expected 1 or more"),
        (
            "[websocket]\npong_timeout = \"0s\"",
            "3: websocket.pong_timeout: found 0s, expected a duration longer than zero",
        ),
        (
            "workers = 8\n[limits]\nupstream_connections = 4",
            "4: limits.upstream_connections: 4 cannot be divided among 8 workers; expected as many \
             or more",
        ),
        ("[limits]\nheaders = 0", "3: limits.headers: found 0, expected 1 or more"),
        (
            "[limits]\nheader_bytes = 512",
            "3: limits.header_bytes: requests need room for their headers; expected 8KiB or more",
        ),
        (
            "[websocket]\nformats = [\"json\", \"bson\"]",
            "3: websocket.formats: found \"bson\", expected \"json\" or \"json.compact\" or \"msgpack\" or \"msgpack.compact\"",
        ),
        (
            "[websocket]\nformats = []",
            "3: websocket.formats: the list is empty; expected [\"json\"], which is spoken in any case, or more",
        ),
    ] {
        refuses_after_upstream(lines, &format!("pogo.toml:{message}"));
    }
}

#[test]
fn a_certificate_and_its_key_are_read_beside_the_configuration_and_must_fit() {
    let made = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let ((certificate, key), (other, _)) = (made(), made());
    let place = Place::with(&format!("{UPSTREAM}[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\""));
    let refused = |message: &str| {
        let ended = place.run(&["check"]);
        assert!(ended.err.starts_with(message), "{}", ended.err);
        assert_eq!(ended.code, Some(64));
    };
    refused("pogo.toml:3: tls.certificate: \"c.pem\" cannot be read: ");
    place.write("c.pem", &other);
    refused("pogo.toml:4: tls.key: \"k.pem\" cannot be read: ");
    place.write("k.pem", &other);
    refused("pogo.toml:4: tls.key: \"k.pem\" has no private key in PEM");
    place.write("k.pem", &key);
    refused("pogo.toml:4: tls.key: \"k.pem\" is not the key of the certificate");
    place.write("c.pem", &certificate);
    assert_eq!(place.run(&["check"]).code, Some(0));

    let https = "upstream = \"https://api.example\"\n[upstream_tls]\nca_file = \"ca.pem\"\n";
    for (lines, message) in [
        ("", "3: upstream_tls.ca_file: \"ca.pem\" cannot be read: "),
        ("server_name = \"a b\"", "4: upstream_tls.server_name: \"a b\" is no host name"),
    ] {
        let ended = Place::with(&format!("{https}{lines}")).run(&["check"]);
        assert!(ended.err.starts_with(&format!("pogo.toml:{message}")), "{}", ended.err);
    }
    let place =
        Place::with(&format!("{https}client_certificate = \"c.pem\"\nclient_key = \"k.pem\""));
    place.write("ca.pem", &certificate);
    place.write("c.pem", &other);
    place.write("k.pem", &key);
    let ended = place.run(&["check"]);
    assert!(
        ended.err.starts_with(
            "pogo.toml:5: upstream_tls.client_key: \"k.pem\" is not the key of the certificate"
        ),
        "{}",
        ended.err
    );
    place.write("c.pem", &certificate);
    assert_eq!(place.run(&["check"]).code, Some(0));
}

#[test]
fn a_deny_file_is_read_beside_the_configuration_and_must_be_good() {
    let place = Place::with(&format!("{UPSTREAM}[gate]\ndeny_file = \"deny.txt\""));
    let path = place.0.join("deny.txt");
    let refused = |place: &Place, reason: &str| {
        let ended = place.run(&["check"]);
        let start = format!("pogo.toml:3: gate.deny_file: {:?} {reason}", path.to_str().unwrap());
        // Where the path is told relative to the configuration, it is the same file.
        let relative = format!("pogo.toml:3: gate.deny_file: \"deny.txt\" {reason}");
        let told = ended.err.starts_with(&start) || ended.err.starts_with(&relative);
        assert!(told, "{}", ended.err);
        assert_eq!(ended.code, Some(64));
    };
    refused(&place, "cannot be read: ");
    place.write("deny.txt", "192.0.2.1\n\n192.0.2.0/24 10.0.0.0/8\n");
    refused(&place, "line 3: \"192.0.2.0/24 10.0.0.0/8\" is neither an address nor a range");
    place.write("deny.txt", "192.0.2.1\n\n192.0.2.0/24 # abuse\n");
    assert_eq!(place.run(&["check"]).code, Some(0));
}

#[test]
fn a_route_that_cannot_hold_is_refused() {
    for (lines, message) in [
        (
            "[[route]]\npath = \"/posts/{id}\"\n[[route]]\npath = \"/posts/{slug}\"",
            "5: route.path: \"/posts/{slug}\" and \"/posts/{id}\" (line 3) match the same paths; \
             expected one rule for each",
        ),
        (
            "[[route]]\npath = \"posts\"",
            "3: route.path: found \"posts\", expected a path pattern such as \"/posts/{id}\"",
        ),
        (
            "[[route]]\npath = \"/posts\"\npush = \"response\"",
            "4: route.push: \"response\" shows the writer's answer to everybody, so it needs \
             visibility = \"public\"",
        ),
        (
            "[[route]]\npath = \"/posts\"\naffects = [\"/feed\"]\naffects_only = []",
            "4: route.affects: affects_only replaces what a write touches and affects adds to it; \
             expected one",
        ),
        (
            "[[route]]\npath = \"/batch\"\naffects = [\"/posts/*\"]",
            "4: route.affects: \"/posts/*\" must name one path: there are no wildcards",
        ),
        (
            "[[route]]\npath = \"/users/{id}\"\naffects = [\"/feeds/{id}\", \"/feeds/{user}\"]",
            "4: route.affects: \"/users/{id}\" has no parameter {user}",
        ),
        (
            "[[route]]\npath = \"/posts\"\nitems = [\"\", \"data\"]",
            "4: route.items: found \"data\", expected a JSON pointer such as \"/data/items\"",
        ),
        (
            "[[route]]\npath = \"/posts\"\nitem_id = \"id\"",
            "4: route.item_id: found \"id\", expected a JSON pointer such as \"/data/items\"",
        ),
        (
            "[[route]]\npath = \"/posts\"\nitem_uri = \"self\"",
            "4: route.item_uri: found \"self\", expected a JSON pointer such as \"/data/items\"",
        ),
        (
            "[[route]]\npath = \"/posts\"\nitem_data = \"whole\"",
            "4: route.item_data: found \"whole\", expected \"fetched\" or \"embedded\"",
        ),
        (
            "[[route]]\npath = \"/posts\"\nupdate_method = \"put\"",
            "4: route.update_method: found \"put\", expected \"PUT\" or \"PATCH\"",
        ),
    ] {
        refuses_after_upstream(lines, &format!("pogo.toml:{message}"));
    }
    let ended = Place::with(&format!("{UPSTREAM}[[route]]\npath = \"/{{\"")).run(&["check"]);
    let start = "pogo.toml:3: route.path: \"/{\" is not a path pattern: ";
    assert!(ended.err.starts_with(start), "{}", ended.err);
}

#[test]
fn a_channel_rule_that_cannot_hold_is_refused() {
    let rule = |pattern: &str, publish: &str| {
        format!(
            "[[channel]]\npattern = \"{pattern}\"\nsubscribe = \"anyone\"\npublish = \"{publish}\"\n"
        )
    };
    refuses_after_upstream(
        &rule("a*b", "anyone"),
        "pogo.toml:3: channel.pattern: found \"a*b\", expected a channel's name, or the beginning \
         of names and a final \"*\"",
    );
    refuses_after_upstream(
        &(rule("a*", "anyone") + &rule("a*", "nobody")),
        "pogo.toml:7: channel.pattern: \"a*\" has a rule already",
    );
    refuses_after_upstream(
        &rule("a*", "authenticated"),
        "pogo.toml:5: channel.publish: nothing checks tokens, so any would do; set auth.verify or \
         [auth.jwt]",
    );
    for (lines, message) in [
        ("publish = \"ask\"", "2: channel.ask: \"ask\" needs the path where the upstream is asked"),
        (
            "publish = \"anyone\"\nask = \"/may\"",
            "6: channel.ask: nobody is asked for: neither subscribe nor publish is \"ask\"",
        ),
        (
            "publish = \"ask\"\nask = \"may\"",
            "6: channel.ask: found \"may\", expected a path such as \"/live\", without a query or a \
             pattern",
        ),
        (
            "publish = \"anyone\"\npresence_subject = true",
            "6: channel.presence_subject: nobody is shown without presence",
        ),
        (
            "publish = \"anyone\"\npresence = true\npresence_subject = true",
            "7: channel.presence_subject: only a JWT that is checked has a subject; set [auth.jwt]",
        ),
        (
            "publish = \"anyone\"\nhistory = 0",
            "6: channel.history.count: found 0, expected 1 or more",
        ),
        (
            "publish = \"anyone\"\nhistory = 10001",
            "6: channel.history.count: at most 10000 events of one channel are kept",
        ),
        (
            "publish = \"anyone\"\nhistory = { ttl = \"0s\" }",
            "6: channel.history.ttl: found 0s, expected a duration longer than zero",
        ),
        (
            "publish = \"anyone\"\nhistory = \"all\"",
            "6: channel.history: found \"all\", expected a number of events, or { count, ttl, bytes }",
        ),
        (
            "publish = \"anyone\"\noverflow = \"drop\"",
            "6: channel.overflow: found \"drop\", expected \"lost\" or \"close\"",
        ),
    ] {
        let lines = format!("[[channel]]\npattern = \"a\"\nsubscribe = \"anyone\"\n{lines}\n");
        refuses_after_upstream(&lines, &format!("pogo.toml:{message}"));
    }
}

#[test]
fn tokens_are_checked_in_one_way_or_not_at_all() {
    for (lines, message) in [
        (
            "[auth]\nrequired = true",
            "3: auth.required: nothing checks tokens, so any would do; set auth.verify or [auth.jwt]",
        ),
        (
            "[auth]\nexpires_pointer = \"/exp\"",
            "3: auth.expires_pointer: it points into the answer of auth.verify, which is not set",
        ),
        (
            "[auth]\nverify = \"/me\"\nexpires_pointer = \"exp\"",
            "4: auth.expires_pointer: found \"exp\", expected a JSON pointer such as \"/data/expires\"",
        ),
        (
            "[auth]\nverify = \"me\"",
            "3: auth.verify: found \"me\", expected a path on the upstream such as \"/me\"",
        ),
        (
            "[auth]\nverify = \"/me\"\n[auth.jwt]\nalgorithms = [\"HS256\"]\nsecret_file = \"s\"",
            "3: auth.verify: tokens are checked by it or by [auth.jwt], not both",
        ),
        (
            "[auth]\nlogout = [\"/logout\"]",
            "3: auth.logout: found \"/logout\", expected a method and a path such as \"POST /logout\"",
        ),
    ] {
        refuses_after_upstream(lines, &format!("pogo.toml:{message}"));
    }
}

#[test]
fn jwt_takes_one_key_that_fits_its_algorithms() {
    for (lines, message) in [
        (
            "algorithms = [\"HS256\"]",
            "2: auth.jwt: no key is given; expected one of secret_file, secret_env, \
             public_key_file, jwks_url",
        ),
        (
            "algorithms = [\"HS256\"]\nsecret_file = \"s\"\nsecret_env = \"S\"",
            "5: auth.jwt.secret_env: secret_file is given too; expected one key",
        ),
        (
            "algorithms = [\"RS256\", \"HS257\"]\nsecret_file = \"s\"",
            "3: auth.jwt.algorithms: found \"HS257\", expected \"HS256\" or \"HS384\" or \"HS512\" \
             or \"RS256\" or \"RS384\" or \"RS512\" or \"PS256\" or \"PS384\" or \"PS512\" or \
             \"ES256\" or \"ES384\" or \"EdDSA\"",
        ),
        (
            "algorithms = [\"HS256\"]\njwks_url = \"https://id.example/keys\"",
            "3: auth.jwt.algorithms: HS256 cannot be verified with a published key",
        ),
        (
            "jwks_url = \"https://me:hunter2@id.example/keys\"",
            "3: auth.jwt.jwks_url: a user name or password does not belong in this URL",
        ),
        (
            "algorithms = [\"HS256\"]\nsecret_file = \"none.key\"",
            "4: auth.jwt.secret_file: \"none.key\" cannot be read: No such file or directory (os \
             error 2)",
        ),
        (
            "algorithms = [\"HS256\"]\nsecret_env = \"POGO_TEST_UNSET\"",
            "4: auth.jwt.secret_env: the environment has no POGO_TEST_UNSET",
        ),
    ] {
        refuses_after_upstream(&format!("[auth.jwt]\n{lines}"), &format!("pogo.toml:{message}"));
    }
}

#[test]
fn a_key_that_cannot_be_used_is_refused() {
    let place = Place::with(&format!(
        "{UPSTREAM}[auth.jwt]\nalgorithms = [\"ES256\"]\npublic_key_file = \"jwt.pem\"\n"
    ));
    place.write("jwt.pem", "not a key");
    place.run(&["check"]).refused(
        "pogo.toml:4: auth.jwt.public_key_file: this is no public key in PEM of RSA, P-256, P-384 \
         or Ed25519",
    );
    let place = Place::with(&format!("{UPSTREAM}[auth.jwt]\nsecret_file = \"jwt.secret\"\n"));
    place.write("jwt.secret", "hunter2\n");
    place.run(&["check"]).refused(
        "pogo.toml:3: auth.jwt.secret_file: the secret has 7 bytes and could be guessed; at least \
         32 are needed (RFC 7518 §3.2)",
    );
    let place = Place::with(&format!("{UPSTREAM}[auth.jwt]\nsecret_env = \"POGO_TEST_SECRET\"\n"));
    let mut command = place.pogo(&["check"]);
    Ended::of(command.env("POGO_TEST_SECRET", "x").output().unwrap()).refused(
        "pogo.toml:3: auth.jwt.secret_env: the secret has 1 bytes and could be guessed; at least \
         32 are needed (RFC 7518 §3.2)",
    );
}

#[test]
fn a_secret_is_read_beside_its_file_and_never_printed() {
    let place = Place::new();
    std::fs::create_dir(place.0.join("etc")).unwrap();
    let text =
        format!("{UPSTREAM}[auth.jwt]\nalgorithms = [\"HS256\"]\nsecret_file = \"jwt.secret\"\n");
    place.write("etc/my.toml", text);
    place.write("etc/jwt.secret", "hunter2".repeat(5) + "\n");
    let ended = place.run(&["check", "--config", "etc/my.toml"]);
    let effective = ended.effective();
    assert_eq!(effective["auth"]["jwt"]["secret_file"].as_str(), Some("jwt.secret"));
    assert!(!ended.out.contains("hunter2"), "{}", ended.out);
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_refused() {
    let place = Place::new();
    let missing = "none.toml: cannot be read: No such file or directory (os error 2)";
    place.run(&["check", "--config", "none.toml", "--upstream", "http://a"]).refused(missing);
    let named = Ended::of(place.pogo(&["check"]).env("POGO_CONFIG", "none.toml").output().unwrap());
    named.refused(missing);
    std::fs::create_dir(place.0.join("pogo.toml")).unwrap();
    let directory = place.run(&["check", "--upstream", "http://a"]);
    directory.refused("pogo.toml: cannot be read: Is a directory (os error 21)");
    refuses_after_upstream("workers = 1\nworkers = 2", "pogo.toml:3: duplicate key");
    let place = Place::with("");
    place.write("pogo.toml", b"# \xff");
    place.run(&["check"]).refused("pogo.toml: cannot be read: stream did not contain valid UTF-8");
}

#[test]
fn an_option_beats_the_environment_which_beats_the_file() {
    let place = Place::with("upstream = \"http://file\"\nlisten = \"127.0.0.1:1\"\nworkers = 1");
    let with = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = place.pogo(arguments);
        command.envs(variables.iter().copied());
        let effective = Ended::of(command.output().unwrap()).effective();
        ["upstream", "listen", "workers"].map(|key| effective[key].to_string().replace('"', ""))
    };
    let variables = [("POGO_UPSTREAM", "http://environment"), ("POGO_LISTEN", "127.0.0.1:2")];
    let options = ["check", "--upstream", "http://option", "--listen=127.0.0.1:3", "--workers=3"];
    assert_eq!(with(&["check"], &[]), ["http://file", "127.0.0.1:1", "1"]);
    assert_eq!(with(&["check"], &variables), ["http://environment", "127.0.0.1:2", "1"]);
    assert_eq!(with(&options, &variables), ["http://option", "127.0.0.1:3", "3"]);

    place.write("other.toml", "upstream = \"http://other\"");
    let other = with(&["check"], &[("POGO_CONFIG", "other.toml")]);
    assert_eq!(other, ["http://other", "127.0.0.1:8080", "0"]);
    let file = with(&["check", "--config", "pogo.toml"], &[("POGO_CONFIG", "other.toml")]);
    assert_eq!(file, ["http://file", "127.0.0.1:1", "1"]);
}

#[test]
fn a_mistake_outside_the_file_names_its_source() {
    let place = Place::new();
    let listen = r#"expected an IP address and a port such as "127.0.0.1:8080" or "[::]:8080""#;
    let url = r#"expected a URL such as "http://127.0.0.1:3000""#;
    place
        .run(&["check", "--upstream", "localhost"])
        .refused(&format!("--upstream: found \"localhost\", {url}"));
    place
        .run(&["--upstream", "http://a", "--workers", "x"])
        .refused("--workers: found \"x\", expected a whole number");
    let mut command = place.pogo(&["--upstream", "http://a"]);
    let ended = Ended::of(command.env("POGO_LISTEN", "").output().unwrap());
    ended.refused(&format!("POGO_LISTEN: found \"\", {listen}"));
}

#[test]
fn with_an_upstream_no_file_is_needed() {
    let effective = Place::new().run(&["check", "--upstream", "http://localhost:3000"]).effective();
    assert_eq!(effective["upstream"].as_str(), Some("http://localhost:3000"));
    assert_eq!(effective["limits"]["header_bytes"].as_str(), Some("64KiB"));
}

#[test]
fn the_shipped_file_starts() {
    Place::with(include_str!("../pogo.toml")).run(&["check"]).effective();
}

#[test]
fn help_mentions_every_option_and_command() {
    let place = Place::new();
    for (arguments, mentioned) in [
        (
            &["--help"][..],
            &[
                "--config",
                "--upstream",
                "--listen",
                "--workers",
                "--version",
                "check",
                "watch",
                "POGO_CONFIG",
                "POGO_UPSTREAM",
                "POGO_LISTEN",
                "64",
            ][..],
        ),
        (&["check", "--help"], &["--config", "--upstream", "--listen", "--workers"]),
        (&["watch", "--help"], &["<URI>", "--url", "--token", "POGO_TOKEN"]),
    ] {
        let ended = place.run(arguments);
        assert_eq!((ended.err.as_str(), ended.code), ("", Some(0)));
        for word in mentioned {
            assert!(ended.out.contains(word), "{arguments:?} says nothing of {word}");
        }
    }
    let version = place.run(&["--version"]);
    assert_eq!(version.out, format!("pogo {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_argument_ends_with_64() {
    let ended = Place::new().run(&["--upsteam", "http://a"]);
    assert_eq!(ended.code, Some(64));
    assert!(ended.err.contains("--upstream"), "{}", ended.err);
    let ended = Place::new().run(&["--workers", "1", "check"]);
    assert_eq!(
        ended.code,
        Some(64),
        "an option before the command would be ignored: {}",
        ended.err
    );
}

const PATIENCE: Duration = Duration::from_secs(20);

/// A running `pogo`, killed if the test gives up on it.
struct Running {
    child: Child,
    log: Receiver<String>,
}

impl Running {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut child = place.pogo(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (send, log) = sync_channel(1024);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Self { child, log }
    }

    /// The next line of the log, which comes soon or is an error.
    #[track_caller]
    fn logged(&self) -> String {
        self.log.recv_timeout(PATIENCE).expect("a line in the log")
    }

    /// The rest of the log; it ends with the program.
    #[track_caller]
    fn ended(&self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => panic!("the program does not end: {rest:?}"),
            }
        }
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(killed.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
    }
}

#[test]
fn operators_need_a_good_token_wherever_others_can_reach_the_listener() {
    for (lines, message) in [
        (
            "[admin]\nlisten = \"0.0.0.0:9180\"",
            "pogo.toml:3: admin.listen: others than this machine can reach this address, so \
             token_file must be set",
        ),
        ("[admin]\nlisten = \"127.0.0.1:8080\"", "pogo.toml:3: admin.listen: it equals listen"),
        (
            "[admin]\ntoken_fil = \"x\"",
            "pogo.toml:3: unknown key \"token_fil\" in [admin]; did you mean \"token_file\"?",
        ),
        (
            "[admin]\nhosts = [\"pogo:80\"]",
            "pogo.toml:3: admin.hosts: found \"pogo:80\", expected a host name without a port \
             such as \"pogo.internal\"",
        ),
    ] {
        refuses_after_upstream(lines, message);
    }
    let place = Place::with(&format!("{UPSTREAM}[admin]\ntoken_file = \"token\""));
    for (token, message) in [
        ("fifteen-letters\n", "a token has 16 bytes or more"),
        ("two words of enough\n", "a token is one word of visible ASCII characters"),
    ] {
        place.write("token", token);
        place.run(&["check"]).refused(&format!("pogo.toml:3: admin.token_file: {message}"));
    }
    place.write("token", "sixteen-letters!\n");
    let effective = place.run(&["check"]).effective();
    assert_eq!(effective["admin"]["token_file"].as_str(), Some("token"));
    assert!(!effective.to_string().contains("sixteen-letters!"));
}

#[test]
fn a_signal_ends_the_program_well() {
    let place = Place::new();
    for name in ["-TERM", "-INT"] {
        let arguments = ["--upstream", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"];
        let mut running = Running::start(&place, &arguments);
        let first = running.logged();
        assert!(first.contains("listening"), "{first}");
        running.signal(name);
        running.ended();
        assert_eq!(running.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_second_signal_does_not_wait_for_the_drain() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&upstream).set_read_timeout(Some(PATIENCE)).unwrap();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    let place = Place::with("listen = \"127.0.0.1:0\"\n[log]\nformat = \"json\"");
    let mut running = Running::start(&place, &["--upstream", &url]);
    let listening: serde_json::Value = serde_json::from_str(&running.logged()).unwrap();
    let address = listening["address"].as_str().unwrap();

    // A request that the upstream holds, so that the drain has something to wait for.
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let (held, _) = upstream.accept().unwrap();
    running.signal("-TERM");
    let draining = running.logged();
    assert!(draining.contains("draining"), "{draining}");
    running.signal("-TERM");
    running.ended();
    assert_eq!(running.child.wait().unwrap().code(), Some(128 + 15));
    drop(held);
}

#[test]
fn the_log_is_json_when_asked() {
    let place =
        Place::with(&format!("listen = \"127.0.0.1:0\"\n{UPSTREAM}[log]\nformat = \"json\""));
    let running = Running::start(&place, &[]);
    let line: serde_json::Value = serde_json::from_str(&running.logged()).unwrap();
    assert_eq!(line["level"], "INFO");
}

#[test]
fn each_request_has_a_line_in_the_log_only_when_asked() {
    for access in [true, false] {
        let place = Place::with(&format!(
            "listen = \"127.0.0.1:0\"\nupstream = \"http://127.0.0.1:1\"\n\
             [log]\nformat = \"json\"\naccess = {access}"
        ));
        let running = Running::start(&place, &[]);
        let listening: serde_json::Value = serde_json::from_str(&running.logged()).unwrap();
        let mut client = TcpStream::connect(listening["address"].as_str().unwrap()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
            .write_all(b"GET /posts?token=x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        running.signal("-TERM");
        let log = running.ended();
        let lines: Vec<_> = log.iter().filter(|line| line.contains("pogo::access")).collect();
        assert_eq!(lines.len(), usize::from(access), "{log:?}");
        for line in lines {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((&line["path"], &line["status"]), (&"/posts".into(), &502.into()));
            assert_eq!((&line["method"], &line["client"]), (&"GET".into(), &"127.0.0.1".into()));
        }
    }
}

#[test]
fn an_address_in_use_is_told_and_is_no_configuration_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let ended = Place::new().run(&["--upstream", "http://127.0.0.1:1", "--listen", &listen]);
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.err.lines().last(),
        Some(&*format!("cannot listen on {listen}: Address already in use (os error 98)"))
    );
    let place =
        Place::with(&format!("listen = \"127.0.0.1:0\"\n{UPSTREAM}[admin]\nlisten = \"{listen}\""));
    let ended = place.run(&[]);
    assert_eq!(ended.code, Some(1));
    let told = format!(
        "cannot start: cannot listen on {listen} (admin.listen): Address already in use (os error 98)"
    );
    assert_eq!(ended.err.lines().last(), Some(&*told));
}
