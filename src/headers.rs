//! What a gateway removes, adds and keeps (RFC 9110 §7, RFC 9112 §6, §9).
//!
//! Everything else passes as it came. A gateway that lets a client name `Host` or `Authorization`
//! in `Connection` has let the client delete them, so those are never removed on a client's word.

use bytes::Bytes;
use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName,
    HeaderValue, MAX_FORWARDS, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version, request};

use crate::rejection::Rejection;

mod client;
mod hop_by_hop;
mod host;
mod trailers;

pub use client::ClientAddress;
use client::forwarded;
use hop_by_hop::{no_te, remove_hop_by_hop, te_trailers};
use host::is_host;
use trailers::is_token;
pub(crate) use trailers::only_lawful_trailers;

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// `Via` for each version a message may have come in (RFC 9110 §7.6.3).
#[derive(Debug, Clone)]
pub struct Via {
    from_1_0: HeaderValue,
    from_1_1: HeaderValue,
    from_2: HeaderValue,
}

impl Via {
    /// `None` when the name cannot stand in a header.
    pub fn new(name: &str) -> Option<Self> {
        let line = |version: &str| HeaderValue::try_from(format!("{version} {name}")).ok();
        Some(Self { from_1_0: line("1.0")?, from_1_1: line("1.1")?, from_2: line("2.0")? })
    }

    fn line(&self, version: Version) -> HeaderValue {
        match version {
            Version::HTTP_2 => self.from_2.clone(),
            Version::HTTP_10 => self.from_1_0.clone(),
            _ => self.from_1_1.clone(),
        }
    }
}

/// What one pass over a head found.
#[derive(Debug, Default)]
struct Found {
    hosts: usize,
    cookies: usize,
    connection: bool,
    te: bool,
    transfer_encoding: bool,
    lengths: usize,
    /// A length that is no plain number, such as a list of equal ones.
    odd_length: bool,
    upgrade: bool,
    expect: bool,
    forwarded: bool,
    real_ip: bool,
    keep_alive: bool,
    proxy_connection: bool,
    http2_settings: bool,
    /// A field by which more than one answer can be asked for.
    may_subscribe: bool,
}

fn look(headers: &HeaderMap) -> Found {
    let mut found = Found::default();
    for (name, value) in headers {
        match *name {
            HOST => found.hosts += 1,
            COOKIE => found.cookies += 1,
            CONNECTION => found.connection = true,
            TE => found.te = true,
            TRANSFER_ENCODING => found.transfer_encoding = true,
            CONTENT_LENGTH => {
                found.lengths += 1;
                found.odd_length |= !is_number(value.as_bytes());
            }
            UPGRADE => found.upgrade = true,
            EXPECT => found.expect = true,
            FORWARDED => found.forwarded = true,
            ACCEPT => found.may_subscribe |= names_event_stream(value),
            _ => match name.as_str() {
                "keep-alive" => found.keep_alive = true,
                "proxy-connection" => found.proxy_connection = true,
                "http2-settings" => found.http2_settings = true,
                "subscribe" | "accept-events" | "prefer" => found.may_subscribe = true,
                "x-real-ip" => found.real_ip = true,
                _ => (),
            },
        }
    }
    found
}

/// What a client that wants a stream of events accepts (HTML, server-sent events).
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Whether a member of `Accept` is that media type, with whatever parameters.
pub(crate) fn is_event_stream(member: &[u8]) -> bool {
    let essence = member.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(EVENT_STREAM)
}

