//! What must hold for any bytes. The fuzzers call these functions, and so does `tests/corpus.rs`
//! for each input that is kept.

use std::cell::LazyCell;
use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, SEC_WEBSOCKET_EXTENSIONS, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pogo::gate::auth::{Authenticator, Jwt, Options, Secret};
use pogo::head::{Heads, Scan};
use pogo::headers::{self, ClientAddress, Via};
use pogo::protocol::codec::{self, Malformed};
use pogo::protocol::deflate::{Dialect, Window};
use pogo::protocol::{Format, Message, Outgoing};
use pogo::session::deflate::negotiate;
use pogo::session::frames::{Frames, Received};
use pogo::session::inflate::Inflater;
use pogo::uri::{MAX_URI, PathKey};
use serde_json::value::RawValue;

#[path = "harness/proxy.rs"]
pub mod proxy;

/// A message is read or refused, and its `id` can be echoed as it stands.
pub fn protocol(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    message(codec::decode(text, Format::Json));
}

fn message(decoded: Result<Message, Malformed>) -> Option<Message> {
    let message = match decoded {
        Ok(message) => {
            assert!(!message.event.is_empty() && message.event.len() <= 256);
            echoed(message.id.as_deref());
            message
        }
        Err(malformed) => {
            echoed(malformed.id.as_deref());
            return None;
        }
    };
    Some(message)
}

fn echoed(id: Option<&RawValue>) {
    if let Some(id) = id {
        assert!(id.get().len() <= 256);
        // In its grammar: half a surrogate pair is echoed as it came (RFC 8259 §8.2).
        serde_json::from_str::<Box<RawValue>>(id.get()).expect("an id is JSON");
    }
}

/// A message in MsgPack is read or refused; what was read is JSON of no more than six times its
/// length, survives being sent on, and if it has binary reaches others as it came.
pub fn msgpack(data: &[u8]) {
    let Some((switch, bytes)) = data.split_first() else { return };
    let format = if switch & 1 == 0 { Format::MsgPack } else { Format::MsgPackCompact };
    let Some(read) = message(codec::decode_binary(bytes, format)) else { return };
    if let Some(data) = &read.data {
        assert!(data.get().len() <= 6 * bytes.len());
    }
    let sent = codec::encode(
        &Outgoing {
            id: read.id.as_deref(),
            event: Some(&read.event),
            data: read.data.as_deref(),
            packed: read.packed.as_deref(),
            ..Outgoing::default()
        },
        format,
    );
    let head = match sent[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let again = message(codec::decode_binary(&sent[head..], format)).expect("it is one again");
    let text = |raw: Option<&RawValue>| raw.map(|raw| raw.get().to_owned());
    assert_eq!(text(read.id.as_deref()), text(again.id.as_deref()));
    assert_eq!(text(read.data.as_deref()), text(again.data.as_deref()));
    assert_eq!((read.event, read.packed), (again.event, again.packed));
}

/// A canonical URI is its own canonical form, and is found by writes in either spelling.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let key = PathKey::of(text);
    let Ok(uri) = pogo::uri::Uri::parse(text) else { return };
    assert!(text.len() <= MAX_URI && uri.as_str().starts_with('/'));
    assert_eq!(pogo::uri::Uri::parse(uri.as_str()).as_ref(), Ok(&uri));
    assert_eq!(uri.key(), key);
    assert_eq!(PathKey::of(uri.as_str()), key);
}

/// Fields that belong to one connection.
const OF_A_CONNECTION: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"];

/// Fields that a client cannot name away.
const RELIED_UPON: [&str; 17] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "trailer",
    "cache-control",
    "authorization",
    "proxy-authorization",
    "proxy-authenticate",
    "cookie",
    "set-cookie",
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "te",
];

/// A head that goes on has nothing of the connection it came on, one framing and one host.
///
/// The input is a first byte of switches and lines: `METHOD target`, then fields.
pub fn headers(data: &[u8]) {
    let Some((switches, lines)) = data.split_first() else { return };
    head(lines, usize::from(*switches));
    let mut lines = lines.split(|&byte| byte == b'\n');
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (method, target) = first.split_once(' ').unwrap_or(("GET", "/"));
    let mut fields = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            fields.append(name, value);
        }
    }
    let named = named_by_connection(&fields);
    let version = match switches & 3 {
        0 => Version::HTTP_10,
        1 => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    let via = Via::new("fuzz");
    request(method, target, version, fields.clone(), switches & 4 != 0, via.as_ref(), &named);
    answer(version, fields, via.as_ref(), &named);
}

