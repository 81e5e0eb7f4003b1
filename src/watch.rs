//! `pogo watch`: binds to one URI from a terminal and prints every event, one line of JSON each.
//!
//! A lost connection is made again with growing, jittered delays, and the bind then says which
//! version was seen last, so that nothing is printed twice and nothing is missed. A refusal ends
//! the program: asking again would not change it.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const EXIT_USAGE: u8 = 64;
const EXIT_REFUSED: u8 = 1;

/// Long enough for a TCP retransmission or two and a slow handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A bind waits for the upstream's answer, which Pogo waits for 60 seconds by default.
const BIND_TIMEOUT: Duration = Duration::from_secs(90);
/// After so much silence the server is asked whether it is there; after twice as much it is not.
const QUIET: Duration = Duration::from_secs(30);
const FIRST_DELAY: Duration = Duration::from_millis(250);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

const AUTH: u64 = 1;
const BIND: u64 = 2;

#[derive(clap::Args)]
#[command(after_help = "Prints the answer to the bind when it carries the current state, then \
    each event as it comes. Connection troubles go to stderr.\n\
    Exit codes: 0 interrupted, 1 refused, 64 wrong arguments.")]
pub(crate) struct Arguments {
    /// What to bind to, such as /posts/1234 or /posts?author=3
    uri: String,
    /// The socket of a running Pogo
    #[arg(long, default_value = "ws://127.0.0.1:8080/")]
    url: String,
    /// The token to authenticate with
    #[arg(long, env = "POGO_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let request = match request(arguments) {
        Ok(request) => request,
        Err(mistake) => return fail(&mistake, EXIT_USAGE),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), EXIT_REFUSED),
    };
    let mut watch = Watch { arguments, request, version: None, delay: FIRST_DELAY };
    runtime.block_on(async {
        tokio::select! {
            code = watch.follow() => code,
            _ = tokio::signal::ctrl_c() => ExitCode::SUCCESS,
        }
    })
}

fn fail(reason: &str, code: u8) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::from(code)
}

fn request(arguments: &Arguments) -> Result<Request, String> {
    if !arguments.uri.starts_with('/') {
        return Err(format!("URI: found {:?}, expected a path such as /posts", arguments.uri));
    }
    let expected =
        || format!("--url: found {:?}, expected a URL such as ws://127.0.0.1:8080/", arguments.url);
    let url: Uri = arguments.url.parse().map_err(|_| expected())?;
    if !matches!(url.scheme_str(), Some("ws" | "wss")) {
        return Err(expected());
    }
    let mut request = url.into_client_request().map_err(|_| expected())?;
    if let Some(token) = &arguments.token {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| "--token: it has characters that no header can carry".to_owned())?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}

/// Why a connection is over.
enum End {
    /// For good.
    Refused(String),
    /// Until the next attempt, which waits at least this long.
    Lost(String, Option<Duration>),
    /// Nobody reads stdout any more.
    Unread,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Watch<'a> {
    arguments: &'a Arguments,
    request: Request,
    /// What was seen last, as the server wrote it.
    version: Option<Box<RawValue>>,
    delay: Duration,
}

impl Watch<'_> {
    async fn follow(&mut self) -> ExitCode {
        loop {
            let (reason, asked) = match self.connection().await {
                End::Refused(reason) => return fail(&reason, EXIT_REFUSED),
                End::Unread => return ExitCode::SUCCESS,
                End::Lost(reason, asked) => (reason, asked),
            };
            let wait = jittered(self.delay).max(asked.unwrap_or_default());
            self.delay = (self.delay * 2).min(LONGEST_DELAY);
            eprintln!("{reason}; again in {:.1} s", wait.as_secs_f32());
            tokio::time::sleep(wait).await;
        }
    }

    /// One connection, from its handshake to its end.
    async fn connection(&mut self) -> End {
        match self.listen().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn listen(&mut self) -> Result<std::convert::Infallible, End> {
        let mut socket = self.connect().await?;
        if let Some(token) = &self.arguments.token {
            let auth = serde_json::json!({"id": AUTH, "event": "auth", "data": {"token": token}});
            send(&mut socket, Message::text(auth.to_string())).await?;
        }
        let version = self.version.as_deref();
        let uri = &self.arguments.uri;
        let bind = serde_json::json!({"id": BIND, "event": "bind", "uri": uri, "version": version});
        send(&mut socket, Message::text(bind.to_string())).await?;
        let answered_by = Instant::now() + BIND_TIMEOUT;
        let mut bound = false;
        loop {
            let next = receive(&mut socket);
            let message = if bound {
                next.await?
            } else {
                let late = |_| End::Lost("the bind was not answered".into(), None);
                tokio::time::timeout_at(answered_by, next).await.map_err(late)??
            };
            match message {
                Message::Text(text) => bound |= self.take(&text)?,
                Message::Close(frame) => return Err(closed(frame)),
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    async fn connect(&self) -> Result<Socket, End> {
        match timeout(CONNECT_TIMEOUT, connect_async(self.request.clone())).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(Error::Http(response))) => Err(not_upgraded(&response)),
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(_) => Err(self.lost(&"no answer")),
        }
    }

    fn lost(&self, reason: &dyn std::fmt::Display) -> End {
        End::Lost(format!("cannot connect to {}: {reason}", self.arguments.url), None)
    }

    /// Handles one message; true when it says that the bind stands.
    fn take(&mut self, text: &str) -> Result<bool, End> {
        let incoming: Incoming<'_> = serde_json::from_str(text).map_err(|error| {
            End::Refused(format!("the server sent what is no message of Pogo: {error}"))
        })?;
        if let Some(error) = &incoming.error {
            return Err(error.end());
        }
        if let Some(version) = incoming.version {
            self.version = Some(version.to_owned());
        }
        let bound = incoming.id == Some(BIND);
        if incoming.event.is_some() || (bound && incoming.data.is_some()) {
            print(text)?;
        }
        if bound {
            self.delay = FIRST_DELAY;
        }
        if incoming.event.as_deref() == Some("unbind") {
            let reason = incoming.reason.as_deref().unwrap_or("no reason was given");
            return Err(End::Refused(format!("the binding ended: {reason}")));
        }
        Ok(bound)
    }
}