fn names_event_stream(accept: &HeaderValue) -> bool {
    accept.len() >= EVENT_STREAM.len()
        && accept.as_bytes().split(|byte| *byte == b',').any(is_event_stream)
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// Checks a client's request and gives it the head that the upstream is to see, origin-form and
/// HTTP/1.1. `has_body` is whether anything may follow the head. Says whether the request has a
/// field by which more than one answer can be asked for.
pub fn to_upstream<B>(
    request: &mut Request<B>,
    has_body: bool,
    client: &ClientAddress,
    via: Option<&Via>,
    upstream: &HeaderValue,
) -> Result<bool, Rejection> {
    let version = std::mem::replace(request.version_mut(), Version::HTTP_11);
    if version == Version::HTTP_2 && !request.headers().keys().all(is_token) {
        return Err(Rejection::BadRequest("invalid name of a field"));
    }
    let found = look(request.headers());
    let host = settle_host(request, version, &found, upstream)?;
    let expects_body = expects_body(request.method());
    let headers = request.headers_mut();
    settle_framing(headers, &found, has_body, expects_body)?;
    remove_hop_by_hop(headers, &found, te_trailers);
    if found.expect {
        settle_expectation(headers, has_body)?;
    }
    if found.cookies > 1 && version == Version::HTTP_2 {
        join_cookies(headers);
    }
    forwarded(headers, &found, client, host);
    if let Some(via) = via {
        headers.append(VIA, via.line(version));
    }
    Ok(found.may_subscribe)
}

/// Gives an upstream's answer the head that the client is to see.
pub fn to_client<B>(answer: &mut Response<B>, via: Option<&Via>) -> Result<(), BadAnswer> {
    let version = std::mem::replace(answer.version_mut(), Version::HTTP_11);
    let headers = answer.headers_mut();
    let found = look(headers);
    if found.transfer_encoding {
        only_chunked(headers).ok_or(BadAnswer::UnknownTransferCoding)?;
        // RFC 9112 §6.3: Transfer-Encoding overrides, and a forwarder MUST remove Content-Length.
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
    } else if found.lengths > 1 || found.odd_length {
        one_length(headers);
    }
    remove_hop_by_hop(headers, &found, no_te);
    if let Some(via) = via {
        headers.append(VIA, via.line(version));
    }
    Ok(())
}

/// RFC 9110 §8.6: of lengths that are all equal, as has been seen to, one goes on.
fn one_length(headers: &mut HeaderMap) {
    let first = headers.remove(CONTENT_LENGTH);
    let text = first.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
    let length = text.split(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
    if is_number(length)
        && let Ok(length) = HeaderValue::from_bytes(length)
    {
        headers.insert(CONTENT_LENGTH, length);
    }
}

/// Why an upstream's answer cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadAnswer {
    UnknownTransferCoding,
}

/// Whether a head declares two lengths, so that whoever sent it may be taken two ways.
pub fn declares_two_lengths(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH)
}

/// RFC 9112 §3.2: one valid `Host`, which an absolute-form target or `:authority` overrides.
/// Returns the host the client asked for, and leaves the target in origin form.
fn settle_host<B>(
    request: &mut Request<B>,
    version: Version,
    found: &Found,
    upstream: &HeaderValue,
) -> Result<Option<HeaderValue>, Rejection> {
    if found.hosts > 1 {
        return Err(Rejection::BadRequest("more than one Host"));
    }
    if request.uri().authority().is_some() {
        if found.hosts == 0 && version == Version::HTTP_11 {
            return Err(Rejection::BadRequest("no Host"));
        }
        return host_of_target(request, version).map(Some);
    }
    if let Some(host) = request.headers().get(HOST) {
        if !is_host(host.as_bytes()) {
            return Err(Rejection::BadRequest("invalid Host"));
        }
        return Ok(Some(host.clone()));
    }
    if version != Version::HTTP_10 {
        return Err(Rejection::BadRequest("no Host"));
    }
    request.headers_mut().insert(HOST, upstream.clone());
    Ok(None)
}

fn host_of_target<B>(request: &mut Request<B>, version: Version) -> Result<HeaderValue, Rejection> {
    let target = std::mem::take(request.uri_mut()).into_parts();
    let authority = target.authority.as_ref().map_or("", http::uri::Authority::as_str);
    if !is_host(authority.as_bytes()) {
        return Err(Rejection::BadRequest("invalid authority"));
    }
    let host =
        HeaderValue::try_from(authority).map_err(|_| Rejection::BadRequest("invalid authority"))?;
    let (Some(path), Some("http" | "https")) =
        (target.path_and_query, target.scheme.as_ref().map(http::uri::Scheme::as_str))
    else {
        return Err(Rejection::BadRequest("invalid target"));
    };
    // RFC 9113 §8.3.1: two names for the host must agree.
    if version == Version::HTTP_2
        && let Some(other) = request.headers().get(HOST)
        && !other.as_bytes().eq_ignore_ascii_case(host.as_bytes())
    {
        return Err(Rejection::BadRequest("Host differs from :authority"));
    }
    let mut origin_form = http::uri::Parts::default();
    // With an empty path it would be written as nothing. In HTTP/2 none is empty but one that was
    // all fragment, which no client sends.
    let root = PathAndQuery::from_static("/");
    let is_empty = path.as_str() == root.as_str() && path != root;
    if is_empty && version == Version::HTTP_2 {
        return Err(Rejection::BadRequest("invalid target"));
    }
    origin_form.path_and_query = Some(if is_empty { root } else { path });
    *request.uri_mut() =
        Uri::from_parts(origin_form).map_err(|_| Rejection::BadRequest("invalid target"))?;
    request.headers_mut().insert(HOST, host.clone());
    Ok(host)
}

