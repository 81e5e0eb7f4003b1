//! Which URIs an exchange touched.

use http::{HeaderMap, Method, StatusCode};

use crate::route::Routes;

#[derive(Debug)]
pub struct Change;

pub fn touched(
    method: &Method,
    _target: &str,
    _status: Option<StatusCode>,
    _headers: &HeaderMap,
    _routes: &Routes,
) -> Option<Change> {
    is_write(method).then_some(Change)
}

pub fn is_write(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::CONNECT)
}
