use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::PATIENCE;

/// A JSON REST API in memory: items and collections, answers that depend on who asks, and answers
/// that are held back until the test lets them go.
#[derive(Clone)]
pub struct Api {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    items: BTreeMap<String, Value>,
    next: u64,
    seen: Vec<Seen>,
    rules: VecDeque<Rule>,
    /// Beginnings of the next requests whose answers are held back, and what they are if not the
    /// usual.
    holds: Vec<(String, Option<Reply>)>,
    /// Answers that wait to be let go.
    held: usize,
    released: u64,
    arrivals: u64,
    concurrent: usize,
    most_concurrent: usize,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn new(status: u16, body: &Value) -> Self {
        let headers = vec![("Content-Type".into(), "application/json".into())];
        Self { status, headers, body: body.to_string() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }
}

type Answering = Box<dyn FnMut(&Seen, Option<Reply>) -> Option<Reply> + Send>;

/// What happens to requests that look like this, instead of or after what usually would.
struct Rule {
    line: String,
    answer: Answering,
}

impl Api {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let api = Self { address, shared };
        let serving = api.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let api = serving.clone();
                std::thread::spawn(move || api.serve(&stream));
            }
        });
        api
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Puts an item there as if it had been there always.
    pub fn put(&self, path: &str, value: Value) {
        self.state().items.insert(path.into(), value);
    }

    /// Requests that begin with `line` ("GET /posts") are answered by `answer`, which is given what
    /// would have been the answer and may let it be (`None`: the connection is reset).
    pub fn on(
        &self,
        line: &str,
        answer: impl FnMut(&Seen, Option<Reply>) -> Option<Reply> + Send + 'static,
    ) {
        let rule = Rule { line: line.into(), answer: Box::new(answer) };
        self.state().rules.push_front(rule);
    }

    /// The next request that begins with `line` gets the answer that is right when it arrives, but
    /// only after [`Api::release`].
    pub fn hold(&self, line: &str) {
        self.state().holds.push((line.into(), None));
    }

    /// As [`Api::hold`], but the answer is `reply`.
    pub fn hold_with(&self, line: &str, reply: Reply) {
        self.state().holds.push((line.into(), Some(reply)));
    }

    /// Forgets every rule made by [`Api::on`] and [`Api::hold`].
    pub fn be_normal(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.holds.clear();
    }

    /// Forgets what was to be held and has not come.
    pub fn be_calm(&self) {
        self.state().holds.clear();
    }

    /// Waits until an answer is being held.
    pub fn wait_held(&self) {
        let state = self.state();
        let (_state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(state, PATIENCE, |state| state.held == 0)
            .unwrap();
        assert!(!timeout.timed_out(), "no request came that is to be held");
    }

    /// Lets all held answers go.
    pub fn release(&self) {
        self.state().released += 1;
        self.shared.changed.notify_all();
    }

    /// Requests so far whose line begins with `line`.
    pub fn seen(&self, line: &str) -> Vec<Seen> {
        let state = self.state();
        state.seen.iter().filter(|seen| seen.line().starts_with(line)).cloned().collect()
    }

    /// Waits until at least `count` requests begin with `line`.
    pub fn wait_seen(&self, line: &str, count: usize) -> Vec<Seen> {
        let enough = |state: &mut State| {
            state.seen.iter().filter(|seen| seen.line().starts_with(line)).count() < count
        };
        let state = self.state();
        let (state, timeout) =
            self.shared.changed.wait_timeout_while(state, PATIENCE, enough).unwrap();
        drop(state);
        assert!(!timeout.timed_out(), "only {:?}", self.seen(line));
        self.seen(line)
    }

    /// Waits until exactly this URI was asked for `count` times; more is a failure.
    pub fn wait_gets(&self, uri: &str, count: usize) {
        let line = format!("GET {uri}");
        let gets = |state: &State| state.seen.iter().filter(|seen| seen.line() == line).count();
        let (state, _timeout) = self
            .shared
            .changed
            .wait_timeout_while(self.state(), PATIENCE, |state| gets(state) < count)
            .unwrap();
        assert_eq!(gets(&state), count, "{line}");
    }

    /// The most GETs that were under way at once.
    pub fn most_concurrent(&self) -> usize {
        self.state().most_concurrent
    }

    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(seen) = read_request(&mut reader) {
            let Some(reply) = self.answer(&seen) else { return };
            if write_reply(stream, &seen, &reply).is_err() {
                return;
            }
        }
    }

    fn answer(&self, seen: &Seen) -> Option<Reply> {
        let mut state = self.state();
        state.seen.push(seen.clone());
        state.arrivals += 1;
        state.concurrent += 1;
        state.most_concurrent = state.most_concurrent.max(state.concurrent);
        let mut reply = Some(state.usual(seen));
        let line = seen.line();
        if let Some(rule) = state.rules.iter_mut().find(|rule| line.starts_with(&rule.line)) {
            reply = (rule.answer)(seen, reply);
        }
        self.shared.changed.notify_all();
        if let Some(at) = state.holds.iter().rposition(|(hold, _)| line.starts_with(hold)) {
            reply = state.holds.remove(at).1.or(reply);
            state.held += 1;
            let before = state.released;
            self.shared.changed.notify_all();
            let (mut later, _) = self
                .shared
                .changed
                .wait_timeout_while(state, PATIENCE * 4, |state| state.released == before)
                .unwrap();
            later.held -= 1;
            later.concurrent -= 1;
        } else {
            state.concurrent -= 1;
        }
        reply
    }
}

