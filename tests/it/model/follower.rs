//! A client that follows a view over plain HTTP, in one of the ways that there are, and comes back
//! whenever it is sent away. It reads what is there and waits only when it is told to.

use serde_json::Value;

use crate::harness::{Message, Pogo, Wire};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Events,
    Braid,
    Prep,
    LongPoll,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::Events, Self::Braid, Self::Prep, Self::LongPoll];
}

/// What it knows of the resource.
#[derive(Debug, Clone, PartialEq)]
enum Known {
    Nothing,
    State(Value),
    /// Only which version there is.
    Version(String),
    Gone,
    Refused(u16),
}

pub(super) struct Follower {
    way: Way,
    pub(super) user: usize,
    credential: String,
    path: String,
    wire: Option<Wire>,
    /// Its answer has begun.
    answered: bool,
    /// Of the body, what was not understood yet.
    rest: String,
    known: Known,
    version: Option<String>,
    /// Everything that came since this was looked at.
    pub(super) text: String,
    /// How many pieces of news there were, after the first state.
    pub(super) news: u64,
}

/// How often it may be sent away or told something else before what it is waited for has to be there.
const TURNS: usize = 500;

impl Follower {
    pub(super) fn new(way: Way, user: usize, token: &str) -> Self {
        Self {
            way,
            user,
            credential: format!("Authorization: Bearer {token}\r\n"),
            path: String::new(),
            wire: None,
            answered: false,
            rest: String::new(),
            known: Known::Nothing,
            version: None,
            text: String::new(),
            news: 0,
        }
    }

    /// Leaves what it follows without a word and follows this; if it is the same, from where it was.
    pub(super) fn follow(&mut self, pogo: &Pogo, path: String) {
        if path != self.path {
            (self.known, self.version) = (Known::Nothing, None);
        }
        self.path = path;
        self.ask(pogo);
    }

    /// If it was sent away.
    pub(super) fn come_back(&mut self, pogo: &Pogo) {
        if self.wire.is_none() && !self.path.is_empty() {
            self.ask(pogo);
        }
    }

    fn ask(&mut self, pogo: &Pogo) {
        let held = self.version.as_deref();
        let field = |name: &str, quote: &str| {
            held.map_or(String::new(), |version| format!("{name}: {quote}{version}{quote}\r\n"))
        };
        let fields = match self.way {
            Way::Events => {
                format!("Accept: text/event-stream\r\n{}", field("Last-Event-ID", ""))
            }
            Way::Braid => format!("Subscribe: ?1\r\n{}", field("Parents", "\"")),
            Way::Prep => format!("Accept-Events: \"prep\"\r\n{}", field("Last-Event-ID", "")),
            Way::LongPoll => format!("Prefer: wait=30\r\n{}", field("If-None-Match", "\"")),
        };
        let (path, credential) = (&self.path, &self.credential);
        self.wire = Some(
            pogo.ask(&format!("GET {path} HTTP/1.1\r\nHost: api\r\n{credential}{fields}\r\n")),
        );
        (self.answered, self.rest) = (false, String::new());
    }

    /// Takes in what has come.
    pub(super) fn look(&mut self) {
        while self.wire.as_mut().is_some_and(Wire::has_more) {
            self.read();
        }
    }

    /// Reads until it knows what a GET of its own is answered with, coming back as often as it is sent away.
    pub(super) fn come_to(&mut self, pogo: &Pogo, status: u16, body: &Value) -> Result<(), String> {
        for _ in 0..TURNS {
            self.look();
            if self.is_right(pogo, status, body) {
                return Ok(());
            }
            match self.wire {
                Some(_) => self.read(),
                None => self.ask(pogo),
            }
        }
        Err(format!(
            "{:?} of user {} knows {:?}, not {status} {body}",
            self.way, self.user, self.known
        ))
    }

    fn is_right(&self, pogo: &Pogo, status: u16, body: &Value) -> bool {
        match &self.known {
            Known::Nothing => false,
            Known::State(state) => status == 200 && state == body,
            Known::Version(version) => status == 200 && self.present(pogo) == Some(version.clone()),
            Known::Gone => status == 404,
            Known::Refused(refused) => *refused == status,
        }
    }