/// What is noted of a head is the same in whatever parts it comes.
fn head(bytes: &[u8], at: usize) {
    let noted = |parts: &[&[u8]]| {
        let (heads, mut scan) = (Heads::default(), Scan::default());
        parts.iter().filter(|part| !part.is_empty()).for_each(|part| scan.read(part, &heads));
        (heads.take_two_lengths(), heads.take_names(), scan.is_amid())
    };
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4);
    // What is behind a head is not looked at, but begins another where it comes apart from it.
    let bytes = &bytes[..end.unwrap_or(bytes.len()).min(4096)];
    let (before, behind) = bytes.split_at(at.min(bytes.len()));
    if !noted(&[before]).2 && !before.is_empty() {
        return;
    }
    assert_eq!(noted(&[bytes]), noted(&[before, behind]), "{}", bytes.escape_ascii());
}

fn request(
    method: &str,
    target: &str,
    version: Version,
    fields: HeaderMap,
    has_body: bool,
    via: Option<&Via>,
    named: &HashSet<HeaderName>,
) {
    let (Ok(method), Ok(target)) = (Method::from_bytes(method.as_bytes()), target.parse::<Uri>())
    else {
        return;
    };
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.version_mut()) = (method, target, version);
    *request.headers_mut() = fields;
    headers::awaits_continue(request.headers());
    let client = ClientAddress::direct(SocketAddr::from(([192, 0, 2, 1], 1)));
    let upstream = HeaderValue::from_static("upstream");
    if headers::to_upstream(&mut request, has_body, &client, via, &upstream).is_err() {
        return;
    }
    let (parts, ()) = request.into_parts();
    headers::wants_websocket(&parts);
    let fields = &parts.headers;
    assert_eq!(parts.version, Version::HTTP_11);
    assert!(parts.uri.authority().is_none() && parts.uri.scheme().is_none());
    assert_eq!(fields.get_all(HOST).iter().count(), 1);
    let te = fields.get("te").map(HeaderValue::as_bytes);
    assert!(matches!(te, None | Some(b"trailers")), "{te:?}");
    assert_eq!(fields.get("connection").map(HeaderValue::as_bytes), te.map(|_| &b"te"[..]));
    for name in OF_A_CONNECTION.iter().filter(|name| !["connection", "te"].contains(name)) {
        assert!(!fields.contains_key(*name), "{name} goes on");
    }
    assert_none_of(named, fields);
    assert!(lengths(fields) + codings(fields) <= 1);
    assert!(!has_body || lengths(fields) + codings(fields) == 1, "a body without an end");
    if let Some(coding) = fields.get(TRANSFER_ENCODING) {
        assert_eq!(coding, "chunked");
    }
    assert_eq!(fields.get_all("x-forwarded-for").iter().count(), 1);
}

fn answer(version: Version, fields: HeaderMap, via: Option<&Via>, named: &HashSet<HeaderName>) {
    let mut answer = Response::new(());
    *answer.version_mut() = version;
    *answer.headers_mut() = fields;
    if headers::to_client(&mut answer, via).is_err() {
        return;
    }
    let (parts, ()) = answer.into_parts();
    for name in OF_A_CONNECTION {
        assert!(!parts.headers.contains_key(name), "{name} goes on");
    }
    assert_none_of(named, &parts.headers);
    assert_eq!(codings(&parts.headers), 0);
    assert!(lengths(&parts.headers) <= 1);
}

fn assert_none_of(named: &HashSet<HeaderName>, fields: &HeaderMap) {
    for name in named {
        assert!(!fields.contains_key(name), "{name} was named in Connection and goes on");
    }
}

/// The names in `Connection` that have to be obeyed.
fn named_by_connection(fields: &HeaderMap) -> HashSet<HeaderName> {
    fields
        .get_all("connection")
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| {
            let name = name.as_str();
            !RELIED_UPON.contains(&name)
                && !name.starts_with("x-forwarded-")
                && name != "connection"
        })
        .collect()
}

fn lengths(fields: &HeaderMap) -> usize {
    let lengths = fields.get_all(CONTENT_LENGTH);
    assert!(lengths.iter().all(|text| text.as_bytes().iter().all(u8::is_ascii_digit)));
    lengths.iter().count()
}

fn codings(fields: &HeaderMap) -> usize {
    fields.get_all(TRANSFER_ENCODING).iter().count()
}

/// A configuration is refused with a reason, or reads back as the same.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match pogo::config::parse(text) {
        Err(fault) => assert!(!fault.to_string().is_empty()),
        Ok(loaded) => {
            let effective = loaded.effective().expect("what was read can be written");
            let again = pogo::config::parse(&effective).expect("what was written can be read");
            assert_eq!(again.config(), loaded.config(), "{effective}");
        }
    }
}

