//! How HTTP is spoken with clients.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioTimer;

use crate::gateway::{self, Answer, Gateway, Peer};
use crate::streams::{self, Streams, Taken};

/// Streams of one HTTP/2 connection.
const STREAMS: u32 = 128;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// hyper's own limit, which costs nothing; any other takes memory for each request.
const HEADERS_BY_DEFAULT: usize = 100;
/// What of an answer is kept for a client of HTTP/2 that does not read.
const STREAM_BUFFER: usize = 64 * 1024;
/// How often a silent HTTP/2 client is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

pub(super) fn http1(options: &gateway::Options) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(options.header_bytes)
        .max_buf_size(options.header_bytes.max(64 * 1024))
        .half_close(false)
        .keep_alive(true)
        .writev(true);
    if options.headers != HEADERS_BY_DEFAULT {
        builder.max_headers(options.headers);
    }
    builder
}

pub(super) fn http2(options: &gateway::Options) -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local { patience: options.request_idle });
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_BUFFER)
        .max_header_list_size(u32::try_from(options.header_bytes).unwrap_or(u32::MAX));
    builder
}

/// What requests go through at present: each connection asks for it anew with each request.
pub(super) type Present = Rc<RefCell<Rc<Gateway>>>;

/// What answers the requests of one connection.
pub(super) fn service(
    gateway: Present,
    peer: Rc<Peer>,
) -> impl Service<
    http::Request<Incoming>,
    Response = http::Response<Answer>,
    Error = Infallible,
    Future = impl Future<Output = Result<http::Response<Answer>, Infallible>>,
> {
    service_fn(move |request: http::Request<Incoming>| {
        Rc::clone(&gateway.borrow()).serve(request, Rc::clone(&peer))
    })
}

/// The same, counting the streams of an HTTP/2 connection.
pub(super) fn service_of_streams(
    gateway: Present,
    peer: Rc<Peer>,
    streams: Rc<Streams>,
) -> impl Service<
    http::Request<Incoming>,
    Response = http::Response<Taken<Answer>>,
    Error = Infallible,
    Future = impl Future<Output = Result<http::Response<Taken<Answer>>, Infallible>>,
> {
    service_fn(move |request: http::Request<Incoming>| {
        let stream = streams.begin();
        let answer = Rc::clone(&gateway.borrow()).serve(request, Rc::clone(&peer));
        async move { answer.await.map(|answer| answer.map(|body| Taken::new(body, stream))) }
    })
}

/// Runs the streams of an HTTP/2 connection on the worker that accepted it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local {
    /// How long a client may take nothing of an answer.
    patience: Duration,
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(streams::attend(stream, self.patience));
    }
}
