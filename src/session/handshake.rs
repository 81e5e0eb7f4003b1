//! The opening handshake (RFC 6455 §4.2).

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::rejection::Rejection;

/// The subprotocol that is chosen when it is offered; with none, messages are JSON text too.
const JSON: &str = "pogo.v1.json";

/// The answer to a request that wants to open one of Pogo's own sockets.
pub fn accept<B>(request: &Request<B>) -> Result<Response<()>, Rejection> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(Rejection::MethodNotAllowed);
    }
    if single(headers, &header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        return Err(Rejection::UpgradeRequired);
    }
    let key = single(headers, &header::SEC_WEBSOCKET_KEY)
        .filter(|key| key.len() == 24 && key.as_bytes().ends_with(b"=="))
        .ok_or(Rejection::BadRequest("Sec-WebSocket-Key is missing or malformed"))?;
    let accepted = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| Rejection::BadRequest("Sec-WebSocket-Key is malformed"))?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    if offers(headers, JSON) {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(JSON));
    }
    Ok(response)
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn offers(headers: &HeaderMap, subprotocol: &str) -> bool {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|offered| offered.trim_ascii() == subprotocol.as_bytes())
}
