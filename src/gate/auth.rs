//! Who is this: a token becomes a credential towards the upstream, and an end.
//!
//! A token is checked by asking the upstream (`verify`), or here as a JWT, or not at all; then the
//! upstream judges each request. Whatever the way, a token that could not ride in a header is bad.

mod jwks;
mod jwt;
mod options;
mod verify;

use std::fmt::{self, Display};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Body;

pub use options::{Error, Jwt, Options, Secret};

/// Longest token; header lines of this size already are at the limit of many servers.
pub const TOKEN_BYTES: usize = 16 * 1024;
/// No session lasts longer, whatever its token says; also keeps clocks from overflowing.
const LONGEST: u64 = 10 * 366 * 24 * 60 * 60;

/// A token was not accepted. Both texts may be shown to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthError {
    /// The token is not good.
    Unauthorized(String),
    /// Nobody can tell now.
    Unavailable(String),
}

impl AuthError {
    fn unauthorized(reason: &str) -> Self {
        AuthError::Unauthorized(reason.to_owned())
    }

    fn unavailable(reason: &str) -> Self {
        AuthError::Unavailable(reason.to_owned())
    }
}

impl Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (AuthError::Unauthorized(reason) | AuthError::Unavailable(reason)) = self;
        f.write_str(reason)
    }
}

impl std::error::Error for AuthError {}

/// A token that no header may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadToken {
    Empty,
    TooLong,
    Characters,
}

impl Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadToken::Empty => f.write_str("the token is empty"),
            BadToken::TooLong => write!(f, "the token is longer than {TOKEN_BYTES} bytes"),
            BadToken::Characters => {
                f.write_str("the token holds characters other than visible ASCII")
            }
        }
    }
}

impl std::error::Error for BadToken {}

impl From<BadToken> for AuthError {
    fn from(bad: BadToken) -> Self {
        AuthError::Unauthorized(bad.to_string())
    }
}

/// A token that was found good, or that nobody had to check. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// When the token ends, as the client is told.
    pub expires: u64,
    /// When Pogo drops it: the same, but for a JWT the leeway later.
    pub ends: u64,
    /// A JWT's `sub`.
    pub subject: Option<String>,
}

/// Checks tokens. Shared by all workers.
#[derive(Debug)]
pub struct Authenticator {
    header: HeaderName,
    scheme: String,
    lifetime: Duration,
    required: bool,
    recheck: Option<Duration>,
    logout: Vec<(Method, matchit::Router<()>)>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Ask(verify::Question),
    Jwt(jwt::Checker),
    Trust,
}

impl Authenticator {
    pub fn new(options: &Options) -> Result<Self, Error> {
        if is_framing(&options.header) {
            return Err(Error::Header(options.header.clone()));
        }
        if !options.scheme.bytes().all(is_token_byte) {
            return Err(Error::Scheme(options.scheme.clone()));
        }
        if options.lifetime < Duration::from_secs(1) {
            return Err(Error::Lifetime);
        }
        let way = match (&options.verify, &options.jwt) {
            (Some(_), Some(_)) => return Err(Error::VerifyAndJwt),
            (None, _) if options.expires_pointer.is_some() => {
                return Err(Error::PointerWithoutVerify);
            }
            (Some(path), None) => {
                let pointer = options.expires_pointer.as_deref();
                Way::Ask(verify::Question::new(path, pointer)?)
            }
            (None, Some(jwt)) => Way::Jwt(jwt::Checker::new(jwt)?),
            (None, None) => Way::Trust,
        };
        Ok(Authenticator {
            header: options.header.clone(),
            scheme: options.scheme.clone(),
            lifetime: options.lifetime,
            required: options.required,
            recheck: options.recheck,
            logout: options.logout.iter().map(logout).collect::<Result<_, _>>()?,
            way,
        })
    }

    /// Whether a session without a good token is to be closed.
    pub fn required(&self) -> bool {
        self.required
    }

    /// How often a token is to be checked again while its session lasts.
    pub fn recheck(&self) -> Option<Duration> {
        self.recheck
    }

    /// Whether a request that the upstream accepted ends the credential it came with.
    pub fn is_logout(&self, method: &Method, path: &str) -> bool {
        self.logout.iter().any(|(listed, paths)| listed == method && paths.at(path).is_ok())
    }

