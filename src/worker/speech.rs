//! How HTTP is spoken with clients.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioTimer;

use super::Worker;
use super::ended::Ended;
use crate::downstream::Downstream;
use crate::gateway::{self, Answer, Gateway, Peer};

/// Streams of one HTTP/2 connection.
const STREAMS: u32 = 128;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// hyper's own limit, which costs nothing; any other takes memory for each request.
const HEADERS_BY_DEFAULT: usize = 100;
/// How often a silent HTTP/2 client is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

pub(super) fn http1(options: &gateway::Options) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(options.header_bytes)
        .max_buf_size(options.header_bytes.max(64 * 1024))
        .half_close(false)
        .keep_alive(true)
        .writev(true)
        .title_case_headers(true);
    if options.headers != HEADERS_BY_DEFAULT {
        builder.max_headers(options.headers);
    }
    builder
}

pub(super) fn http2(options: &gateway::Options) -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(options.header_bytes).unwrap_or(u32::MAX));
    builder
}

impl Worker {
    /// Returns the stream when nothing has been asked for a while.
    pub(super) async fn speak_http1(
        &self,
        stream: Downstream,
        peer: Rc<Peer>,
    ) -> Result<Option<Downstream>, Ended> {
        let heads = stream.heads();
        let connection =
            self.http1.serve_connection(stream, service(Rc::clone(&self.gateway), peer));
        let mut connection = connection.with_upgrades();
        let mut drain = std::pin::pin!(self.drain.cancelled());
        let (mut registered, mut resting, mut draining) = (false, false, false);
        std::future::poll_fn(|cx| {
            // What has come is read before the connection is told to end.
            if !registered && self.draining.get() {
                let polled = Pin::new(&mut connection).poll(cx);
                if polled.is_ready() {
                    return polled;
                }
            }
            // Asking a token takes a lock, so it is asked only when it has been cancelled.
            if !draining && (!registered || self.draining.get()) {
                registered = true;
                draining = drain.as_mut().poll(cx).is_ready();
                if draining {
                    heads.keep_open(false);
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
            let polled = Pin::new(&mut connection).poll(cx);
            if polled.is_ready() || draining || resting || !heads.is_idle() {
                return polled;
            }
            // An idle connection ends at once. Were it not idle, it would end after its answer.
            resting = true;
            heads.keep_open(true);
            Pin::new(&mut connection).graceful_shutdown();
            Pin::new(&mut connection).poll(cx)
        })
        .await
        .map_err(Ended::Http)?;
        if !resting || draining {
            return Ok(None);
        }
        Ok(connection.into_parts().map(|parts| parts.io.rest(&parts.read_buf)))
    }

    pub(super) async fn speak_http2(
        &self,
        stream: Downstream,
        peer: Rc<Peer>,
    ) -> Result<(), Ended> {
        let connection =
            self.http2.serve_connection(stream, service(Rc::clone(&self.gateway), peer));
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended.map_err(Ended::Http),
            () = self.drain.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await.map_err(Ended::Http)
    }
}

/// What answers the requests of one connection.
fn service(
    gateway: Rc<Gateway>,
    peer: Rc<Peer>,
) -> impl Service<
    http::Request<Incoming>,
    Response = http::Response<Answer>,
    Error = Infallible,
    Future = impl Future<Output = Result<http::Response<Answer>, Infallible>>,
> {
    service_fn(move |request: http::Request<Incoming>| {
        Rc::clone(&gateway).serve(request, Rc::clone(&peer))
    })
}

/// Runs the streams of an HTTP/2 connection on the worker that accepted it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(async move {
            stream.await;
        });
    }
}
