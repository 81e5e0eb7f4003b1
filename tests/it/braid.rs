//! A view at the resource's own URI, as Braid-HTTP. The parser is the reference client's, rule by
//! rule: what it does not take is not sent.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Message, Operator, Pogo, Reply, Wire, start, start_of_two};

/// A client of one subscription.
struct Braid {
    wire: Wire,
    head: Message,
    input: Vec<u8>,
    text: String,
}

#[derive(Debug, PartialEq)]
struct Update {
    status: Option<u16>,
    version: Vec<String>,
    media_type: Option<String>,
    body: Vec<u8>,
}

impl Update {
    fn json(&self) -> Value {
        assert_eq!(self.media_type.as_deref(), Some("application/json"));
        assert_eq!(self.status, Some(200));
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Braid {
    fn subscribe(pogo: &Pogo, path: &str, fields: &[(&str, &str)]) -> Self {
        let fields: String = fields.iter().map(|(name, it)| format!("{name}: {it}\r\n")).collect();
        let mut wire = pogo.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: api\r\nAccept: */*\r\nSubscribe: ?1\r\n{fields}\r\n"
        ));
        let head = wire.head();
        assert_eq!(head.start, "HTTP/1.1 209 Multiresponse", "{head:?}");
        assert_eq!(head.one("subscribe").as_deref(), Some("?1"));
        assert_eq!(head.one("content-type").as_deref(), Some("application/http-history"));
        Self { wire, head, input: Vec::new(), text: String::new() }
    }

    fn update(&mut self) -> Update {
        loop {
            if let Some(update) = self.parse() {
                return update;
            }
            assert!(self.read(), "the subscription goes on");
        }
    }

    fn read(&mut self) -> bool {
        let Some(chunk) = self.wire.chunk() else { return false };
        self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        self.input.extend(chunk);
        true
    }

    fn parse(&mut self) -> Option<Update> {
        let blank = self.input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.input.drain(..blank);
        let end = self.input.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8(self.input[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n").peekable();
        let status = lines.next_if(|line| line.starts_with("HTTP "));
        let status = status.map(|line| line[5..8].parse().unwrap());
        let mut update = Update { status, version: vec![], media_type: None, body: vec![] };
        let mut length = None;
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a field");
            match name.to_ascii_lowercase().as_str() {
                "version" => update.version = serde_json::from_str(&format!("[{value}]")).unwrap(),
                "content-type" => update.media_type = Some(value.to_owned()),
                "content-length" => length = Some(value.parse::<usize>().unwrap()),
                other => panic!("{other} says what is not known"),
            }
        }
        let length = length.expect("an update says how long it is");
        if self.input.len() < end + 4 + length {
            return None;
        }
        update.body = self.input[end + 4..end + 4 + length].to_vec();
        self.input.drain(..end + 4 + length);
        Some(update)
    }

    fn assert_ended(&mut self) {
        while self.read() {}
        assert_eq!(self.parse(), None);
        assert!(self.input.is_empty(), "{:?}", String::from_utf8_lossy(&self.input));
    }
}

fn put(pogo: &Pogo, path: &str, value: &Value) {
    assert_eq!(pogo.write("PUT", path, value), 200);
}

#[test]
fn a_subscription_brings_the_state_and_what_becomes_of_it() {
    let (api, pogo) = start_of_two(|_| ());
    api.put("/posts/1", json!({"n": 1, "text": "a\r\n\r\nb"}));
    let mut client = Braid::subscribe(&pogo, "/posts/1", &[]);
    let first = client.update();
    assert_eq!(first.json(), json!({"n": 1, "text": "a\r\n\r\nb"}));
    let [version] = &first.version[..] else { panic!("{first:?}") };
    assert_eq!(client.head.one("current-version"), Some(format!("\"{version}\"")));
    put(&pogo, "/posts/1", &json!({"n": 2}));
    assert_eq!(client.update().json(), json!({"n": 2}));
    assert_eq!(pogo.write("DELETE", "/posts/1", &json!(null)), 204);
    let gone = client.update();
    assert_eq!((gone.status, gone.body), (Some(404), vec![]));
    put(&pogo, "/posts/1", &json!({"n": 1, "text": "a\r\n\r\nb"}));
    assert_eq!(client.update(), first, "an equal state has an equal version");
}

#[test]
fn who_returns_with_the_latest_version_is_not_told_it_again() {
    let (api, pogo) = start(|_| ());
    api.on("GET /posts/1", |_, usual| {
        let reply = usual?;
        let tag = format!("\"tag, \\ {}\"", reply.body);
        Some(reply.with("ETag", &tag))
    });
    api.put("/posts/1", json!(1));
    let mut client = Braid::subscribe(&pogo, "/posts/1", &[]);
    let version = client.update().version;
    assert_eq!(version, ["tag, \\ 1"]);
    let parents = json!(version[0]).to_string();
    let mut again = Braid::subscribe(&pogo, "/posts/1", &[("Parents", &parents)]);
    put(&pogo, "/posts/1", &json!(2));
    assert_eq!(again.update().json(), json!(2));
    for parents in [&*parents, "\"tag, \\\\ 2\", \"another\"", "\"unknown\""] {
        let mut late = Braid::subscribe(&pogo, "/posts/1", &[("Parents", parents)]);
        assert_eq!(late.update().json(), json!(2), "{parents}");
    }
}

#[test]
fn the_api_answers_first_and_what_is_no_state_passes_as_it_is() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!(1));
    api.on("GET /own", |_, _| {
        let body = "Version: \"a\"\r\nContent-Length: 1\r\n\r\n1\r\n\r\n".to_owned();
        Some(Reply { status: 209, headers: vec![("Subscribe".into(), "?1".into())], body })
    });
    for (path, fields, status) in [
        ("/posts/9", "Subscribe: ?1\r\n", 404),
        ("/own", "Subscribe: ?1\r\n", 209),
        ("/posts/1", "Subscribe: ?0\r\n", 200),
        ("/posts/1", "Subscribe: ?1\r\nVersion: \"a\"\r\n", 200),
    ] {
        let mut wire = pogo.ask(&format!("GET {path} HTTP/1.1\r\nHost: api\r\n{fields}\r\n"));
        let answer = wire.message();
        assert_eq!(answer.status(), status, "{path} {fields}");
        assert_eq!(answer.one("current-version"), None, "{path} {fields}");
    }
    let seen = &api.seen("GET /own")[0];
    assert_eq!(seen.header("subscribe"), Some("?1"));
}

#[test]
fn each_sees_what_its_own_credential_may_see_and_is_let_go_when_it_may_not() {
    let (api, pogo) = start(|_| ());
    api.on("GET /posts/1", |seen, usual| {
        let who = seen.header("authorization")?;
        Some(Reply::new(200, &json!({"for": who, "was": usual?.body})))
    });
    api.put("/posts/1", json!(1));
    let mut alice = Braid::subscribe(&pogo, "/posts/1", &[("Authorization", "alice")]);
    let mut bob = Braid::subscribe(&pogo, "/posts/1", &[("Authorization", "bob")]);
    assert_eq!(alice.update().json(), json!({"for": "alice", "was": "1"}));
    assert_eq!(bob.update().json(), json!({"for": "bob", "was": "1"}));
    put(&pogo, "/posts/1", &json!(2));
    assert_eq!(alice.update().json(), json!({"for": "alice", "was": "2"}));
    assert_eq!(bob.update().json(), json!({"for": "bob", "was": "2"}));
    api.on("GET /posts/1", |seen, _| {
        let status = if seen.header("authorization") == Some("bob") { 403 } else { 200 };
        Some(Reply::new(status, &json!("secret")))
    });
    put(&pogo, "/posts/1", &json!(3));
    assert_eq!(alice.update().json(), json!("secret"));
    bob.assert_ended();
    assert!(!bob.text.contains("secret") && !bob.text.contains("alice"), "{}", bob.text);
}

#[test]
fn blank_lines_come_as_often_as_the_client_wants() {
    let (api, mut pogo) = start(|options| {
        options.subscription.heartbeat = Duration::from_secs(60);
        Operator::admit(options);
    });
    api.put("/posts/1", json!(1));
    let mut client = Braid::subscribe(&pogo, "/posts/1", &[("Heartbeats", "0.1s")]);
    assert_eq!(client.head.one("heartbeats").as_deref(), Some("1s"), "not as often as that");
    assert_eq!(client.update().json(), json!(1));
    client.input.clear();
    assert!(client.read());
    assert_eq!(client.input, b"\r\n");
    assert_eq!(Operator::of(&pogo).metric("pogo_subscriptions{way=\"braid\"}"), 1.0);
    let draining = pogo.drain();
    client.assert_ended();
    draining.join().unwrap().unwrap();
}
