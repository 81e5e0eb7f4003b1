//! What may stand in trailers.

use bytes::Bytes;
use http::HeaderName;
use hyper::body::Frame;

/// Passes data on as it is, and trailers without the fields that RFC 9110 §6.5.1 forbids there.
pub(crate) fn only_lawful_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Err(data) => data,
        Ok(mut trailers) => {
            let unlawful: Vec<HeaderName> =
                trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
            for name in unlawful {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
    }
}

/// RFC 9110 §5.6.2. In HTTP/2 `http` lets a quotation mark pass, and hyper would write it.
pub(super) fn is_token(name: &HeaderName) -> bool {
    !name.as_str().contains('"')
}

fn may_trail(name: &HeaderName) -> bool {
    if !is_token(name) {
        return false;
    }
    let name = name.as_str();
    !(name.starts_with("content-")
        || name.starts_with("x-forwarded-")
        || matches!(
            name,
            "transfer-encoding"
                | "host"
                | "connection"
                | "keep-alive"
                | "upgrade"
                | "te"
                | "trailer"
                | "authorization"
                | "proxy-authorization"
                | "cookie"
                | "set-cookie"
                | "cache-control"
                | "expect"
                | "forwarded"
                | "via"
        ))
}