/// The parts of a message that this client acts on.
#[derive(Deserialize)]
struct Incoming<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<Failure<'a>>,
}

#[derive(Deserialize)]
struct Failure<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    retry_after: Option<f64>,
}

impl Failure<'_> {
    /// The codes of the protocol that time may heal; the others are final.
    fn end(&self) -> End {
        let said = format!("refused: {}: {}", self.code, self.message);
        match &*self.code {
            "rate_limited" | "limit_exceeded" | "upstream_error" | "upstream_timeout"
            | "unavailable" => {
                let wait = self.retry_after.and_then(|s| Duration::try_from_secs_f64(s).ok());
                End::Lost(said, wait)
            }
            _ => End::Refused(said),
        }
    }
}

/// A handshake that got an HTTP response instead.
fn not_upgraded(response: &Response) -> End {
    let status = response.status();
    let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let shown: String = body.chars().filter(|c| !c.is_control()).take(300).collect();
    let said = format!("the server answered {status} {shown}").trim_end().to_owned();
    let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if !status.is_server_error() && !passing.contains(&status) {
        return End::Refused(said);
    }
    let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    End::Lost(said, wait.and_then(|text| text.parse().ok()).map(Duration::from_secs))
}

fn closed(frame: Option<CloseFrame>) -> End {
    let Some(frame) = frame else { return End::Lost("the server closed the socket".into(), None) };
    let code = u16::from(frame.code);
    let said = format!("the server closed the socket: {code} {}", frame.reason);
    match code {
        // Of this client's own making, or decided about it: the next connection ends alike.
        1002 | 1003 | 1007..=1010 | 4400 | 4401 | 4403 => End::Refused(said),
        _ => End::Lost(said, asked_wait(&frame.reason)),
    }
}

/// How long a server that goes away asks to be left alone: `going away; retry_after=3`.
fn asked_wait(reason: &str) -> Option<Duration> {
    let (_, seconds) = reason.split_once("retry_after=")?;
    seconds.parse().ok().map(Duration::from_secs)
}

async fn send(socket: &mut Socket, message: Message) -> Result<(), End> {
    match timeout(CONNECT_TIMEOUT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::Lost(format!("the connection is lost: {error}"), None)),
        Err(_) => Err(End::Lost("the server takes nothing".into(), None)),
    }
}

async fn receive(socket: &mut Socket) -> Result<Message, End> {
    let lost = |reason: String| End::Lost(format!("the connection is lost: {reason}"), None);
    let mut asked = false;
    loop {
        match timeout(QUIET, socket.next()).await {
            Ok(Some(Ok(message))) => return Ok(message),
            Ok(Some(Err(error))) => return Err(lost(error.to_string())),
            Ok(None) => return Err(lost("the server is gone".into())),
            Err(_) if asked => return Err(lost("no answer to a ping".into())),
            Err(_) => {
                send(socket, Message::Ping(bytes::Bytes::new())).await?;
                asked = true;
            }
        }
    }
}

/// Prints a message on one line: JSON allows line ends between its tokens only.
fn print(text: &str) -> Result<(), End> {
    let mut line = text.replace(['\n', '\r'], " ");
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(|_| End::Unread)
}

/// Between half of a delay and all of it, so that the clients of a restarted server spread.
fn jittered(delay: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) >> 32;
    let half = delay / 2;
    half + half.mul_f64(random as f64 / f64::from(u32::MAX))
}
