//! The opening handshake (RFC 6455 §4.2).

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Options, deflate};
use crate::protocol::Format;
use crate::protocol::deflate::Dialect;
use crate::rejection::Rejection;

/// The answer to a request that wants to open one of Pogo's own sockets, and what will be spoken.
pub fn accept<B>(
    request: &Request<B>,
    options: &Options,
) -> Result<(Response<()>, Dialect), Rejection> {
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
    let chosen = choose(headers, &options.formats);
    if let Some(format) = chosen {
        let subprotocol = HeaderValue::from_static(format.subprotocol());
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    let format = chosen.unwrap_or_default();
    let agreed = options.compression.then(|| deflate::negotiate(headers)).flatten();
    let dialect = match agreed {
        Some(agreed) => {
            answer.insert(header::SEC_WEBSOCKET_EXTENSIONS, agreed.answer());
            Dialect::deflating(format, agreed.window, options.compress_from)
        }
        None => Dialect::plain(format),
    };
    Ok((response, dialect))
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The first subprotocol of the client's that is spoken here.
fn choose(headers: &HeaderMap, formats: &[Format]) -> Option<Format> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .find_map(|offered| {
            let name = offered.trim_ascii();
            formats.iter().find(|format| format.subprotocol().as_bytes() == name).copied()
        })
}
