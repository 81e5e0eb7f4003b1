//! Forwards to the API and streams the answer back, over one worker's own connections.

mod count;
mod failure;
mod message;
mod pool;
mod response;
mod secure;
mod switch;
mod tee;
mod wire;

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::header::HeaderValue;
use http::uri::Authority;
use http::{Method, Request, Response};
use hyper::client::conn::http1;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::body::{Progress, RequestBody};
use crate::head::Heads;
use crate::headers;
use crate::transport::Transport;
use failure::failure;
pub use failure::{Failure, Kind};
use message::Message;
use pool::{Broken, Lease, Live, Permit, Pool};
use response::{Connection, stream};
pub use response::{ResponseBody, Source};
pub use secure::{Insecure, Secure, Tls};
pub use switch::{Switch, Tunnel};
pub use tee::Tee;

/// How long a connection is silent before the kernel asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// hyper's own limit, up to which it takes no memory for the fields of an answer.
const FIELDS_FOR_NOTHING: usize = 100;

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// `host:port` of the API.
    pub origin: Authority,
    /// None speaks plain HTTP to it.
    pub tls: Option<Tls>,
    pub connect_timeout: Duration,
    /// From the end of a request to the head of its answer.
    pub response_timeout: Duration,
    /// Below the upstream's own, so that a connection is seldom used while the upstream closes it.
    pub idle_timeout: Duration,
    /// Of the whole node; the workers share them evenly.
    pub connections: usize,
    /// How long a client that hardly sends or takes anything may keep a connection while others
    /// wait for one.
    pub slow_client: Duration,
    pub header_bytes: usize,
    pub headers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            origin: Authority::from_static("127.0.0.1:3000"),
            tls: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(4),
            connections: 256,
            slow_client: Duration::from_secs(3),
            header_bytes: 64 * 1024,
            headers: 256,
        }
    }
}

/// One worker's way to the upstream.
#[derive(Debug)]
pub struct Upstream {
    options: Options,
    secure: Option<Secure>,
    host: HeaderValue,
    /// Takes as many fields in an answer as cost nothing; `roomy` as many as there may be.
    builder: http1::Builder,
    roomy: http1::Builder,
    pool: Rc<Pool>,
    /// Connections that were made since they were last counted.
    opened: Cell<u64>,
}

impl Upstream {
    /// `workers` is how many share the node's connections, and `secure` what they make of
    /// `options.tls`.
    pub fn new(options: Options, secure: Option<Secure>, workers: usize) -> Self {
        let mut builder = http1::Builder::new();
        builder
            .max_header_size(options.header_bytes)
            .max_buf_size(options.header_bytes.max(64 * 1024))
            .allow_obsolete_multiline_headers_in_responses(true);
        let mut roomy = builder.clone();
        roomy.max_headers(options.headers);
        if options.headers < FIELDS_FOR_NOTHING {
            builder.max_headers(options.headers);
        }
        let share = options.connections.div_ceil(workers.max(1)).max(1);
        let host = HeaderValue::try_from(options.origin.as_str())
            .unwrap_or(HeaderValue::from_static("localhost"));
        let pool = Pool::new(share, options.idle_timeout, options.slow_client);
        Self { options, secure, host, builder, roomy, pool, opened: Cell::new(0) }
    }

    /// The name the upstream is known by to a client that named none.
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Closes connections that are of no more use; called on every tick.
    pub fn sweep(&self) {
        self.pool.sweep();
    }

    /// Another takes its place: what is under way here ends here, and nothing is kept for more.
    pub fn retire(&self) {
        self.pool.retire();
    }

    /// Sends a request in origin form whose `Host` is set.
    ///
    /// It is sent again, once and on a new connection, if the one that was reused broke before a
    /// byte of an answer, and if the request was either not written or may be repeated.
    pub async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, Failure> {
        self.forward(Box::new(request)).await.map(|answer| *answer)
    }

