//! The body of an answer, which holds the connection that it arrives on.

use std::pin::Pin;
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

pub(super) fn stream(answer: Response<Incoming>, lease: Lease) -> Response<ResponseBody> {
    let (head, incoming) = answer.into_parts();
    // A connection on which two lengths were declared may be out of step: it serves no one else.
    let suspect = headers::declares_two_lengths(&head.headers);
    let body = if incoming.is_end_stream() && !suspect {
        lease.release();
        ResponseBody::Empty
    } else {
        let connection = if suspect { Connection::Once(lease) } else { Connection::Pooled(lease) };
        ResponseBody::Incoming(Download::new(incoming, connection))
    };
    Response::from_parts(head, body)
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
    broken: Option<hyper::Error>,
}

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

impl Download {
    pub(super) fn new(incoming: Incoming, connection: Connection) -> Self {
        Self { incoming, connection: Some(connection), broken: None }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let mut incoming = Pin::new(&mut self.incoming);
        let mut polled = incoming.as_mut().poll_frame(cx);
        if polled.is_pending()
            && let Some(Connection::Pooled(lease) | Connection::Once(lease)) = &mut self.connection
        {
            polled = lease.until(cx, |cx| incoming.as_mut().poll_frame(cx));
        }
        match polled {
            Poll::Ready(None) => self.finish(),
            Poll::Ready(Some(Err(error))) => {
                // An error ends the client's connection with all that is yet to be flushed, so
                // what came before it is given a turn to go out.
                self.connection = None;
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(frame))) => {
                if self.incoming.is_end_stream() {
                    self.finish();
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(None)
    }

    fn finish(&mut self) {
        if let Some(Connection::Pooled(lease)) = self.connection.take() {
            lease.release();
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
