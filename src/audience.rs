//! Whose eyes: the credentials and negotiation headers that a view is fetched with.
//!
//! Credentials live here, in memory, and nowhere else: `Debug` shows a keyed hash.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The fields of a request that can change its answer, sorted by name.
///
/// Equal audiences see equal answers, so they share one view. Equality compares the fields
/// themselves; the hash is keyed per process and is what logs may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Audience {
    fields: Vec<(HeaderName, HeaderValue)>,
    /// Set when the upstream answered `Vary: *`: this session's eyes only (RFC 9110 §12.5.5).
    session: Option<u64>,
}

/// What one client's requests look like: every field of its handshake that may be sent again.
#[derive(Clone, PartialEq, Eq)]
pub struct Viewer {
    credentials: Vec<(HeaderName, HeaderValue)>,
    negotiation: Vec<(HeaderName, HeaderValue)>,
    /// Counts only where the upstream names the field in `Vary`.
    other: Vec<(HeaderName, HeaderValue)>,
}

/// What an upstream's `Vary` asks for beyond what every audience has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Vary {
    pub names: Vec<HeaderName>,
    pub any: bool,
}

impl Vary {
    /// Nothing beyond.
    pub const NOTHING: &Self = &Self { names: Vec::new(), any: false };

    pub fn includes(&self, other: &Self) -> bool {
        (self.any || !other.any) && other.names.iter().all(|name| self.names.contains(name))
    }

    pub fn add(&mut self, other: &Self) {
        self.any |= other.any;
        for name in &other.names {
            if !self.names.contains(name) {
                self.names.push(name.clone());
            }
        }
        if self.names.len() > MAX_VARY {
            *self = Self { names: Vec::new(), any: true };
        }
    }
}

/// Fields of the handshake that belong to the connection or to the handshake itself.
fn is_of_the_handshake(name: &HeaderName) -> bool {
    const NOT_SENT_AGAIN: [HeaderName; 12] = [
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::EXPECT,
        header::PROXY_AUTHORIZATION,
        header::ACCEPT_ENCODING,
        header::TRAILER,
        header::CACHE_CONTROL,
        header::PRAGMA,
    ];
    let text = name.as_str();
    NOT_SENT_AGAIN.contains(name)
        || text.starts_with("sec-websocket-")
        || text.starts_with("if-")
        || text.starts_with("x-forwarded-")
        || matches!(text, "keep-alive" | "proxy-connection" | "forwarded" | "via")
}

/// What a client is taken to accept that does not say so: browsers say nothing with a handshake,
/// and a client of JSON messages prefers JSON.
pub const JSON_FIRST: HeaderValue = HeaderValue::from_static("application/json, */*;q=0.1");

impl Viewer {
    pub fn from_handshake(headers: &HeaderMap, credential_headers: &[HeaderName]) -> Self {
        let mut viewer =
            Self { credentials: Vec::new(), negotiation: Vec::new(), other: Vec::new() };
        for (name, value) in headers {
            // A copy: the value is a part of the buffer that the whole head was read into, which
            // would live as long as the session.
            let Ok(mut value) = HeaderValue::from_bytes(value.as_bytes()) else { continue };
            let group = if is_credential(name, credential_headers) {
                value.set_sensitive(true);
                &mut viewer.credentials
            } else if [header::ACCEPT, header::ACCEPT_LANGUAGE, header::HOST].contains(name) {
                &mut viewer.negotiation
            } else if is_of_the_handshake(name) {
                continue;
            } else {
                &mut viewer.other
            };
            group.push((name.clone(), value));
        }
        if !headers.contains_key(header::ACCEPT) {
            viewer.negotiation.push((header::ACCEPT, JSON_FIRST));
        }
        viewer.credentials.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        viewer.negotiation.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        // They are kept as long as the session.
        for group in [&mut viewer.credentials, &mut viewer.negotiation, &mut viewer.other] {
            group.shrink_to_fit();
        }
        viewer
    }

    /// The same client where other fields are credentials.
    pub fn with_credential_headers(&self, credential_headers: &[HeaderName]) -> Self {
        let (mut credentials, mut other) = (Vec::new(), Vec::new());
        for (name, value) in self.credentials.iter().chain(&self.other) {
            let mut value = value.clone();
            let is_credential = is_credential(name, credential_headers);
            value.set_sensitive(is_credential);
            let group = if is_credential { &mut credentials } else { &mut other };
            group.push((name.clone(), value));
        }
        credentials.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        Self { credentials, negotiation: self.negotiation.clone(), other }
    }

    /// The same client with this as its only credential.
    pub fn with_credential(&self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        Self { credentials: vec![(name, value)], ..self.clone() }
    }

    pub fn without_credentials(&self) -> Self {
        Self { credentials: Vec::new(), ..self.clone() }
    }

    pub fn credentials(&self) -> &[(HeaderName, HeaderValue)] {
        &self.credentials
    }

    /// The fields of a request that this client makes over its socket.
    pub fn request_fields(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        let agent = self.other.iter().filter(|(name, _)| {
            [header::USER_AGENT, header::ORIGIN, header::REFERER].contains(name)
        });
        self.credentials.iter().chain(&self.negotiation).chain(agent)
    }

    /// The audience of a resource that is shown to viewers (`public`: to everybody alike).
    pub fn audience(&self, public: bool, vary: &Vary, session: u64) -> Audience {
        let mut fields = self.negotiation.clone();
        if !public {
            fields.extend(self.credentials.iter().cloned());
        }
        let named = self.other.iter().filter(|(name, _)| vary.names.contains(name));
        fields.extend(named.cloned());
        fields.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        Audience { fields, session: vary.any.then_some(session) }
    }