/// A socket's messages are the same however its bytes are cut, and none is longer than allowed.
pub fn frames(data: &[u8]) {
    const LIMIT: usize = 300;
    let Some((piece, bytes)) = data.split_first() else { return };
    let is_binary = piece & 0x80 != 0;
    let format = if is_binary { Format::MsgPack } else { Format::Json };
    let dialect = match piece & 0x40 {
        0 => Dialect::plain(format),
        _ => Dialect::deflating(format, Window::Full, 0),
    };
    let piece = piece & 0x3f;
    let read = |piece: usize| {
        let (mut frames, mut received) = (Frames::of(dialect), Vec::new());
        let mut inflater = Inflater::default();
        for piece in bytes.chunks(piece.max(1)) {
            frames.push(piece);
            loop {
                match frames.next(LIMIT, &mut inflater) {
                    Ok(Some(message)) => received.push(message),
                    Ok(None) => break,
                    Err(close) => return (received, Some(close)),
                }
            }
        }
        (received, None)
    };
    let (received, close) = read(bytes.len());
    for message in &received {
        let length = match message {
            Received::Text(text) => {
                assert!(!is_binary);
                text.len()
            }
            Received::Binary(bytes) => {
                assert!(is_binary);
                bytes.len()
            }
            Received::Ping(payload) => payload.len(),
            Received::Pong | Received::Close(_) => 0,
        };
        assert!(length <= LIMIT);
    }
    assert_eq!(read(usize::from(piece)), (received, close));
}

/// A compressed message becomes as much as it may or is refused, and the next one is none the worse;
/// what is sent compressed is what was to be sent; and a field of offers is answered with one of
/// three answers, if it is.
pub fn deflate(data: &[u8]) {
    const LIMIT: usize = 3000;
    let mut inflater = Inflater::default();
    let first = inflater.inflate(data, LIMIT);
    if let Ok(message) = &first {
        assert!(message.len() <= LIMIT && message.capacity() <= LIMIT);
    }
    for window in Window::ALL {
        let mut frame = vec![0x82, 127];
        frame.extend((data.len() as u64).to_be_bytes());
        frame.extend(data);
        let packed = Dialect::deflating(Format::MsgPack, window, 0).pack(frame.clone().into());
        if packed[0] == 0x82 {
            assert_eq!(packed, frame);
            continue;
        }
        assert!(packed[0] == 0xc2 && packed.len() < frame.len());
        let head = match packed[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        assert_eq!(inflater.inflate(&packed[head..], data.len()).as_deref(), Ok(data));
    }
    assert_eq!(inflater.inflate(data, LIMIT), first);
    let Ok(field) = HeaderValue::from_bytes(data) else { return };
    let offers = HeaderMap::from_iter([(SEC_WEBSOCKET_EXTENSIONS, field)]);
    if let Some(agreed) = negotiate(&offers) {
        let answer = agreed.answer();
        assert!(answer.as_bytes().starts_with(b"permessage-deflate; server_no_context_takeover"));
        assert!(data.windows(18).any(|window| window == b"permessage-deflate"));
    }
}

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

thread_local! {
    static JWT: LazyCell<Authenticator> = const { LazyCell::new(|| {
        let jwt = Jwt {
            algorithms: vec!["HS256".into()],
            secret: Some(Secret::new(SECRET)),
            ..Jwt::default()
        };
        Authenticator::new(&Options { jwt: Some(jwt), ..Options::default() })
            .expect("the options are good")
    }) };
    static RUNTIME: LazyCell<tokio::runtime::Runtime> = const { LazyCell::new(|| {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
    }) };
}

/// A token is judged, and what is signed with another key than the configured one is never good.
///
/// An even first byte: the rest is a token. An odd one: it is claims, which are signed rightly.
pub fn jwt(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if kind % 2 == 0 {
        let judged = judge(text);
        assert!(judged.is_err() || is_signed(text), "{text} is taken for good");
        return;
    }
    let Ok(claims) = serde_json::from_str::<serde_json::Value>(text) else { return };
    let header = Header::new(Algorithm::HS256);
    let Ok(token) = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(SECRET))
    else {
        return;
    };
    if let Ok(verified) = judge(&token) {
        assert!(claims.is_object() && verified.ends >= verified.expires);
    }
    let other = EncodingKey::from_secret(b"another secret that is long enough");
    let forged = jsonwebtoken::encode(&header, &claims, &other).expect("the same claims");
    assert!(judge(&forged).is_err());
}

fn judge(token: &str) -> Result<pogo::gate::auth::Verified, pogo::gate::auth::AuthError> {
    let nobody =
        async |_| Ok::<Response<http_body_util::Full<Bytes>>, Infallible>(Response::default());
    JWT.with(|jwt| RUNTIME.with(|runtime| runtime.block_on(jwt.check(token, nobody))))
}

/// Whether the signature is that of the configured key.
fn is_signed(token: &str) -> bool {
    let Some((message, signature)) = token.rsplit_once('.') else { return false };
    let right = jsonwebtoken::crypto::sign(
        message.as_bytes(),
        &EncodingKey::from_secret(SECRET),
        Algorithm::HS256,
    );
    right.is_ok_and(|right| right == signature)
}
