//! A view at the resource's own URI, as Per-Resource Events: the representation, and notifications.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::harness::{Message, Pogo, Reply, Wire, start, start_of_two};

/// A client of one response, which takes its parts apart as RFC 2046 §5.1 says.
struct Prep {
    wire: Wire,
    head: Message,
    text: String,
}

impl Prep {
    fn open(pogo: &Pogo, fields: &[(&str, &str)]) -> Self {
        let fields: String = fields.iter().map(|(name, it)| format!("{name}: {it}\r\n")).collect();
        let mut wire = pogo.ask(&format!(
            "GET /posts/1 HTTP/1.1\r\nHost: api\r\nAccept-Events: \"prep\"\r\n{fields}\r\n"
        ));
        let head = wire.head();
        assert_eq!(head.status(), 200, "{head:?}");
        let media_type = head.one("content-type").unwrap();
        assert_eq!(media_type, "multipart/mixed; boundary=\"pogo-parts\"");
        Self { wire, head, text: String::new() }
    }

    /// Takes everything up to the next delimiter; what follows it decides what it is.
    fn until(&mut self, delimiter: &str) -> String {
        loop {
            if let Some((before, after)) = self.text.split_once(delimiter) {
                let (before, after) = (before.to_owned(), after.to_owned());
                self.text = after;
                return before;
            }
            let chunk = self.wire.chunk().expect("the response goes on");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The first part: its media type and its body.
    fn representation(&mut self) -> (String, String) {
        assert_eq!(self.until("--pogo-parts\r\n"), "");
        let part = self.until("\r\n--pogo-parts\r\n");
        let (head, body) = part.split_once("\r\n\r\n").unwrap();
        let media_type = head.strip_prefix("Content-Type: ").unwrap();
        let digest = self.until("\r\n\r\n");
        assert_eq!(digest, "Content-Type: multipart/digest; boundary=\"pogo-events\"");
        assert_eq!(self.until("--pogo-events"), "");
        (media_type.to_owned(), body.to_owned())
    }

    /// The fields of the next notification, which has no body.
    fn notification(&mut self) -> Vec<(String, String)> {
        // The whole message is here when the delimiter after it is, in the same chunk.
        let part = self.until("\r\n--pogo-events");
        let message = part.strip_prefix("\r\n\r\n").expect("a part without fields of its own");
        let fields = message.strip_suffix("\r\n\r\n").expect("a message without a body");
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        fields.split("\r\n").map(field).collect()
    }

    /// Both bodies are closed, and then the response.
    fn assert_ended(&mut self) {
        while let Some(chunk) = self.wire.chunk() {
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        assert_eq!(self.text, "--\r\n--pogo-parts--\r\n");
    }
}

fn put(pogo: &Pogo, value: &Value) {
    assert_eq!(pogo.write("PUT", "/posts/1", value), 200);
}

fn value<'f>(fields: &'f [(String, String)], name: &str) -> Option<&'f str> {
    let mut found = fields.iter().filter(|(other, _)| other == name);
    found.next().map(|(_, value)| value.as_str())
}

#[test]
fn the_representation_comes_first_and_then_a_notification_of_each_change() {
    let began = SystemTime::now();
    let (api, pogo) = start_of_two(|_| ());
    api.put("/posts/1", json!({"n": 1}));
    let mut client = Prep::open(&pogo, &[]);
    let head = client.head.clone();
    let events = head.one("events").unwrap();
    assert_eq!(events, "protocol=\"prep\", status=200, expires=3600");
    assert_eq!(head.all("vary"), ["Accept-Events, Last-Event-ID"]);
    assert_eq!(head.one("accept-events").unwrap(), "\"prep\"; accept=\"message/rfc822\"");
    assert!(head.one("date").is_some() && head.one("content-length").is_none());
    assert_eq!(client.representation(), ("application/json".into(), r#"{"n":1}"#.into()));
    put(&pogo, &json!({"n": 2}));
    let fields = client.notification();
    let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Method", "Date", "Event-ID"]);
    assert_eq!(value(&fields, "Method"), Some("PUT"));
    let date = httpdate::parse_http_date(value(&fields, "Date").unwrap()).unwrap();
    assert!(began <= date + Duration::from_secs(1) && date <= SystemTime::now(), "{date:?}");
    assert_eq!(pogo.write("DELETE", "/posts/1", &json!(null)), 204);
    assert_eq!(value(&client.notification(), "Method"), Some("DELETE"));
    client.assert_ended();
}

#[test]
fn a_notification_has_the_tag_of_the_new_representation() {
    let (api, pogo) = start(|_| ());
    api.on("GET /posts/1", |_, usual| {
        let reply = usual?;
        let tag = format!("\"of {}\"", reply.body);
        Some(reply.with("ETag", &tag).with("Last-Modified", "Sat, 01 Apr 2023 10:11:12 GMT"))
    });
    api.put("/posts/1", json!(1));
    let mut client = Prep::open(&pogo, &[]);
    assert_eq!(client.head.one("etag").as_deref(), Some("\"of 1\""));
    let modified = client.head.one("last-modified");
    assert_eq!(modified.as_deref(), Some("Sat, 01 Apr 2023 10:11:12 GMT"));
    client.representation();
    put(&pogo, &json!(2));
    let fields = client.notification();
    assert_eq!(value(&fields, "ETag"), Some("\"of 2\""));
    assert_eq!(value(&fields, "Event-ID"), Some("of 2"));
}

#[test]
fn who_has_the_representation_is_not_sent_it_again() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!(1));
    let mut client = Prep::open(&pogo, &[]);
    client.representation();
    put(&pogo, &json!(2));
    let fields = client.notification();
    let id = value(&fields, "Event-ID").unwrap();
    for held in [id, "*"] {
        let mut again = Prep::open(&pogo, &[("Last-Event-ID", held)]);
        assert_eq!(again.representation().1, "", "{held}");
    }
    let mut late = Prep::open(&pogo, &[("Last-Event-ID", "of another time")]);
    assert_eq!(late.representation().1, "2");
}

#[test]
fn each_is_notified_of_what_its_own_credential_may_see_and_shown_no_state() {
    let (api, pogo) = start(|_| ());
    api.on("GET /posts/1", |seen, usual| {
        let who = seen.header("authorization")?;
        let n: u64 = usual?.body.parse().unwrap();
        let n = if who == "bob" { n / 2 * 2 } else { n };
        Some(Reply::new(200, &json!({"n": n, "for": who})))
    });
    api.put("/posts/1", json!(2));
    let mut alice = Prep::open(&pogo, &[("Authorization", "alice")]);
    let mut bob = Prep::open(&pogo, &[("Authorization", "bob")]);
    assert_eq!(alice.representation().1, r#"{"for":"alice","n":2}"#);
    assert_eq!(bob.representation().1, r#"{"for":"bob","n":2}"#);
    put(&pogo, &json!(3));
    alice.notification();
    put(&pogo, &json!(4));
    alice.notification();
    bob.notification();
    assert!(bob.text.is_empty(), "one change that it may see, one notification: {}", bob.text);
}

#[test]
fn the_response_ends_when_it_said_and_with_a_shutdown() {
    let (api, mut pogo) = start(|_| ());
    api.put("/posts/1", json!(1));
    let mut stays = Prep::open(&pogo, &[]);
    stays.representation();
    pogo.reload(|options| options.subscription.max_lifetime = Some(Duration::from_secs(1)));
    let mut short = Prep::open(&pogo, &[]);
    assert_eq!(short.head.one("events").unwrap(), "protocol=\"prep\", status=200, expires=1");
    short.representation();
    short.assert_ended();
    let draining = pogo.drain();
    stays.assert_ended();
    draining.join().unwrap().unwrap();
}

#[test]
fn who_accepts_no_such_events_gets_the_representation_alone() {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!(1));
    for accepted in ["\"other\"", "\"prep\";q=0", "\"prep\";accept=\"text/turtle\"", "prep"] {
        let mut wire = pogo.ask(&format!(
            "GET /posts/1 HTTP/1.1\r\nHost: api\r\nAccept-Events: {accepted}\r\n\r\n"
        ));
        let answer = wire.message();
        assert_eq!((answer.text(), answer.one("events")), ("1", None), "{accepted}");
    }
    let mut wire =
        pogo.ask("GET /posts/9 HTTP/1.1\r\nHost: api\r\nAccept-Events: \"prep\"\r\n\r\n");
    assert_eq!(wire.message().status(), 404);
}