    /// The credential that `token` becomes towards the upstream. The value is marked sensitive.
    pub fn credential(&self, token: &str) -> Result<(HeaderName, HeaderValue), BadToken> {
        self.value(token).map(|value| (self.header.clone(), value))
    }

    /// The token in the headers of a handshake; none if there is no credential of this scheme,
    /// which is then the upstream's to judge.
    pub fn handshake_token<'a>(
        &self,
        headers: &'a HeaderMap,
    ) -> Result<Option<&'a str>, AuthError> {
        let mut lines = headers.get_all(&self.header).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        // Two lines leave open which of them the upstream would believe.
        if lines.next().is_some() {
            return Err(AuthError::Unauthorized(format!("more than one {} field", self.header)));
        }
        let text = line.to_str().map_err(|_| BadToken::Characters)?;
        if self.scheme.is_empty() {
            return Ok(Some(text));
        }
        let blank = [' ', '\t'];
        match text.split_once(blank) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(&self.scheme) => {
                Ok(Some(token.trim_matches(blank)))
            }
            None if text.eq_ignore_ascii_case(&self.scheme) => Err(BadToken::Empty.into()),
            Some(_) | None => Ok(None),
        }
    }

    /// Checks a token. `ask` sends a request to the upstream; the request has its path and the
    /// credential, and still needs a `Host`. It is called only if `verify` is set.
    pub async fn check<A, B, E>(&self, token: &str, ask: A) -> Result<Verified, AuthError>
    where
        A: AsyncFnOnce(Request<()>) -> Result<Response<B>, E>,
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        E: Display,
    {
        self.check_at(token, ask, unix_now()).await
    }

    /// Checks the credential of a handshake, if it has one of this scheme.
    pub async fn check_handshake<A, B, E>(
        &self,
        headers: &HeaderMap,
        ask: A,
    ) -> Result<Option<Verified>, AuthError>
    where
        A: AsyncFnOnce(Request<()>) -> Result<Response<B>, E>,
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        E: Display,
    {
        match self.handshake_token(headers)? {
            Some(token) => self.check(token, ask).await.map(Some),
            None => Ok(None),
        }
    }

    async fn check_at<A, B, E>(&self, token: &str, ask: A, now: u64) -> Result<Verified, AuthError>
    where
        A: AsyncFnOnce(Request<()>) -> Result<Response<B>, E>,
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        E: Display,
    {
        let credential = self.value(token)?;
        let (expires, leeway, subject) = match &self.way {
            Way::Trust => (None, 0, None),
            Way::Ask(question) => {
                let credential = (self.header.clone(), credential);
                (question.ask(credential, ask, now).await?, 0, None)
            }
            Way::Jwt(checker) => {
                let claims = checker.check(token, now).await?;
                (claims.expires, checker.leeway(), claims.subject)
            }
        };
        let latest = now.saturating_add(LONGEST);
        let expires = expires.unwrap_or_else(|| now.saturating_add(self.lifetime.as_secs()));
        Ok(Verified {
            expires: expires.min(latest),
            ends: expires.saturating_add(leeway).min(latest),
            subject,
        })
    }

    fn value(&self, token: &str) -> Result<HeaderValue, BadToken> {
        if token.is_empty() {
            return Err(BadToken::Empty);
        }
        if token.len() > TOKEN_BYTES {
            return Err(BadToken::TooLong);
        }
        let spaced = token.starts_with(' ') || token.ends_with(' ');
        if spaced || !token.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(BadToken::Characters);
        }
        let text = match self.scheme.as_str() {
            "" => token.to_owned(),
            scheme => format!("{scheme} {token}"),
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| BadToken::Characters)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Seconds, rounded down; before 1970 is 0.
fn whole(seconds: f64) -> u64 {
    seconds.max(0.0) as u64
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn logout((method, path): &(Method, String)) -> Result<(Method, matchit::Router<()>), Error> {
    let mut paths = matchit::Router::new();
    match paths.insert(path.as_str(), ()) {
        Ok(()) if path.starts_with('/') => Ok((method.clone(), paths)),
        Ok(()) | Err(_) => Err(Error::Logout(path.clone())),
    }
}

/// Fields that belong to the connection or the message: a token there would break it.
fn is_framing(name: &HeaderName) -> bool {
    [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::EXPECT,
        header::ORIGIN,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::VIA,
    ]
    .contains(name)
        || ["keep-alive", "proxy-connection", "x-forwarded-for", "forwarded"]
            .contains(&name.as_str())
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
