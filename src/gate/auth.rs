//! Who is this: a token becomes a credential towards the upstream, and an end.
//!
//! A token is checked by asking the upstream (`verify`), or here as a JWT, or not at all; then the
//! upstream judges each request. Whatever the way, a token that could not ride in a header is bad.

mod jwks;
mod jwt;
mod options;
mod verify;

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Body;

use crate::uri::PathKey;

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
    /// When Pogo drops it: the same, but the leeway later for a JWT that says when it ends.
    pub ends: u64,
    /// A JWT's `sub`.
    pub subject: Option<String>,
}

/// Checks tokens. Shared by all workers.
#[derive(Debug)]
pub struct Authenticator {
    options: Options,
    logout: Vec<(Method, matchit::Router<()>)>,
    way: Arc<Way>,
}

#[derive(Debug)]
enum Way {
    Ask(verify::Question),
    Jwt(Box<jwt::Checker>),
    Trust,
}

impl Authenticator {
    pub fn new(options: &Options) -> Result<Self, Error> {
        Self::after(None, options)
    }

    /// The one that takes this one's place. If tokens are checked in the same way, the issuer's
    /// keys that were fetched are kept.
    pub fn succeed(&self, options: &Options) -> Result<Self, Error> {
        Self::after(Some(self), options)
    }

