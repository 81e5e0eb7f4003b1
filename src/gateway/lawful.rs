//! What is refused whoever asks for it, and what Pogo answers to itself.

use http::header::ALLOW;
use http::{HeaderValue, Method, Response, StatusCode, request};

use crate::exchange::ResponseBody;
use crate::rejection::{self, Rejection};

/// Refuses what a gateway must not forward.
pub(super) fn lawful(parts: &request::Parts) -> Result<(), Rejection> {
    // RFC 9110 §9.3.6, §9.3.8: neither a tunnel to anywhere nor an echo of credentials.
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Rejection::MethodNotAllowed);
    }
    let path = parts.uri.path();
    if path.starts_with('/') || (path == "*" && parts.method == Method::OPTIONS) {
        return Ok(());
    }
    Err(Rejection::BadRequest("invalid target"))
}

/// What Pogo says of itself to an `OPTIONS` that may go no further.
pub(super) fn own_options() -> Response<ResponseBody> {
    let mut answer = Response::new(ResponseBody::Empty);
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(rejection::ALLOWED));
    answer
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::*;

    fn parts(method: Method, target: &str) -> request::Parts {
        let request = Request::builder().method(method).uri(target).version(Version::HTTP_11);
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn neither_tunnels_nor_echoes_nor_nameless_targets_are_forwarded() {
        assert!(lawful(&parts(Method::GET, "/a//b/../c%2F?x")).is_ok());
        assert!(lawful(&parts(Method::OPTIONS, "*")).is_ok());
        assert!(lawful(&parts(Method::GET, "*")).is_err());
        assert!(lawful(&parts(Method::GET, "example.com")).is_err());
        assert!(lawful(&parts(Method::CONNECT, "example.com:443")).is_err());
        assert!(lawful(&parts(Method::TRACE, "/")).is_err());
    }
}
