//! The body of an answer, which holds the connection that it arrives on.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;

use super::Tee;
use super::pool::{Lease, Permit};
use super::switch::Driver;
use crate::body::RequestBody;
use crate::headers;
use crate::holds::Hold;

/// Has the answer hold the connection that the rest of it arrives on.
pub(super) fn stream(answer: &mut Response<ResponseBody>, lease: Lease) {
    // A connection on which two lengths were declared may be out of step: it serves no one else.
    let suspect = headers::declares_two_lengths(answer.headers());
    if answer.body().is_end_stream() && !suspect {
        lease.release();
        *answer.body_mut() = ResponseBody::Empty;
        return;
    }
    answer.body_mut().arrives_on(match suspect {
        true => Connection::Once(lease),
        false => Connection::Pooled(lease),
    });
}

/// A body that is made here, part by part, as the client takes it.
pub trait Source: std::fmt::Debug {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;

    /// Why it is over, as the access log says it; none came to a natural end.
    fn why_over(&self) -> Option<&'static str>;
}

/// The body of an answer.
#[derive(Debug)]
pub enum ResponseBody {
    Empty,
    Full(Bytes),
    Incoming(Download),
    Watched(Box<Tee>),
    Made(Box<dyn Source>),
}

impl ResponseBody {
    /// A body of which it is not known yet on which connection it arrives.
    pub(super) fn arriving(incoming: Incoming) -> Self {
        Self::Incoming(Download::new(incoming, None))
    }

    pub(super) fn arrives_on(&mut self, connection: Connection) {
        if let Self::Incoming(download) = self {
            download.connection = Some(connection);
        }
    }

    /// Why it was ended here, if it was.
    pub fn why_over(&self) -> Option<&'static str> {
        match self {
            Self::Made(source) => source.why_over(),
            Self::Empty | Self::Full(_) | Self::Incoming(_) | Self::Watched(_) => None,
        }
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

/// An upstream's body as it arrives, and the connection it arrives on.
#[derive(Debug)]
pub struct Download {
    incoming: Incoming,
    connection: Option<Connection>,
    /// In place of `connection`, once the client has had to be waited for. It is given up if others
    /// wait for one, and then the body ends with an error.
    held: Option<(Rc<Hold>, Rc<Held>)>,
    given_up: bool,
    broken: Option<hyper::Error>,
}

type Held = RefCell<Option<Connection>>;

#[derive(Debug)]
pub(super) enum Connection {
    Pooled(Lease),
    /// Not to be used again.
    Once(Lease),
    Driven {
        _driver: Driver,
        _sender: http1::SendRequest<RequestBody>,
        _permit: Permit,
    },
}

impl Connection {
    fn lease(&mut self) -> Option<&mut Lease> {
        match self {
            Self::Pooled(lease) | Self::Once(lease) => Some(lease),
            Self::Driven { .. } => None,
        }
    }
}

impl Download {
    pub(super) fn new(incoming: Incoming, connection: Option<Connection>) -> Self {
        Self { incoming, connection, held: None, given_up: false, broken: None }
    }

    /// The client is to take what has come, before it is given more.
    fn wait_for_client(&mut self) {
        if let Some(Connection::Pooled(lease) | Connection::Once(lease)) = &self.connection {
            let holds = lease.holds();
            let held = Rc::new(RefCell::new(self.connection.take()));
            let listed = Rc::downgrade(&held);
            let give_up = move || drop(listed.upgrade().and_then(|held| held.take()));
            self.held = Some((holds.hold(give_up), held));
        }
        if let Some((hold, _)) = &self.held {
            hold.begin_again();
            hold.wait();
        }
    }

    fn take_connection(&mut self) -> Option<Connection> {
        let held = self.held.take();
        held.and_then(|(_, held)| held.take()).or_else(|| self.connection.take())
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = match &self.held {
            Some((hold, held)) => {
                hold.begin_again();
                poll(&mut self.incoming, held.borrow_mut().as_mut(), cx)
            }
            None => poll(&mut self.incoming, self.connection.as_mut(), cx),
        };
        match polled {
            Poll::Ready(None) => self.finish(),
            Poll::Ready(Some(Err(error))) => {
                // An error ends the client's connection with all that is yet to be flushed, so
                // what came before it is given a turn to go out.
                let is_held = self.held.is_some();
                self.given_up = self.take_connection().is_none() && is_held;
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(frame))) => {
                match self.incoming.is_end_stream() {
                    true => self.finish(),
                    false => self.wait_for_client(),
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(None)
    }

    fn finish(&mut self) {
        if let Some(Connection::Pooled(lease)) = self.take_connection() {
            lease.release();
        }
    }
}

fn poll(
    incoming: &mut Incoming,
    connection: Option<&mut Connection>,
    cx: &mut Context<'_>,
) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
    let mut incoming = Pin::new(incoming);
    let polled = incoming.as_mut().poll_frame(cx);
    match connection.and_then(Connection::lease) {
        Some(lease) if polled.is_pending() => {
            lease.until(cx, |cx| incoming.as_mut().poll_frame(cx))
        }
        Some(_) | None => polled,
    }
}

impl ResponseBody {
    /// After an error: it ended because others waited for its connection, and its client was slow.
    pub(crate) fn is_given_up(&self) -> bool {
        match self {
            Self::Empty | Self::Full(_) | Self::Made(_) => false,
            Self::Incoming(download) => download.given_up,
            Self::Watched(tee) => tee.body.is_given_up(),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Incoming(download) => download
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map(headers::only_lawful_trailers))),
            Self::Watched(tee) => tee.poll_frame(cx),
            Self::Made(source) => source.poll_part(cx).map(|part| part.map(Frame::data).map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(download) => download.incoming.is_end_stream(),
            Self::Watched(tee) => tee.body.is_end_stream(),
            Self::Made(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(download) => download.incoming.size_hint(),
            Self::Watched(tee) => tee.body.size_hint(),
            Self::Made(_) => SizeHint::default(),
        }
    }
}