impl State {
    /// What the API answers when no rule says otherwise.
    fn usual(&mut self, seen: &Seen) -> Reply {
        let path = seen.target.split('?').next().unwrap().to_owned();
        match seen.method.as_str() {
            "GET" | "HEAD" => self.read(&path),
            "POST" => {
                self.next += 1;
                let created = format!("{path}/{}", self.next);
                self.items.insert(created.clone(), seen.body.clone());
                Reply::new(201, &seen.body).with("Location", &created)
            }
            "PUT" => {
                self.items.insert(path, seen.body.clone());
                Reply::new(200, &seen.body)
            }
            "PATCH" => {
                let item = self.items.entry(path).or_insert(json!({}));
                for (name, value) in seen.body.as_object().into_iter().flatten() {
                    item[name] = value.clone();
                }
                Reply::new(200, &item.clone())
            }
            "DELETE" => match self.items.remove(&path) {
                Some(_) => Reply::empty(204),
                None => Reply::new(404, &json!({"error": "not found"})),
            },
            _ => Reply::empty(405),
        }
    }

    fn read(&self, path: &str) -> Reply {
        if let Some(item) = self.items.get(path) {
            return Reply::new(200, item);
        }
        let below = format!("{path}/");
        let members: Vec<&Value> = self
            .items
            .iter()
            .filter(|(name, _)| name.strip_prefix(&below).is_some_and(|rest| !rest.contains('/')))
            .map(|(_, value)| value)
            .collect();
        if members.is_empty() && path.matches('/').count() > 1 {
            return Reply::new(404, &json!({"error": "not found"}));
        }
        Reply::new(200, &json!(members))
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut seen = Seen { method, target, headers, body: Value::Null };
    let length = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    seen.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(seen)
}

fn write_reply(mut stream: &TcpStream, seen: &Seen, reply: &Reply) -> std::io::Result<()> {
    let mut out = format!("HTTP/1.1 {} Status\r\n", reply.status);
    for (name, value) in &reply.headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    let bodiless = matches!(reply.status, 204 | 304);
    if !bodiless {
        out.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    out.push_str("\r\n");
    if !bodiless && seen.method != "HEAD" {
        out.push_str(&reply.body);
    }
    stream.write_all(out.as_bytes())
}