    /// Whether a logout of `ended` logs this client out: the same `Authorization` or configured
    /// header, or cookies of which one side has all that the other has.
    pub fn shares_credential(&self, ended: &[(HeaderName, HeaderValue)]) -> bool {
        self.credentials.iter().any(|(name, value)| {
            ended.iter().any(|(other_name, other)| {
                name == other_name
                    && (value == other
                        || (*name == header::COOKIE
                            && (has_cookies(value, other) || has_cookies(other, value))))
            })
        })
    }
}

/// Whether a field carries a credential: `Authorization`, `Cookie` and the configured ones.
pub fn is_credential(name: &HeaderName, configured: &[HeaderName]) -> bool {
    *name == header::AUTHORIZATION || *name == header::COOKIE || configured.contains(name)
}

fn has_cookies(all: &HeaderValue, some: &HeaderValue) -> bool {
    let pairs = |value: &HeaderValue| -> Vec<Vec<u8>> {
        value
            .as_bytes()
            .split(|b| *b == b';')
            .map(|pair| pair.trim_ascii().to_vec())
            .filter(|pair| !pair.is_empty())
            .collect()
    };
    let (all, some) = (pairs(all), pairs(some));
    !some.is_empty() && some.iter().all(|pair| all.contains(pair))
}

impl Audience {
    /// Somebody of whom nothing is known.
    pub fn nobody() -> Self {
        Self { fields: Vec::new(), session: None }
    }

    pub fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }

    /// The same where nobody's credentials are sent.
    pub fn without_credentials(&self, configured: &[HeaderName]) -> Self {
        let fields = self.fields.iter().filter(|(name, _)| !is_credential(name, configured));
        Self { fields: fields.cloned().collect(), session: self.session }
    }

    pub fn has_credentials(&self, configured: &[HeaderName]) -> bool {
        self.fields.iter().any(|(name, _)| is_credential(name, configured))
    }

    /// Whether the credential says of itself that it cannot be sent twice: proofs of possession
    /// and request signatures. Any other can (a `Bearer` or a `Token`), so its 401 means revocation.
    pub fn is_single_use(&self) -> bool {
        self.fields.iter().any(|(name, value)| {
            name.as_str() == "dpop"
                || name.as_str() == "signature"
                || (*name == header::AUTHORIZATION && {
                    let scheme = value.as_bytes().split(|b| *b == b' ').next().unwrap_or_default();
                    let scheme = scheme.to_ascii_lowercase();
                    let known: [&[u8]; 5] = [b"dpop", b"signature", b"hawk", b"digest", b"oauth"];
                    known.contains(&&*scheme) || scheme.windows(4).any(|part| part == b"hmac")
                })
        })
    }

    fn keyed_hash(&self) -> u64 {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        let mut hasher = KEY.get_or_init(RandomState::new).build_hasher();
        for (name, value) in &self.fields {
            name.as_str().hash(&mut hasher);
            value.as_bytes().hash(&mut hasher);
        }
        self.session.hash(&mut hasher);
        hasher.finish()
    }
}

impl Hash for Audience {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.keyed_hash().hash(state);
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Audience({:016x})", self.keyed_hash())
    }
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewer")
            .field("credentials", &self.credentials.len())
            .finish_non_exhaustive()
    }
}

/// Reads `Vary`, leaving out what every audience has anyway and what a refetch never sends.
pub fn vary_of(headers: &HeaderMap, credential_headers: &[HeaderName]) -> Vary {
    let mut vary = Vary::default();
    for value in headers.get_all(header::VARY) {
        for name in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if name == b"*" {
                vary.any = true;
            } else if let Ok(name) = HeaderName::from_bytes(name) {
                let known = is_credential(&name, credential_headers)
                    || [
                        header::ACCEPT,
                        header::ACCEPT_LANGUAGE,
                        header::HOST,
                        header::ACCEPT_ENCODING,
                    ]
                    .contains(&name);
                if !known && !vary.names.contains(&name) {
                    vary.names.push(name);
                }
            }
        }
    }
    vary.names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    if vary.names.len() > MAX_VARY {
        vary = Vary { names: Vec::new(), any: true };
    }
    vary
}

/// Names that are told apart; an upstream that lists more is taken to have said `*`.
const MAX_VARY: usize = 16;

/// One URI as one audience sees it: what a view is found by.
#[derive(Debug)]
pub struct ViewKey {
    pub uri: crate::uri::Uri,
    pub audience: Arc<Audience>,
    hash: u64,
}

impl ViewKey {
    pub fn new(uri: crate::uri::Uri, audience: Arc<Audience>) -> Self {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        let hash = KEY.get_or_init(RandomState::new).hash_one((&uri, &*audience));
        Self { uri, audience, hash }
    }

    /// 0..1, the same for this key as long as the process lives.
    pub fn spread(&self) -> f64 {
        f64::from(u16::try_from(self.hash & 0xffff).unwrap_or(0)) / f64::from(u16::MAX)
    }

    /// The worker, of `workers`, that fetches this view.
    pub fn home(&self, workers: usize) -> usize {
        usize::try_from(self.hash >> 32).unwrap_or(0) % workers.max(1)
    }
}

impl PartialEq for ViewKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.uri == other.uri && self.audience == other.audience
    }
}

impl Eq for ViewKey {}

impl Hash for ViewKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}