/// Leaves exactly one way to tell where the body ends.
fn settle_framing(
    headers: &mut HeaderMap,
    found: &Found,
    has_body: bool,
    expects_body: bool,
) -> Result<(), Rejection> {
    if found.lengths > 1 || found.odd_length {
        return Err(Rejection::BadRequest("invalid Content-Length"));
    }
    let has_length = found.lengths == 1;
    if found.transfer_encoding {
        if has_length {
            return Err(Rejection::BadRequest("both Content-Length and Transfer-Encoding"));
        }
        if only_chunked(headers).is_none() {
            return Err(Rejection::UnknownTransferCoding);
        }
        if !has_body {
            // The body has turned out to be empty: say so.
            headers.remove(TRANSFER_ENCODING);
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        } else if headers.get(TRANSFER_ENCODING) != Some(&CHUNKED) {
            // In other letters it is the same to us, and must be to whoever reads it next.
            headers.insert(TRANSFER_ENCODING, CHUNKED);
        }
    } else if has_body && !has_length {
        headers.insert(TRANSFER_ENCODING, CHUNKED);
    } else if !has_body && !has_length && expects_body {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(())
}

/// RFC 9110 §10.1.1: the one expectation there is passes on, if there is a body to wait with.
fn settle_expectation(headers: &mut HeaderMap, has_body: bool) -> Result<(), Rejection> {
    if !headers.get_all(EXPECT).iter().all(is_continue) {
        return Err(Rejection::ExpectationFailed);
    }
    headers.remove(EXPECT);
    if has_body {
        headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    Ok(())
}

/// Whether a client waits to be told to send its body.
pub fn awaits_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(is_continue)
}

fn is_continue(expected: &HeaderValue) -> bool {
    expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// RFC 9110 §8.6: such a request without a body says `Content-Length: 0`.
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn only_chunked(headers: &HeaderMap) -> Option<()> {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let line = lines.next()?;
    (lines.next().is_none() && line.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        .then_some(())
}

/// RFC 9113 §8.2.3: split cookies are joined again for HTTP/1.1.
fn join_cookies(headers: &mut HeaderMap) {
    let mut joined = Vec::new();
    for crumb in headers.get_all(COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(cookie) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(COOKIE, cookie);
    }
}

/// Whether a request asks to speak WebSocket (RFC 6455 §4.1). No other protocol is ever
/// switched to: not `h2c`, which would tunnel requests past every rule.
pub fn wants_websocket(parts: &request::Parts) -> bool {
    parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && lists(&parts.headers, CONNECTION, b"upgrade")
        && lists(&parts.headers, UPGRADE, b"websocket")
}

/// Whether a comma-separated field has a member, whatever its case.
pub fn lists(headers: &HeaderMap, name: HeaderName, member: &[u8]) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(member))
}

/// Takes one hop off those that an `OPTIONS` may still make; false when it may make none
/// (RFC 9110 §7.6.2).
pub fn spend_hop(headers: &mut HeaderMap) -> bool {
    let Some(hops) = headers.get(MAX_FORWARDS).map(HeaderValue::as_bytes) else {
        return true;
    };
    if hops.is_empty() || !hops.iter().all(u8::is_ascii_digit) {
        return true;
    }
    let left =
        std::str::from_utf8(hops).ok().and_then(|hops| hops.parse().ok()).unwrap_or(u64::MAX);
    headers.insert(MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    left > 0
}

/// Asks the next hop, up or down, to speak WebSocket.
pub fn switch_to_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}
