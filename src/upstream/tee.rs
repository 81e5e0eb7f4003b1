//! A body that is passed on as it arrives and kept on the side, up to a limit.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};

use super::ResponseBody;

/// See the module.
pub struct Tee {
    pub(super) body: ResponseBody,
    kept: Vec<u8>,
    limit: usize,
    tell: Option<Tell>,
}

/// What is done with a whole body, or with none: it broke off, was too large, or was not wanted to
/// its end.
type Tell = Box<dyn FnOnce(Option<&[u8]>)>;

impl Tee {
    /// Tells exactly once, at the latest when it is dropped.
    pub fn new(
        body: ResponseBody,
        limit: usize,
        tell: impl FnOnce(Option<&[u8]>) + 'static,
    ) -> Self {
        let mut tee = Self { body, kept: Vec::new(), limit, tell: Some(Box::new(tell)) };
        tee.notice_end();
        tee
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                }
                self.notice_end();
            }
            Poll::Ready(Some(Err(_))) => self.end(false),
            Poll::Ready(None) => self.end(true),
            Poll::Pending => {}
        }
        polled
    }

    fn keep(&mut self, data: &[u8]) {
        if self.kept.len() + data.len() > self.limit {
            self.end(false);
        } else if self.tell.is_some() {
            self.kept.extend_from_slice(data);
        }
    }

    /// Nobody polls a body that says that it is at its end.
    fn notice_end(&mut self) {
        if self.body.is_end_stream() {
            self.end(true);
        }
    }

    fn end(&mut self, whole: bool) {
        let kept = std::mem::take(&mut self.kept);
        if let Some(tell) = self.tell.take() {
            tell(whole.then_some(&kept));
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl fmt::Debug for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tee").field("body", &self.body).finish_non_exhaustive()
    }
}
