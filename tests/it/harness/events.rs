use std::collections::VecDeque;

use serde_json::Value;

use super::{Message, Pogo, Wire};

/// A client of server-sent events that reads them by the letter of the standard (HTML §9.2.6).
pub struct Events {
    wire: Wire,
    pub head: Message,
    parser: Parser,
    seen: VecDeque<Seen>,
    /// Everything as it came, for what may not stand in it.
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `lastEventId` that it is dispatched with.
    pub id: String,
    pub name: String,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("data in JSON")
    }

    /// What it is and with what.
    pub fn said(&self) -> (&str, Value) {
        (&self.name, self.json())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Event(Event),
    Comment(String),
}

impl Events {
    pub fn open(pogo: &Pogo, path: &str) -> Self {
        Self::open_with(pogo, path, &[])
    }

    pub fn open_as(pogo: &Pogo, path: &str, token: &str) -> Self {
        Self::open_with(pogo, path, &[("Authorization", &format!("Bearer {token}"))])
    }

    pub fn open_with(pogo: &Pogo, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::open_on(pogo.connect(), path, headers)
    }

    pub fn open_on(wire: Wire, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::try_open_on(wire, path, headers).expect("it is answered with 200")
    }

    /// None when it is answered with another status than 200.
    pub fn try_open_on(mut wire: Wire, path: &str, headers: &[(&str, &str)]) -> Option<Self> {
        wire.send(Self::request("GET", path, headers));
        let head = wire.head();
        if head.status() != 200 {
            return None;
        }
        assert_eq!(head.one("content-type").as_deref(), Some("text/event-stream"));
        assert_eq!(head.one("transfer-encoding").as_deref(), Some("chunked"));
        let (parser, seen) = (Parser::default(), VecDeque::new());
        Some(Self { wire, head, parser, seen, text: String::new() })
    }

    pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nAccept: text/event-stream\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str("Host: api\r\n");
        }
        headers.iter().for_each(|(name, it)| head.push_str(&format!("{name}: {it}\r\n")));
        head + "\r\n"
    }

    /// The next event or comment; none at the end of the body.
    fn next(&mut self) -> Option<Seen> {
        while self.seen.is_empty() {
            let chunk = self.wire.chunk()?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
            self.parser.read(&chunk, &mut self.seen);
        }
        self.seen.pop_front()
    }

    /// The next event, past comments.
    pub fn event(&mut self) -> Event {
        self.try_event().expect("the stream goes on")
    }

    /// None at the end of the stream.
    pub fn try_event(&mut self) -> Option<Event> {
        loop {
            match self.next()? {
                Seen::Event(event) => return Some(event),
                Seen::Comment(_) => {}
            }
        }
    }

    /// The next comment; no event comes before it.
    pub fn comment(&mut self) -> String {
        match self.next().expect("the stream goes on") {
            Seen::Comment(comment) => comment,
            Seen::Event(event) => panic!("not a comment but {event:?}"),
        }
    }

    /// Asserts that no further event comes before the body ends as a body should.
    pub fn assert_ended(&mut self) {
        while let Some(seen) = self.next() {
            assert!(matches!(seen, Seen::Comment(_)), "not ended but {seen:?}");
        }
        assert_eq!(self.wire.trailers(), []);
    }

    /// After the end: the last that was said is when to come back, which the first thing that is
    /// said on any stream is too.
    pub fn assert_told_to_return(&self) {
        assert!(self.text.ends_with(": come back\n\n"), "{}", self.text);
        let retry = self.parser.retry;
        assert!(retry.is_some_and(|retry| (1000..=10_000).contains(&retry)), "{retry:?}");
    }

    /// How long a client waits before it comes back, in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        self.parser.retry
    }

    pub fn last_id(&self) -> &str {
        &self.parser.last_id
    }

    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

#[derive(Default)]
struct Parser {
    /// Of a line that has not ended.
    line: Vec<u8>,
    after_cr: bool,
    data: String,
    name: String,
    id: String,
    last_id: String,
    retry: Option<u64>,
}

impl Parser {
    fn read(&mut self, bytes: &[u8], seen: &mut VecDeque<Seen>) {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let after_cr = std::mem::replace(&mut self.after_cr, piece.ends_with(b"\r"));
            if after_cr && piece == b"\n" {
                continue;
            }
            match piece.strip_suffix(b"\n").or(piece.strip_suffix(b"\r")) {
                Some(last) => {
                    self.line.extend_from_slice(last);
                    let line = String::from_utf8(std::mem::take(&mut self.line)).unwrap();
                    self.line(&line, seen);
                }
                None => self.line.extend_from_slice(piece),
            }
        }
    }

    fn line(&mut self, line: &str, seen: &mut VecDeque<Seen>) {
        if line.is_empty() {
            return self.dispatch(seen);
        }
        if let Some(comment) = line.strip_prefix(':') {
            seen.push_back(Seen::Comment(comment.trim_start().to_owned()));
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = value.to_owned(),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry = value.parse().ok();
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, seen: &mut VecDeque<Seen>) {
        self.last_id.clone_from(&self.id);
        let (data, name) = (std::mem::take(&mut self.data), std::mem::take(&mut self.name));
        let Some(data) = data.strip_suffix('\n').map(str::to_owned) else { return };
        let name = if name.is_empty() { "message".into() } else { name };
        seen.push_back(Seen::Event(Event { id: self.last_id.clone(), name, data }));
    }
}