    /// The same. The request is boxed because futures that hold one by value are large, and are
    /// moved for every request.
    pub(crate) async fn forward(
        &self,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<Box<Response<ResponseBody>>, Failure> {
        let permit = self.permit().await?;
        request.body_mut().held_in(&self.pool.holds);
        let progress = request.body().progress();
        let progress = progress.as_deref();
        if headers::awaits_continue(request.headers()) {
            relay_continue(&mut request);
        }
        let method = request.method().clone();
        let repeatable = repeatable(&request);
        let (mut fresh, mut message) = (false, Message::New { request, kept: repeatable });
        loop {
            let now = Instant::now();
            let idle = if fresh { None } else { self.pool.take(now) };
            let mut live = match idle {
                Some(live) => live,
                None => {
                    fresh = true;
                    Box::pin(self.open()).await?
                }
            };
            let broken = match self.answer(&mut live, message, now, progress).await {
                Ok(mut answer) => {
                    stream(&mut answer, Lease::new(live, permit));
                    return Ok(answer);
                }
                Err(Attempt::TimedOut) => return Err(Failure::seen(Kind::ResponseTimeout)),
                Err(Attempt::Broken(broken)) => broken,
            };
            if broken.error.is_parse_too_large() {
                return Box::pin(self.read_again(live, permit, method)).await;
            }
            let may_repeat = repeatable && !fresh && !live.heard();
            message = match (*broken, live.kept().filter(|_| may_repeat)) {
                (Broken { unwritten: Some(again), .. }, _) if !fresh => {
                    Message::New { request: Box::new(again), kept: repeatable }
                }
                (_, Some(bytes)) => {
                    fresh = true;
                    Message::Again { method: method.clone(), bytes }
                }
                (broken, None) => return Err(failure(broken, progress)),
            };
        }
    }

    async fn permit(&self) -> Result<Permit, Failure> {
        match self.pool.try_permit() {
            Some(permit) => Ok(permit),
            None => Box::pin(self.pool.wait(self.options.connect_timeout))
                .await
                .map_err(|pool::Full| Failure::unseen(Kind::Busy)),
        }
    }

    async fn answer(
        &self,
        live: &mut Live,
        message: Message,
        now: Instant,
        progress: Option<&Progress>,
    ) -> Result<Box<Response<ResponseBody>>, Attempt> {
        let timeout = self.options.response_timeout;
        let mut alarm = std::mem::take(&mut live.alarm);
        let answer = within(&mut alarm, timeout, now, progress, live.send(message)).await;
        live.alarm = alarm;
        let mut answer = answer.ok_or(Attempt::TimedOut)?.map_err(Attempt::Broken)?;
        note_spelling(live.heads(), &mut answer);
        if let Some(progress) = progress {
            progress.answered();
        }
        Ok(answer)
    }

    /// Takes an answer with many fields, or an answer that is too large after all.
    async fn read_again(
        &self,
        mut live: Live,
        permit: Permit,
        method: Method,
    ) -> Result<Box<Response<ResponseBody>>, Failure> {
        let answer = live.read_again(&self.roomy, method);
        let (mut alarm, timeout) = (Alarm::default(), self.options.response_timeout);
        let mut answer = within(&mut alarm, timeout, Instant::now(), None, answer)
            .await
            .ok_or_else(|| Failure::seen(Kind::ResponseTimeout))?
            .map_err(|broken| Failure::seen(Kind::BadResponse(broken.error)))?;
        note_spelling(live.heads(), &mut answer);
        answer.body_mut().arrives_on(Connection::Once(Lease::new(live, permit)));
        Ok(answer)
    }

    async fn open(&self) -> Result<Live, Failure> {
        let stream = self.connect().await?;
        Live::handshake(&self.builder, stream)
            .await
            .map_err(|error| Failure::unseen(Kind::Reset(error)))
    }

    async fn connect(&self) -> Result<Transport, Failure> {
        let connecting = async {
            let stream = TcpStream::connect(address_of(&self.options)).await?;
            self.opened.set(self.opened.get() + 1);
            prepare(&stream)?;
            match &self.secure {
                None => Ok(stream.into()),
                // In a box, so that a connection in the clear does not take the room for it.
                Some(secure) => Box::pin(secure.agree(stream)).await,
            }
        };
        tokio::time::timeout(self.options.connect_timeout, connecting)
            .await
            .map_err(|_| Failure::unseen(Kind::ConnectTimeout))?
            .map_err(|error| Failure::unseen(Kind::Connect(error)))
    }
}

/// Notes how the names of an answer are spelled.
fn note_spelling<B>(heads: &Heads, answer: &mut Response<B>) {
    heads.ignore();
    if let Some(names) = heads.take_names() {
        answer.extensions_mut().insert(names);
    }
}

#[derive(Debug)]
enum Attempt {
    Broken(Box<Broken>),
    TimedOut,
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    // An answer may pause for as long as it likes, but not because its sender is gone.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// `host` and `port`, as the resolver takes them: an IPv6 address without its brackets.
pub(crate) fn address_of(options: &Options) -> (&str, u16) {
    let host = options.origin.host();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let usual = if options.tls.is_some() { 443 } else { 80 };
    (host, options.origin.port_u16().unwrap_or(usual))
}

/// Lets the client send its body when the upstream says so.
fn relay_continue(request: &mut Request<RequestBody>) {
    if let Some(asked_for) = request.body_mut().hold() {
        hyper::ext::on_informational(request, move |interim| {
            if interim.status() == http::StatusCode::CONTINUE {
                asked_for.notify_one();
            }
        });
    }
}

/// RFC 9110 §9.2.2, and nothing that could have been consumed by the first attempt.
fn repeatable(request: &Request<RequestBody>) -> bool {
    request.body().is_empty()
        && matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
        )
}

/// Waits for an answer. While a body is on its way the time begins anew with each part of it; a
/// client that sends none is the body's own to deal with.
async fn within<F: Future>(
    alarm: &mut Alarm,
    timeout: Duration,
    now: Instant,
    progress: Option<&Progress>,
    answer: F,
) -> Option<F::Output> {
    let mut answer = std::pin::pin!(answer);
    let mut deadline = now + timeout;
    loop {
        let output = std::future::poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => alarm.poll(deadline, cx).map(|()| None),
        });
        if let Some(output) = output.await {
            return Some(output);
        }
        let progress = progress?;
        let begun = match progress.last_taken() {
            _ if progress.awaits_client() => Instant::now(),
            Some(taken) => taken,
            None => return None,
        };
        if begun + timeout <= deadline {
            return None;
        }
        deadline = begun + timeout;
    }
}
