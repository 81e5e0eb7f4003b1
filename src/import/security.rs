//! Security schemes: where a client's credential stands in its requests.

use http::HeaderName;
use pogo::gate::auth::{Authenticator, Options};
use serde_json::Value;

use super::document::{Document, entries, items, text_of};

/// One scheme, under its name in the description.
pub(super) struct Scheme {
    pub(super) name: String,
    pub(super) place: Place,
}

/// Where the credential stands.
#[derive(Debug, PartialEq)]
pub(super) enum Place {
    /// `Authorization`, after this word. `token` says what is known of the token.
    Authorization {
        word: String,
        token: Token,
    },
    Header(String),
    Cookie(String),
    Query(String),
    /// Certificates of clients.
    Connection,
    Unknown(String),
}

#[derive(Debug, PartialEq)]
pub(super) enum Token {
    /// A password, or one of which nothing is said.
    Any,
    Jwt,
    OAuth,
    /// Where the issuer describes itself.
    OpenId(String),
}

impl Scheme {
    /// The header that carries the credential.
    pub(super) fn header_name(&self) -> Option<&str> {
        match &self.place {
            Place::Authorization { .. } => Some("authorization"),
            Place::Header(name) => Some(name),
            Place::Cookie(_) => Some("cookie"),
            Place::Query(_) | Place::Connection | Place::Unknown(_) => None,
        }
    }

    /// The `auth.header` and `auth.scheme` that put a token where this scheme has it.
    pub(super) fn auth(&self) -> Option<(HeaderName, String)> {
        let (header, scheme) = match &self.place {
            Place::Authorization { word, .. } => ("authorization", word.clone()),
            Place::Header(name) => (name.as_str(), String::new()),
            Place::Cookie(_) | Place::Query(_) | Place::Connection | Place::Unknown(_) => {
                return None;
            }
        };
        let header: HeaderName = header.parse().ok()?;
        let options =
            Options { header: header.clone(), scheme: scheme.clone(), ..Options::default() };
        Authenticator::new(&options).ok().map(|_| (header, scheme))
    }
}

pub(super) fn read(document: &Document, schemes: Option<&Value>) -> Vec<Scheme> {
    let read = |(name, scheme): (&String, &Value)| {
        let place = match document.follow(scheme) {
            Ok(scheme) => place(scheme),
            Err(reason) => Place::Unknown(reason),
        };
        Scheme { name: name.clone(), place }
    };
    entries(schemes).map(read).collect()
}

fn place(scheme: &Value) -> Place {
    let text = |key: &str| text_of(scheme.get(key)).unwrap_or_default();
    let bearer = |token| Place::Authorization { word: "Bearer".into(), token };
    match text("type").as_str() {
        "http" => {
            let word = text("scheme");
            let token = match text("bearerFormat").to_ascii_lowercase().contains("jwt") {
                true => Token::Jwt,
                false => Token::Any,
            };
            match word.to_ascii_lowercase().as_str() {
                "bearer" => bearer(token),
                "basic" => Place::Authorization { word: "Basic".into(), token: Token::Any },
                _ => Place::Authorization { word, token },
            }
        }
        "basic" => Place::Authorization { word: "Basic".into(), token: Token::Any },
        "oauth2" => bearer(Token::OAuth),
        "openIdConnect" => bearer(Token::OpenId(text("openIdConnectUrl"))),
        "mutualTLS" => Place::Connection,
        "apiKey" => match text("in").as_str() {
            "header" => Place::Header(text("name")),
            "cookie" => Place::Cookie(text("name")),
            "query" => Place::Query(text("name")),
            other => Place::Unknown(format!("an apiKey in {other:?}")),
        },
        other => Place::Unknown(format!("type {other:?}")),
    }
}

/// Whether a request without any credential will do.
pub(super) fn asks_nothing(security: &Value) -> bool {
    let Some(alternatives) = security.as_array() else { return false };
    let empty = |it: &Value| it.as_object().is_some_and(serde_json::Map::is_empty);
    alternatives.is_empty() || items(Some(security)).any(empty)
}
