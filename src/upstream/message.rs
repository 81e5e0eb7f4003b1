//! What is sent to the API on one connection or another.

use bytes::Bytes;
use http::{Method, Request};

use crate::body::RequestBody;

/// What is sent on a connection.
#[derive(Debug)]
pub(super) enum Message {
    /// `kept` for another connection, should this one break.
    New { request: Box<Request<RequestBody>>, kept: bool },
    /// What a connection kept that broke.
    Again { method: Method, bytes: Bytes },
}

/// A request by which hyper knows how to read the answer, and which is never sent.
pub(super) fn stand_in(method: Method) -> Box<Request<RequestBody>> {
    let mut request = Box::new(Request::new(RequestBody::Empty));
    *request.method_mut() = method;
    request
}
