//! The example's REST API: an ordinary HTTP server that knows nothing of Pogo.
//!
//! Users and items, in memory. What an answer holds depends on who asks (`store.rs`), answers carry
//! strong entity tags, and the standard headers say which resource a write was about.

use std::cell::RefCell;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::store::{Fault, Store, Viewer};

const PAGE: &str = include_str!("page.html");
const CONNECTIONS: usize = 256;
const BODY_BYTES: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener) -> io::Result<()> {
    let store = Rc::new(RefCell::new(Store::with_examples()));
    tokio::task::LocalSet::new().run_until(accept(listener, store)).await
}

async fn accept(listener: TcpListener, store: Rc<RefCell<Store>>) -> io::Result<()> {
    let permits = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or the peer is gone already: neither ends the server.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let store = store.clone();
        tokio::task::spawn_local(async move {
            let service = hyper::service::service_fn(|request| {
                let store = store.clone();
                async move { Ok::<_, Infallible>(answer(&store, request).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // A connection that breaks is its client's business.
            let _ended = http.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

/// One request, apart from its transport.
struct Call {
    method: Method,
    path: String,
    query: Option<String>,
    token: Option<String>,
    viewer: Viewer,
    body: Bytes,
}

/// An accepted call's answer.
struct Reply {
    status: StatusCode,
    body: Option<Vec<u8>>,
    /// The resource that was made (201) or that the answer is about (200).
    resource: Option<String>,
}

async fn answer(store: &RefCell<Store>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        match request.uri().path() {
            "/app" => return page(request.headers()),
            "/" => return redirect("/app"),
            _ => {}
        }
    }
    let outcome = read(store, request).await;
    let outcome = outcome.and_then(|(call, headers)| {
        precondition(store, &call, &headers)?;
        Ok((run(&mut store.borrow_mut(), &call)?, call.method, headers))
    });
    match outcome {
        Ok((reply, method, headers)) => accepted(reply, &method, &headers),
        Err(fault) => refused(&fault),
    }
}

async fn read(
    store: &RefCell<Store>,
    request: Request<Incoming>,
) -> Result<(Call, HeaderMap), Fault> {
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES).collect()).await;
    let body = body.map_err(|_late| Fault::BadRequest("the body did not arrive".into()))?;
    let body = body.map_err(|_over| Fault::TooLarge)?.to_bytes();
    let (token, viewer) = match head.headers.get(header::AUTHORIZATION) {
        None => (None, Viewer::ANONYMOUS),
        Some(value) => {
            let token = bearer(value).ok_or(Fault::Unauthorized)?;
            (Some(token.to_owned()), store.borrow().viewer(token)?)
        }
    };
    let path = head.uri.path().to_owned();
    let query = head.uri.query().map(String::from);
    Ok((Call { method: head.method, path, query, token, viewer, body }, head.headers))
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// `If-Match` on a write: the state that it names must still be the state (RFC 9110 §13.1.1).
fn precondition(store: &RefCell<Store>, call: &Call, headers: &HeaderMap) -> Result<(), Fault> {
    if call.method.is_safe() || !headers.contains_key(header::IF_MATCH) {
        return Ok(());
    }
    let get = Call {
        method: Method::GET,
        path: call.path.clone(),
        query: None,
        token: None,
        viewer: call.viewer.clone(),
        body: Bytes::new(),
    };
    let current = run(&mut store.borrow_mut(), &get)?.body.unwrap_or_default();
    if names(headers, header::IF_MATCH, &tag(&current)) {
        return Ok(());
    }
    Err(Fault::PreconditionFailed)
}

fn run(store: &mut Store, call: &Call) -> Result<Reply, Fault> {
    let segments: Vec<&str> = call.path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["users"] => users(store, call),
        ["users", id] => user(store, call, id.parse().map_err(|_nan| Fault::NotFound)?, None),
        ["me"] => {
            let id = call.viewer.id()?;
            user(store, call, id, Some(format!("/users/{id}")))
        }
        ["items"] => items(store, call),
        ["items", id] => item(store, call, id.parse().map_err(|_nan| Fault::NotFound)?),
        ["login"] if call.method == Method::POST => {
            let (token, user) = store.login(&parse(call)?)?;
            ok(StatusCode::OK, &json!({ "token": token, "user": user }))
        }
        ["logout"] if call.method == Method::POST => {
            if let Some(token) = &call.token {
                store.logout(token);
            }
            Ok(Reply { status: StatusCode::NO_CONTENT, body: None, resource: None })
        }
        ["login" | "logout"] => Err(Fault::MethodNotAllowed("POST")),
        _ => Err(Fault::NotFound),
    }
}

fn users(store: &mut Store, call: &Call) -> Result<Reply, Fault> {
    match call.method {
        Method::GET | Method::HEAD => ok(StatusCode::OK, &store.users(&call.viewer)),
        Method::POST => {
            let id = store.create_user(parse(call)?)?;
            let reply = ok(StatusCode::CREATED, &store.user(&call.viewer, id)?)?;
            Ok(Reply { resource: Some(format!("/users/{id}")), ..reply })
        }
        _ => Err(Fault::MethodNotAllowed("GET, HEAD, POST")),
    }
}

/// `known_as`: the user's own address, when the request named another.
fn user(store: &mut Store, call: &Call, id: u64, known_as: Option<String>) -> Result<Reply, Fault> {
    let reply = match call.method {
        Method::GET | Method::HEAD => ok(StatusCode::OK, &store.user(&call.viewer, id)?),
        Method::PUT => {
            ok(StatusCode::OK, &store.change_user(&call.viewer, id, parse(call)?, true)?)
        }
        Method::PATCH => {
            ok(StatusCode::OK, &store.change_user(&call.viewer, id, parse(call)?, false)?)
        }
        Method::DELETE => {
            store.delete_user(&call.viewer, id)?;
            Ok(Reply { status: StatusCode::NO_CONTENT, body: None, resource: None })
        }
        _ => Err(Fault::MethodNotAllowed("GET, HEAD, PUT, PATCH, DELETE")),
    }?;
    Ok(Reply { resource: known_as, ..reply })
}

fn items(store: &mut Store, call: &Call) -> Result<Reply, Fault> {
    match call.method {
        Method::GET | Method::HEAD => {
            let query = call.query.as_deref().unwrap_or_default();
            let owner = query.split('&').find_map(|pair| pair.strip_prefix("owner="));
            ok(StatusCode::OK, &store.items(&call.viewer, owner))
        }
        Method::POST => {
            let id = store.create_item(&call.viewer, parse(call)?)?;
            let reply = ok(StatusCode::CREATED, &store.item(&call.viewer, id)?)?;
            Ok(Reply { resource: Some(format!("/items/{id}")), ..reply })
        }
        _ => Err(Fault::MethodNotAllowed("GET, HEAD, POST")),
    }
}

fn item(store: &mut Store, call: &Call, id: u64) -> Result<Reply, Fault> {
    let viewer = &call.viewer;
    match call.method {
        Method::GET | Method::HEAD => ok(StatusCode::OK, &store.item(viewer, id)?),
        Method::PUT => ok(StatusCode::OK, &store.change_item(viewer, id, parse(call)?, true)?),
        Method::PATCH => ok(StatusCode::OK, &store.change_item(viewer, id, parse(call)?, false)?),
        Method::DELETE => {
            store.delete_item(viewer, id)?;
            Ok(Reply { status: StatusCode::NO_CONTENT, body: None, resource: None })
        }
        _ => Err(Fault::MethodNotAllowed("GET, HEAD, PUT, PATCH, DELETE")),
    }
}

fn parse<T: DeserializeOwned>(call: &Call) -> Result<T, Fault> {
    serde_json::from_slice(&call.body).map_err(|fault| Fault::BadRequest(fault.to_string()))
}

fn ok(status: StatusCode, value: &impl Serialize) -> Result<Reply, Fault> {
    let body = serde_json::to_vec(value).map_err(|fault| Fault::BadRequest(fault.to_string()))?;
    Ok(Reply { status, body: Some(body), resource: None })
}

fn accepted(reply: Reply, method: &Method, request: &HeaderMap) -> Response<Full<Bytes>> {
    let made = reply.status == StatusCode::CREATED;
    let body = reply.body.unwrap_or_default();
    let tag = tag(&body);
    let mut response = Response::new(Full::default());
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Authorization"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Some(Ok(resource)) = reply.resource.map(HeaderValue::try_from) {
        headers.insert(if made { header::LOCATION } else { header::CONTENT_LOCATION }, resource);
    }
    if method.is_safe() {
        headers.insert(header::ETAG, tag.clone());
        if names(request, header::IF_NONE_MATCH, &tag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
    }
    if !body.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = Full::new(body.into());
    }
    response
}

fn refused(fault: &Fault) -> Response<Full<Bytes>> {
    let (status, detail) = match fault {
        Fault::BadRequest(detail) => (StatusCode::BAD_REQUEST, detail.as_str()),
        Fault::Unauthorized => (StatusCode::UNAUTHORIZED, "a valid token is needed"),
        Fault::Forbidden(detail) => (StatusCode::FORBIDDEN, *detail),
        Fault::NotFound => (StatusCode::NOT_FOUND, "there is nothing here that you may see"),
        Fault::MethodNotAllowed(_) => {
            (StatusCode::METHOD_NOT_ALLOWED, "this resource has no such method")
        }
        Fault::Conflict(detail) => (StatusCode::CONFLICT, *detail),
        Fault::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "the state has changed"),
        Fault::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is over 64 KiB"),
        Fault::Unprocessable(detail) => (StatusCode::UNPROCESSABLE_ENTITY, *detail),
    };
    let title = status.canonical_reason();
    let problem = json!({ "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = Response::new(Full::new(problem.to_string().into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::VARY, HeaderValue::from_static("Authorization"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Fault::MethodNotAllowed(methods) = fault {
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    response
}

/// The page opens a socket to where it came from, and nothing else.
fn page(request: &HeaderMap) -> Response<Full<Bytes>> {
    const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                          img-src data:; connect-src 'self' ws: wss:; base-uri 'none'";
    let tag = tag(PAGE.as_bytes());
    let fresh = names(request, header::IF_NONE_MATCH, &tag);
    let mut response = Response::new(if fresh { Full::default() } else { PAGE.into() });
    *response.status_mut() = if fresh { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn redirect(to: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    response
}

/// A strong entity tag: equal bytes, equal tag.
fn tag(body: &[u8]) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish()))
        .unwrap_or_else(|_never| HeaderValue::from_static("\"\""))
}

/// Does a list of entity tags name this one? `*` names any.
fn names(headers: &HeaderMap, list: header::HeaderName, tag: &HeaderValue) -> bool {
    let lines = headers.get_all(list).into_iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|given| given == "*" || given.trim_start_matches("W/").as_bytes() == tag.as_bytes())
}
