//! The body of an answer, which says when it was sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::access;
use crate::downstream::Rest;

/// The body of an answer; when hyper lets go of it, it has been sent.
#[derive(Debug)]
pub struct Answer {
    body: access::Body,
    rest: Arc<Rest>,
}

impl Answer {
    pub(super) fn new(body: access::Body, rest: &Arc<Rest>) -> Self {
        Self { body, rest: Arc::clone(rest) }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.rest.set_answering(false);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