    /// The version that a GET of its own is answered with.
    fn present(&self, pogo: &Pogo) -> Option<String> {
        let (path, credential) = (&self.path, &self.credential);
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: api\r\n{credential}Prefer: wait=1\r\n\r\n");
        pogo.ask(&head).message().one("etag").map(|tag| tag.trim_matches('"').to_owned())
    }

    /// Waits for the next piece of what it is being told.
    fn read(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        if self.way == Way::LongPoll {
            let answer = wire.message();
            return self.take_answer(&answer);
        }
        if !self.answered {
            let head = wire.head();
            self.answered = true;
            if !matches!(head.status(), 200 | 209) {
                (self.known, self.version) = (Known::Refused(head.status()), None);
                self.wire = None;
            }
            return;
        }
        match wire.chunk() {
            Some(chunk) => {
                let text = std::str::from_utf8(&chunk).expect("UTF-8");
                self.text.push_str(text);
                self.rest.push_str(text);
                self.take_text();
            }
            None => self.wire = None,
        }
    }

    /// A long-poll's answer, or what is no such answer.
    fn take_answer(&mut self, answer: &Message) {
        self.text.push_str(answer.text());
        self.wire = None;
        match answer.status() {
            200 => {
                let state = serde_json::from_slice(&answer.body).expect("JSON");
                self.learn(
                    Known::State(state),
                    answer.one("etag").map(|tag| tag.trim_matches('"').to_owned()),
                );
            }
            304 => {}
            status => (self.known, self.version) = (Known::Refused(status), None),
        }
    }

    fn learn(&mut self, known: Known, version: Option<String>) {
        if self.known != Known::Nothing {
            self.news += 1;
        }
        (self.known, self.version) = (known, version);
    }

    /// Whatever is whole.
    fn take_text(&mut self) {
        loop {
            let taken = match self.way {
                Way::Events => self.take_event(),
                Way::Braid => self.take_update(),
                Way::Prep => self.take_part(),
                Way::LongPoll => None,
            };
            if taken.is_none() {
                return;
            }
        }
    }

    fn take_event(&mut self) -> Option<()> {
        let (block, rest) = self.rest.split_once("\n\n")?;
        let (block, rest) = (block.to_owned(), rest.to_owned());
        self.rest = rest;
        let field =
            |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let version = field("id").map(str::to_owned);
        match field("event") {
            Some("update") => {
                let state = serde_json::from_str(field("data").expect("data")).expect("JSON");
                self.learn(Known::State(state), version);
            }
            Some("delete") => self.learn(Known::Gone, version),
            // It is refused when it asks again.
            Some("unbind") => self.version = None,
            Some("stale" | "fresh") | None => {}
            Some(other) => panic!("unexpected event {other}"),
        }
        Some(())
    }

    fn take_update(&mut self) -> Option<()> {
        let text = self.rest.trim_start_matches(['\r', '\n']);
        let (head, rest) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1).expect("a status").to_owned();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let length: usize = field("Content-Length: ").expect("a length").parse().expect("a number");
        let body = rest.get(..length)?;
        let version = field("Version: ").map(|version| version.trim_matches('"').to_owned());
        let known = match status.as_str() {
            "200" => Known::State(serde_json::from_str(body).expect("JSON")),
            "404" => Known::Gone,
            // The last: it may not see it any more.
            other => panic!("unexpected update {other}"),
        };
        self.rest = rest[length..].to_owned();
        self.learn(known, version);
        Some(())
    }

    /// The representation, when the delimiter after it is there, and then every notification.
    fn take_part(&mut self) -> Option<()> {
        let (part, rest) = self.rest.split_once("\r\n--pogo-events")?;
        let (part, rest) = (part.to_owned(), rest.to_owned());
        self.rest = rest;
        if let Some((_, id)) = part.split_once("\r\nEvent-ID: ") {
            let version = id.lines().next().expect("a line").to_owned();
            let known = match part.contains("\r\nMethod: DELETE\r\n") {
                true => Known::Gone,
                false => Known::Version(version.clone()),
            };
            self.learn(known, Some(version));
        } else if let Some((_, body)) = part.split_once("\r\n\r\n") {
            let body = body.split_once("\r\n--pogo-parts").expect("a delimiter").0;
            // Empty if it is what the client named.
            if !body.is_empty() {
                self.learn(Known::State(serde_json::from_str(body).expect("JSON")), None);
            }
        }
        Some(())
    }
}
