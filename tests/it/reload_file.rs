//! The program and its configuration file: read again when it changes, and when it is asked to.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Api, Launch, PATIENCE, Process, Socket, Wire};

const DONE: &str = "the configuration was reloaded";
const FAILED: &str = "the configuration was not taken; the last one holds";

const FIRST: &str = "0123456789abcdef";
const SECOND: &str = "fedcba9876543210";
const ONE: &str = "one, and long enough to be a secret";
const TWO: &str = "two, and long enough to be a secret";
const THREE: &str = "three, and long enough to be a secret";

/// With an operator's listener that has this token.
const OPERATED: &str = "[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"admin.token\"\n";

/// The status that an operator with this token is answered with.
fn operator(admin: SocketAddr, token: &str) -> u16 {
    let mut wire = Wire::connect(admin);
    wire.send(format!(
        "GET /sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    ));
    wire.message().status()
}

/// The configuration of a running program, with more at its end.
fn changed(process: &Process, more: &str) -> String {
    std::fs::read_to_string(process.folder().join("pogo.toml")).unwrap() + more
}

/// As an editor does: a new file in the place of the old one.
fn put(process: &Process, name: &str, text: &str) {
    let place = process.folder().join(name);
    std::fs::write(place.with_extension("new"), text).unwrap();
    std::fs::rename(place.with_extension("new"), place).unwrap();
}

fn post(process: &Process) -> u16 {
    process.ask("POST", "/posts", "0123456789").message().status()
}

#[test]
fn a_file_that_changes_is_taken_without_a_signal() {
    let api = Api::start();
    let process = Launch::default().before(api.address());
    assert_eq!(post(&process), 201);
    let good = changed(&process, "[limits]\nbody_bytes = 9\n");
    put(&process, "pogo.toml", &good);
    process.line(DONE);
    assert_eq!(post(&process), 413);
    let mut socket = Socket::try_open(process.address(), "/", &[]).unwrap();
    put(&process, "pogo.toml", &good.replace("body_bytes = 9", "body_bytes = 0\nnonsense = 1"));
    let line = process.line(FAILED);
    let error = line["error"].as_str().unwrap();
    let number = good.lines().count() + 1;
    assert!(error.starts_with(&format!("pogo.toml:{number}: ")), "{error}");
    assert!(error.contains("nonsense"), "{error}");
    assert_eq!(line["check"], "pogo check --config pogo.toml");
    assert_eq!(post(&process), 413, "the last one holds");
    std::fs::remove_file(process.folder().join("pogo.toml")).unwrap();
    assert!(process.line(FAILED)["error"].as_str().unwrap().contains("cannot be read"));
    put(&process, "pogo.toml", &good.replace("body_bytes = 9", "body_bytes = 0"));
    process.line(DONE);
    assert_eq!(post(&process), 201);
    socket.must(json!({"event": "ping"}));
}

#[test]
fn a_signal_has_everything_read_again_and_is_not_the_end() {
    let api = Api::start();
    let files = [("admin.token", FIRST)];
    let launch = Launch { configuration: OPERATED, files: &files, ..Launch::default() };
    let mut process = launch.before(api.address());
    let admin = process.address_of("operators are listened to");
    assert_eq!(operator(admin, FIRST), 200);
    put(&process, "admin.token", SECOND);
    process.signal("-HUP");
    process.line(DONE);
    assert_eq!((operator(admin, FIRST), operator(admin, SECOND)), (401, 200));
    put(&process, "admin.token", "short");
    process.signal("-HUP");
    assert!(process.line(FAILED)["error"].as_str().unwrap().contains("token"));
    assert_eq!(operator(admin, SECOND), 200);
    process.signal("-TERM");
    let (log, code) = process.ended();
    assert_eq!(code, Some(0), "{log:?}");
}

#[test]
fn a_secret_that_changes_alone_is_taken_without_a_signal() {
    let api = Api::start();
    let files = [("admin.token", FIRST)];
    let launch = Launch { configuration: OPERATED, files: &files, ..Launch::default() };
    let process = launch.before(api.address());
    let admin = process.address_of("operators are listened to");
    let mut socket = Socket::try_open(process.address(), "/", &[]).unwrap();
    assert_eq!(operator(admin, FIRST), 200);
    put(&process, "admin.token", SECOND);
    process.line(DONE);
    assert_eq!((operator(admin, FIRST), operator(admin, SECOND)), (401, 200));
    put(&process, "admin.token", "short");
    assert!(process.line(FAILED)["error"].as_str().unwrap().contains("token"));
    assert_eq!(operator(admin, SECOND), 200, "the last one holds");
    // In place, as `echo` does.
    std::fs::write(process.folder().join("admin.token"), FIRST).unwrap();
    process.line(DONE);
    assert_eq!((operator(admin, FIRST), operator(admin, SECOND)), (200, 401));
    socket.must(json!({"event": "ping"}));
}

#[test]
fn a_file_that_a_configuration_was_refused_for_is_waited_for() {
    let api = Api::start();
    let process = Launch::default().before(api.address());
    let text = changed(&process, "[gate]\ndeny_file = \"deny.txt\"\n");
    put(&process, "pogo.toml", &text);
    assert!(process.line(FAILED)["error"].as_str().unwrap().contains("deny.txt"));
    assert_eq!(post(&process), 201);
    put(&process, "deny.txt", "127.0.0.0/8\n");
    process.line(DONE);
    assert_eq!(post(&process), 403);
}

#[test]
fn the_files_that_are_followed_are_those_of_the_configuration_that_holds() {
    let api = Api::start();
    let secrets = [("one.secret", ONE), ("two.secret", TWO)];
    let configuration = "[auth.jwt]\nsecret_file = \"one.secret\"\n";
    let launch = Launch { configuration, files: &secrets, ..Launch::default() };
    let process = launch.before(api.address());
    let open = || Socket::try_open(process.address(), "/", &[]).unwrap();
    let auth = |secret: &str| {
        let claims = json!({"sub": "a", "exp": 4_000_000_000_u64});
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        open().ask(json!({"event": "auth", "data": {"token": token}}))["status"] == "ok"
    };
    assert_eq!((auth(ONE), auth(TWO), auth(THREE)), (true, false, false));
    let text = changed(&process, "").replace("one.secret", "two.secret");
    put(&process, "pogo.toml", &text);
    process.line(DONE);
    assert_eq!((auth(ONE), auth(TWO), auth(THREE)), (false, true, false));
    put(&process, "two.secret", THREE);
    process.line(DONE);
    assert_eq!((auth(ONE), auth(TWO), auth(THREE)), (false, false, true));
}

#[test]
fn what_needs_a_restart_is_named_and_the_log_changes_its_level_and_form() {
    let api = Api::start();
    let process = Launch { workers: 1, ..Launch::default() }.before(api.address());
    let text = changed(&process, "").replace("workers = 1", "workers = 2");
    put(&process, "pogo.toml", &text.replace("access = false", "access = true\nlevel = \"debug\""));
    process.line(DONE);
    assert_eq!(process.line("this option changes with a restart only")["option"], "workers");
    assert_eq!(process.ask("GET", "/posts", "").message().status(), 200);
    assert_eq!(process.line("request")["path"], "/posts");
    put(&process, "pogo.toml", &text.replace("\"json\"", "\"text\""));
    // Lines that are no JSON are texts as they stand.
    loop {
        let line = process.next_line();
        if line.as_str().is_some_and(|text| text.contains(DONE)) {
            break;
        }
    }
}

#[test]
fn a_file_is_followed_through_the_links_that_kubernetes_swaps() {
    let api = Api::start();
    let process = Launch::default().before(api.address());
    let folder = process.folder().to_owned();
    let link = |to: &Path, from: &Path| {
        let beside = folder.join("link.new");
        std::os::unix::fs::symlink(to, &beside).unwrap();
        std::fs::rename(beside, from).unwrap();
    };
    let text = changed(&process, "[limits]\nbody_bytes = 9\n");
    for (version, bytes) in [("..1", "body_bytes = 9"), ("..2", "body_bytes = 0")] {
        std::fs::create_dir(folder.join(version)).unwrap();
        let text = text.replace("body_bytes = 9", bytes);
        std::fs::write(folder.join(version).join("pogo.toml"), text).unwrap();
    }
    link(Path::new("..1"), &folder.join("..data"));
    link(Path::new("..data/pogo.toml"), &folder.join("pogo.toml"));
    process.line(DONE);
    assert_eq!(post(&process), 413);
    link(Path::new("..2"), &folder.join("..data"));
    process.line(DONE);
    assert_eq!(post(&process), 201);
}

#[test]
fn signals_in_quick_succession_end_in_what_is_there_last() {
    let api = Api::start();
    let process = Launch::default().before(api.address());
    let text = changed(&process, "[limits]\nbody_bytes = ");
    for number in (0..20).rev() {
        put(&process, "pogo.toml", &format!("{text}{number}\n"));
        process.signal("-HUP");
    }
    put(&process, "pogo.toml", &format!("{text}9\n"));
    process.signal("-HUP");
    let end = Instant::now() + PATIENCE;
    while post(&process) != 413
        || process.ask("POST", "/posts", "123456789").message().status() != 201
    {
        assert!(Instant::now() < end, "the last one does not hold");
    }
}

#[test]
fn the_service_manager_is_told_of_a_reload_and_none_is_done_while_draining() {
    let api = Api::start();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("notify-reload-{}", std::process::id()));
    let manager = UnixDatagram::bind(&place).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let variables = [("NOTIFY_SOCKET", &*place)];
    let mut process = Launch { variables: &variables, ..Launch::default() }.before(api.address());
    let told = || {
        let mut bytes = [0; 256];
        let count = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).trim().to_owned()
    };
    assert_eq!(told(), "READY=1");
    process.signal("-HUP");
    let reloading = told();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(told(), format!("READY=1\nSTATUS={DONE}"));
    api.hold("GET /slow");
    let mut slow = process.ask("GET", "/slow", "");
    api.wait_held();
    process.signal("-TERM");
    assert_eq!(told(), "STOPPING=1");
    process.signal("-HUP");
    process.line("draining; the configuration is not reloaded");
    api.release();
    assert_eq!(slow.message().status(), 200);
    assert_eq!(process.ended().1, Some(0));
    std::fs::remove_file(place).unwrap();
}
