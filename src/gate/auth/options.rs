//! What the authenticator is told, and what is wrong with it.

use std::fmt::{self, Display};
use std::time::Duration;

use http::Method;
use http::header::{self, HeaderName};

use super::jwt::SECRET_BYTES;

/// Bytes that are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Secret(bytes.into())
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How tokens are taken, checked and passed on.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The field that carries the credential.
    pub header: HeaderName,
    /// The word before the token; empty for a field that holds the bare token.
    pub scheme: String,
    /// A path of the upstream whose GET tells whether the token is good.
    pub verify: Option<String>,
    /// Where the answer of `verify` says when the token ends (RFC 6901).
    pub expires_pointer: Option<String>,
    /// How long a token lasts that says nothing itself.
    pub lifetime: Duration,
    /// Whether a session without a good token is closed.
    pub required: bool,
    /// Requests that end the session's credential.
    pub logout: Vec<(Method, String)>,
    /// Check tokens here.
    pub jwt: Option<Jwt>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            header: header::AUTHORIZATION,
            scheme: "Bearer".to_owned(),
            verify: None,
            expires_pointer: None,
            lifetime: Duration::from_secs(60 * 60),
            required: false,
            logout: Vec::new(),
            jwt: None,
        }
    }
}

/// How a JWT is checked: with exactly one of `secret`, `public_key` and `jwks_url`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Jwt {
    /// The signature algorithms that are accepted; empty is all that fit the key.
    pub algorithms: Vec<String>,
    /// For HMAC; at least 32 bytes.
    pub secret: Option<Secret>,
    /// A public key (RSA of 2048 bits or more, P-256, P-384, Ed25519) in PEM.
    pub public_key: Option<Vec<u8>>,
    /// Where the issuer publishes its keys.
    pub jwks_url: Option<String>,
    /// What `iss` must be; a token without it is then refused.
    pub issuer: Option<String>,
    /// What must be among `aud`; a token without it is then refused. None: `aud` is not looked at.
    pub audience: Option<String>,
    /// By how much clocks may differ.
    pub leeway: Duration,
}

/// Why an [`Authenticator`](super::Authenticator) cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    Header(HeaderName),
    Scheme(String),
    VerifyPath(String),
    ExpiresPointer(String),
    PointerWithoutVerify,
    VerifyAndJwt,
    Lifetime,
    Logout(String),
    KeyCount(usize),
    UnknownAlgorithm(String),
    AlgorithmMismatch { algorithm: String, key: &'static str },
    ShortSecret(usize),
    PrivateKey,
    Certificate,
    PublicKey,
    WeakRsaKey,
    JwksUrl(&'static str),
    HttpClient(String),
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Header(name) => write!(f, "{name} cannot carry a credential"),
            Error::Scheme(scheme) => {
                write!(f, "{scheme:?} is no authentication scheme; expected one word, or \"\"")
            }
            Error::VerifyPath(path) => {
                write!(f, "{path:?} is no path of the upstream; expected \"/…\"")
            }
            Error::ExpiresPointer(pointer) => write!(
                f,
                "{pointer:?} is no JSON pointer; expected \"/name\" or \"/outer/inner\" (RFC 6901)"
            ),
            Error::PointerWithoutVerify => {
                f.write_str("expires_pointer reads the answer of verify, and there is no verify")
            }
            Error::VerifyAndJwt => {
                f.write_str("a token is checked by verify or as a JWT, not both; remove one")
            }
            Error::Lifetime => f.write_str("the lifetime of a token must be at least 1s"),
            Error::Logout(path) => {
                write!(f, "{path:?} is no path pattern; expected \"/logout\" or \"/users/{{id}}\"")
            }
            Error::KeyCount(count) => write!(
                f,
                "a JWT is checked with exactly one of a secret, a public key and a JWKS URL; \
                 {count} are given"
            ),
            Error::UnknownAlgorithm(name) => write!(
                f,
                "{name:?} is no accepted signature algorithm; expected HS256, HS384, HS512, RS256, \
                 RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA"
            ),
            Error::AlgorithmMismatch { algorithm, key } => {
                write!(f, "{algorithm} cannot be verified with {key}")
            }
            Error::ShortSecret(bytes) => write!(
                f,
                "the secret has {bytes} bytes and could be guessed; at least {} are needed \
                 (RFC 7518 §3.2)",
                SECRET_BYTES
            ),
            Error::PrivateKey => f.write_str(
                "this is a private key; give only the public one (openssl pkey -pubout)",
            ),
            Error::Certificate => {
                f.write_str("this is a certificate; give its key (openssl x509 -pubkey -noout)")
            }
            Error::PublicKey => {
                f.write_str("this is no public key in PEM of RSA, P-256, P-384 or Ed25519")
            }
            Error::WeakRsaKey => f.write_str("the RSA key is shorter than 2048 bits"),
            Error::JwksUrl(reason) => write!(f, "the JWKS URL {reason}"),
            Error::HttpClient(reason) => write!(f, "no HTTPS client for the JWKS URL: {reason}"),
        }
    }
}

impl std::error::Error for Error {}