    /// Whether a token that is good there is good here.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let (own, others) = (&self.options, &other.options);
        Arc::ptr_eq(&self.way, &other.way)
            && own.header == others.header
            && own.scheme == others.scheme
    }

    fn after(before: Option<&Self>, options: &Options) -> Result<Self, Error> {
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
            (None, Some(jwt)) => Way::Jwt(Box::new(jwt::Checker::new(jwt)?)),
            (None, None) => Way::Trust,
        };
        let same = before.filter(|before| {
            let before = &before.options;
            before.verify == options.verify
                && before.expires_pointer == options.expires_pointer
                && before.jwt == options.jwt
        });
        Ok(Authenticator {
            options: options.clone(),
            logout: options.logout.iter().map(logout).collect::<Result<_, _>>()?,
            way: same.map_or_else(|| Arc::new(way), |before| Arc::clone(&before.way)),
        })
    }

    /// Whether a session without a good token is to be closed.
    pub fn required(&self) -> bool {
        self.options.required
    }

    /// Whether a request that the upstream accepted ends the credential it came with.
    pub fn is_logout(&self, method: &Method, path: &str) -> bool {
        // In the spelling of the request, and as the upstream may understand it.
        let mut of_method = self.logout.iter().filter(|(listed, _)| listed == method).peekable();
        if of_method.peek().is_none() {
            return false;
        }
        let key = PathKey::of(path).to_string();
        of_method.any(|(_, paths)| paths.at(path).is_ok() || paths.at(&key).is_ok())
    }

    /// The credential that `token` becomes towards the upstream. The value is marked sensitive.
    pub fn credential(&self, token: &str) -> Result<(HeaderName, HeaderValue), BadToken> {
        self.value(token).map(|value| (self.options.header.clone(), value))
    }

    /// The token in the headers of a handshake; none if there is no credential of this scheme,
    /// which is then the upstream's to judge.
    pub fn handshake_token<'a>(
        &self,
        headers: &'a HeaderMap,
    ) -> Result<Option<&'a str>, AuthError> {
        let mut lines = headers.get_all(&self.options.header).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        // Two lines leave open which of them the upstream would believe.
        if lines.next().is_some() {
            return Err(AuthError::Unauthorized(format!(
                "more than one {} field",
                self.options.header
            )));
        }
        let text = line.to_str().map_err(|_| BadToken::Characters)?;
        if self.options.scheme.is_empty() {
            return Ok(Some(text));
        }
        let blank = [' ', '\t'];
        match text.split_once(blank) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(&self.options.scheme) => {
                Ok(Some(token.trim_matches(blank)))
            }
            None if text.eq_ignore_ascii_case(&self.options.scheme) => Err(BadToken::Empty.into()),
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
            None => self.check_fields(headers, ask).await,
        }
    }

    /// Asks the upstream about cookies, or a credential of another scheme: it knows its own.
    async fn check_fields<A, B, E>(
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
        let Way::Ask(question) = &*self.way else { return Ok(None) };
        let names = [&header::AUTHORIZATION, &header::COOKIE, &self.options.header];
        let fields = headers.iter().filter(|(name, _)| names.contains(name));
        let fields: Vec<_> = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
        if fields.is_empty() {
            return Ok(None);
        }
        let now = unix_now();
        let expires = question.ask(fields, ask, now).await?;
        Ok(Some(self.verified(expires, 0, None, now)))
    }

    async fn check_at<A, B, E>(&self, token: &str, ask: A, now: u64) -> Result<Verified, AuthError>
    where
        A: AsyncFnOnce(Request<()>) -> Result<Response<B>, E>,
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        E: Display,
    {
        let credential = self.value(token)?;
        let (expires, leeway, subject) = match &*self.way {
            Way::Trust => (None, 0, None),
            Way::Ask(question) => {
                let credential = (self.options.header.clone(), credential);
                (question.ask(vec![credential], ask, now).await?, 0, None)
            }
            Way::Jwt(checker) => {
                let claims = checker.check(token, now).await?;
                // A lifetime counts from our own clock, and needs no leeway.
                let leeway = if claims.expires.is_some() { checker.leeway() } else { 0 };
                (claims.expires, leeway, claims.subject)
            }
        };
        Ok(self.verified(expires, leeway, subject, now))
    }

    fn verified(
        &self,
        expires: Option<u64>,
        leeway: u64,
        subject: Option<String>,
        now: u64,
    ) -> Verified {
        let latest = now.saturating_add(LONGEST);
        let expires =
            expires.unwrap_or_else(|| now.saturating_add(self.options.lifetime.as_secs()));
        Verified {
            expires: expires.min(latest),
            ends: expires.saturating_add(leeway).min(latest),
            subject,
        }
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
        let text = match self.options.scheme.as_str() {
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

#[cfg(test)]
mod tests {
    use super::jwt::tests::{NOW, sign};
    use super::*;
    use http_body_util::Full;
    use jsonwebtoken::{Algorithm, EncodingKey};
    use proptest::prelude::*;
    use serde_json::json;
    use std::convert::Infallible;

    const SECRET: &[u8] = b"an hmac secret of at least 32 bytes";

    fn authenticator(options: &Options) -> Authenticator {
        Authenticator::new(options).unwrap()
    }

    async fn unasked(_: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
        panic!("the upstream is not to be asked")
    }

    fn with_jwt(leeway: u64) -> Options {
        let jwt = Jwt {
            secret: Some(Secret::new(SECRET)),
            leeway: Duration::from_secs(leeway),
            ..Jwt::default()
        };
        Options { jwt: Some(jwt), lifetime: Duration::from_secs(600), ..Options::default() }
    }

    fn signed(claims: &serde_json::Value) -> String {
        sign(Algorithm::HS256, &EncodingKey::from_secret(SECRET), None, claims)
    }

    #[test]
    fn a_token_becomes_a_credential() {
        let cases = [
            ("authorization", "Bearer", "abc.DEF", "Bearer abc.DEF"),
            ("authorization", "Token", "token=\"x\"", "Token token=\"x\""),
            ("x-api-key", "", "abc", "abc"),
            ("x-api-key", "", "Basic abc", "Basic abc"),
        ];
        for (header, scheme, token, expected) in cases {
            let made = authenticator(&Options {
                header: HeaderName::from_static(header),
                scheme: scheme.to_owned(),
                ..Options::default()
            });
            let (name, value) = made.credential(token).unwrap();
            assert_eq!((name.as_str(), value.to_str().unwrap()), (header, expected));
            assert!(value.is_sensitive());
            assert!(!format!("{value:?}").contains(token));
        }
    }

    #[tokio::test]
    async fn a_token_that_no_header_may_carry_is_bad_whatever_the_way() {
        let verify = Options { verify: Some("/me".to_owned()), ..Options::default() };
        let ways = [
            authenticator(&Options::default()),
            authenticator(&verify),
            authenticator(&with_jwt(0)),
        ];
        let long = "a".repeat(TOKEN_BYTES + 1);
        let cases = [
            ("", BadToken::Empty),
            (long.as_str(), BadToken::TooLong),
            ("a\r\nX-Evil: 1", BadToken::Characters),
            ("a\rb", BadToken::Characters),
            ("a\nb", BadToken::Characters),
            ("a\0b", BadToken::Characters),
            ("a\tb", BadToken::Characters),
            ("a\u{7f}", BadToken::Characters),
            ("t\u{f6}ken", BadToken::Characters),
            (" a", BadToken::Characters),
            ("a ", BadToken::Characters),
            (" ", BadToken::Characters),
        ];
        for way in &ways {
            for (token, expected) in cases {
                assert_eq!(way.credential(token).unwrap_err(), expected, "{token:?}");
                assert_eq!(way.check(token, unasked).await, Err(expected.into()), "{token:?}");
            }
        }
        assert!(ways[0].credential(&long[1..]).is_ok());
    }

    #[tokio::test]
    async fn a_token_that_says_nothing_lasts_its_lifetime() {
        let lasts = |expires| Ok(Verified { expires, ends: expires, subject: None });
        let trusting = authenticator(&Options::default());
        assert_eq!(trusting.check_at("opaque", unasked, NOW).await, lasts(NOW + 3600));
        let checking = authenticator(&with_jwt(30));
        assert_eq!(checking.check_at(&signed(&json!({})), unasked, NOW).await, lasts(NOW + 600));
        let asking = authenticator(&Options { verify: Some("/me".into()), ..Options::default() });
        let answer = async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()));
        assert_eq!(asking.check_at("opaque", answer, NOW).await, lasts(NOW + 3600));
    }

    #[tokio::test]
    async fn a_token_that_says_when_it_ends_ends_then() {
        let checking = authenticator(&with_jwt(30));
        let token = signed(&json!({ "exp": NOW + 7200, "sub": "alice" }));
        let expected =
            Verified { expires: NOW + 7200, ends: NOW + 7230, subject: Some("alice".to_owned()) };
        assert_eq!(checking.check_at(&token, unasked, NOW).await, Ok(expected));
        let asking = authenticator(&Options {
            verify: Some("/me".into()),
            expires_pointer: Some("/exp".into()),
            ..Options::default()
        });
        let body = format!(r#"{{"exp":{}}}"#, NOW + 7200);
        let answer = async |_| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))));
        let expected = Verified { expires: NOW + 7200, ends: NOW + 7200, subject: None };
        assert_eq!(asking.check_at("opaque", answer, NOW).await, Ok(expected));
        let token = signed(&json!({ "exp": u64::MAX }));
        let longest = checking.check_at(&token, unasked, NOW).await.unwrap();
        assert_eq!((longest.expires, longest.ends), (NOW + LONGEST, NOW + LONGEST));
    }

    #[test]
    fn the_handshake_may_bring_a_token() {
        let bearer = authenticator(&Options::default());
        let key = authenticator(&Options {
            header: HeaderName::from_static("x-api-key"),
            scheme: String::new(),
            ..Options::default()
        });
        let cases = [
            ("Bearer abc", Ok(Some("abc"))),
            ("bearer abc", Ok(Some("abc"))),
            ("BEARER   abc", Ok(Some("abc"))),
            ("Bearer\tabc", Ok(Some("abc"))),
            ("Bearer", Err(BadToken::Empty)),
            ("Bearer\u{e4} abc", Err(BadToken::Characters)),
            ("Basic abc", Ok(None)),
            ("Bearerabc", Ok(None)),
            ("", Ok(None)),
        ];
        for (line, expected) in cases {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            headers.insert(header::AUTHORIZATION, value);
            let found = bearer.handshake_token(&headers);
            assert_eq!(found, expected.map_err(AuthError::from), "{line}");
            assert_eq!(key.handshake_token(&headers), Ok(None));
        }
        let mut headers = HeaderMap::new();
        assert_eq!(bearer.handshake_token(&headers), Ok(None));
        headers.insert("x-api-key", "abc".parse().unwrap());
        assert_eq!(key.handshake_token(&headers), Ok(Some("abc")));
        headers.append("x-api-key", "abc".parse().unwrap());
        let reason = "more than one x-api-key field";
        assert_eq!(key.handshake_token(&headers), Err(AuthError::unauthorized(reason)));
    }

    #[tokio::test]
    async fn the_token_of_a_handshake_is_checked_like_any_other() {
        let checking = authenticator(&with_jwt(0));
        let mut headers = HeaderMap::new();
        assert_eq!(checking.check_handshake(&headers, unasked).await, Ok(None));
        let line = format!("bearer {}", signed(&json!({ "sub": "alice" })));
        headers.insert(header::AUTHORIZATION, line.parse().unwrap());
        let found = checking.check_handshake(&headers, unasked).await.unwrap().unwrap();
        assert_eq!(found.subject.as_deref(), Some("alice"));
        headers.insert(header::AUTHORIZATION, "Bearer forged".parse().unwrap());
        let refused = checking.check_handshake(&headers, unasked).await;
        assert!(matches!(refused, Err(AuthError::Unauthorized(_))), "{refused:?}");
    }

    #[test]
    fn a_logout_is_known_by_method_and_path() {
        let leaving = authenticator(&Options {
            logout: vec![
                (Method::POST, "/logout".to_owned()),
                (Method::DELETE, "/sessions/{id}".to_owned()),
            ],
            ..Options::default()
        });
        for (method, path, expected) in [
            (Method::POST, "/logout", true),
            (Method::GET, "/logout", false),
            (Method::POST, "/logout/x", false),
            (Method::POST, "/logout/", true),
            (Method::POST, "//log%6fut;now", true),
            (Method::DELETE, "/sessions/a%2Fb", true),
            (Method::DELETE, "/sessions/7", true),
            (Method::DELETE, "/sessions", false),
        ] {
            assert_eq!(leaving.is_logout(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn what_contradicts_itself_does_not_start() {
        let me = Some("/me".to_owned());
        let defaults = Options::default;
        let cases = [
            (
                Options { verify: me.clone(), ..with_jwt(0) },
                "a token is checked by verify or as a JWT, not both; remove one",
            ),
            (
                Options { expires_pointer: Some("/exp".into()), ..defaults() },
                "expires_pointer reads the answer of verify, and there is no verify",
            ),
            (
                Options { expires_pointer: Some("/exp".into()), ..with_jwt(0) },
                "expires_pointer reads the answer of verify, and there is no verify",
            ),
            (
                Options { header: header::TRANSFER_ENCODING, ..defaults() },
                "transfer-encoding cannot carry a credential",
            ),
            (
                Options { scheme: "Bearer\r\nX: ".into(), ..defaults() },
                "\"Bearer\\r\\nX: \" is no authentication scheme; expected one word, or \"\"",
            ),
            (
                Options { lifetime: Duration::from_millis(999), ..defaults() },
                "the lifetime of a token must be at least 1s",
            ),
            (
                Options { logout: vec![(Method::POST, "logout".into())], ..defaults() },
                "\"logout\" is no path pattern; expected \"/logout\" or \"/users/{id}\"",
            ),
            (
                Options { logout: vec![(Method::POST, "/a/{b".into())], ..defaults() },
                "\"/a/{b\" is no path pattern; expected \"/logout\" or \"/users/{id}\"",
            ),
        ];
        for (options, expected) in cases {
            assert_eq!(Authenticator::new(&options).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let options = with_jwt(0);
        let made = authenticator(&options);
        assert_eq!(format!("{0} {0:?}", Secret::new(SECRET)), "*** ***");
        let secret = std::str::from_utf8(SECRET).unwrap();
        for printed in [format!("{options:?}"), format!("{options:#?}"), format!("{made:?}")] {
            assert!(!printed.contains(secret), "{printed}");
            assert!(!printed.contains("97, 110, 32"), "{printed}");
        }
    }

    #[test]
    fn a_check_may_run_on_any_thread() {
        fn send<T: Send + Sync>(_: &T) {}
        send(&authenticator(&with_jwt(0)));
    }

    proptest! {
        #[test]
        fn a_credential_is_one_header_value_with_the_token_at_its_end(token in ".{0,40}") {
            let made = authenticator(&Options::default());
            if let Ok((_, value)) = made.credential(&token) {
                prop_assert_eq!(value.to_str().unwrap(), format!("Bearer {token}"));
                let mut headers = HeaderMap::new();
                headers.insert(header::AUTHORIZATION, value);
                let back = made.handshake_token(&headers);
                prop_assert_eq!(back, Ok(Some(token.as_str())));
            }
        }
    }
}
