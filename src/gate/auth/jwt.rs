//! A token that says itself who it is for and when it ends (RFC 7519), checked by its signature.
//!
//! Which algorithms a key may verify follows from the key, never from the token: a token that
//! names HMAC is not checked against the bytes of a public key.

use std::collections::HashSet;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation};
use serde::Deserialize;

use super::jwks::{Jwks, KeySet};
use super::{AuthError, Error, Jwt, whole};

/// Shortest HMAC secret (RFC 7518 §3.2 for HS256).
pub(super) const SECRET_BYTES: usize = 32;
/// Keys that are tried for a token that does not name one; each try costs a signature check.
const KEYS_TRIED: usize = 8;

/// Base64url length of the modulus of a 2048-bit key.
const RSA_2048_TEXT: usize = 342;
const P256_POINT: usize = 65;
const P384_POINT: usize = 97;
const ED25519_POINT: usize = 32;

use Algorithm::{
    ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
};
const HMAC: [Algorithm; 3] = [HS256, HS384, HS512];
const RSA: [Algorithm; 6] = [RS256, RS384, RS512, PS256, PS384, PS512];
const ASYMMETRIC: [Algorithm; 9] = [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA];

/// What a good token says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claimed {
    pub(super) expires: Option<u64>,
    pub(super) subject: Option<String>,
}

#[derive(Debug)]
pub(super) struct Checker {
    keys: Keys,
    algorithms: Vec<Algorithm>,
    validation: Validation,
    leeway: u64,
}

#[derive(Debug)]
enum Keys {
    One(Arc<KeySet>),
    Published(Jwks),
}

/// A key and what it may verify.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// The claims that are checked here. NumericDate may have a fraction (RFC 7519 §2).
#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    nbf: Option<f64>,
    sub: Option<String>,
}

impl Checker {
    pub(super) fn new(options: &Jwt) -> Result<Self, Error> {
        let listed = algorithms(&options.algorithms)?;
        let keys = match (&options.secret, &options.public_key, &options.jwks_url) {
            (Some(secret), None, None) => {
                one(Key::from_secret(secret.expose())?, &listed, "an HMAC secret")?
            }
            (None, Some(pem), None) => one(Key::from_pem(pem)?, &listed, "this public key")?,
            (None, None, Some(url)) => {
                if let Some(hmac) = listed.iter().find(|algorithm| HMAC.contains(algorithm)) {
                    return Err(mismatch(*hmac, "a published key"));
                }
                Keys::Published(Jwks::new(url)?)
            }
            (secret, pem, url) => {
                let given = [secret.is_some(), pem.is_some(), url.is_some()];
                return Err(Error::KeyCount(given.into_iter().filter(|given| *given).count()));
            }
        };
        let algorithms = match (listed.is_empty(), &keys) {
            (false, _) => listed,
            (true, Keys::One(set)) => {
                set.keys.iter().flat_map(|key| key.algorithms.clone()).collect()
            }
            (true, Keys::Published(_)) => ASYMMETRIC.to_vec(),
        };
        let leeway = options.leeway.as_secs();
        Ok(Checker { keys, algorithms, validation: validation(options), leeway })
    }

    /// Seconds by which clocks may differ.
    pub(super) fn leeway(&self) -> u64 {
        self.leeway
    }

    /// Checks a token at `now` (Unix seconds).
    pub(super) async fn check(&self, token: &str, now: u64) -> Result<Claimed, AuthError> {
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| AuthError::unauthorized("the token is no JWT with a known algorithm"))?;
        // RFC 7515 §4.1.11: what is critical must be understood, and no extension is.
        if header.crit.is_some() {
            return Err(AuthError::unauthorized("the token needs an extension that is not known"));
        }
        let algorithm = header.alg;
        if !self.algorithms.contains(&algorithm) {
            return Err(AuthError::unauthorized("the token's algorithm is not accepted"));
        }
        let id = header.kid.as_deref();
        let set = match &self.keys {
            Keys::One(set) => Arc::clone(set),
            Keys::Published(jwks) => jwks.keys(id, algorithm, tokio::time::Instant::now()).await?,
        };
        // A key from the configuration has no name, and verifies whatever name a token gives.
        let id = id.filter(|_| matches!(self.keys, Keys::Published(_)));
        let claims =
            self.decode(token, set.candidates(id, algorithm).take(KEYS_TRIED), algorithm)?;
        self.in_time(&claims, now)?;
        Ok(Claimed { expires: claims.exp.map(whole), subject: claims.sub })
    }

    fn decode<'a>(
        &self,
        token: &str,
        keys: impl Iterator<Item = &'a Key>,
        algorithm: Algorithm,
    ) -> Result<Claims, AuthError> {
        let mut validation = self.validation.clone();
        validation.algorithms = vec![algorithm];
        let mut reason = "the token was signed with a key that is not known";
        for key in keys {
            match jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation) {
                Ok(good) => return Ok(good.claims),
                Err(error) => reason = explain(error.kind()),
            }
        }
        Err(AuthError::unauthorized(reason))
    }

    /// RFC 7519 §4.1.4 and §4.1.5. Done here, since the library takes `now` from the clock.
    fn in_time(&self, claims: &Claims, now: u64) -> Result<(), AuthError> {
        if claims.exp.is_some_and(|exp| whole(exp).saturating_add(self.leeway) <= now) {
            return Err(AuthError::unauthorized("the token has expired"));
        }
        if claims.nbf.is_some_and(|nbf| whole(nbf.ceil()) > now.saturating_add(self.leeway)) {
            return Err(AuthError::unauthorized("the token is not valid yet"));
        }
        Ok(())
    }
}

impl Key {
    fn from_secret(secret: &[u8]) -> Result<Self, Error> {
        if secret.len() < SECRET_BYTES {
            return Err(Error::ShortSecret(secret.len()));
        }
        let decoding = DecodingKey::from_secret(secret);
        Ok(Key { id: None, algorithms: HMAC.to_vec(), decoding })
    }

    fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let names = |label: &str| pem.windows(label.len()).any(|part| part == label.as_bytes());
        if names("PRIVATE KEY-----") {
            return Err(Error::PrivateKey);
        }
        if names("BEGIN CERTIFICATE-----") {
            return Err(Error::Certificate);
        }
        let decoding = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .map_err(|_| Error::PublicKey)?;
        Key::asymmetric(None, decoding)
    }

    /// A published key, unless it is not for signatures or of a kind that is not verified here.
    pub(super) fn from_jwk(jwk: &Jwk) -> Option<Self> {
        use jsonwebtoken::jwk::{KeyOperations, PublicKeyUse};
        let common = &jwk.common;
        if common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return None;
        }
        let operations = common.key_operations.as_ref();
        if operations.is_some_and(|list| !list.contains(&KeyOperations::Verify)) {
            return None;
        }
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        let mut key = Key::asymmetric(common.key_id.clone(), decoding).ok()?;
        if let Some(only) = common.key_algorithm {
            let only = Algorithm::try_from(only).ok()?;
            key.algorithms.retain(|algorithm| *algorithm == only);
        }
        (!key.algorithms.is_empty()).then_some(key)
    }

    fn asymmetric(id: Option<String>, decoding: DecodingKey) -> Result<Self, Error> {
        let point = || decoding.try_get_as_bytes().map_or(0, <[u8]>::len);
        let algorithms = match decoding.family() {
            // A secret that is published is none.
            AlgorithmFamily::Hmac => return Err(Error::PublicKey),
            AlgorithmFamily::Rsa => {
                let jwk = Jwk::from_decoding_key(&decoding, None).map_err(|_| Error::PublicKey)?;
                match jwk.algorithm {
                    AlgorithmParameters::RSA(rsa) if rsa.n.len() >= RSA_2048_TEXT => RSA.to_vec(),
                    _ => return Err(Error::WeakRsaKey),
                }
            }
            AlgorithmFamily::Ec => match point() {
                P256_POINT => vec![ES256],
                P384_POINT => vec![ES384],
                _ => return Err(Error::PublicKey),
            },
            AlgorithmFamily::Ed => match point() {
                ED25519_POINT => vec![EdDSA],
                _ => return Err(Error::PublicKey),
            },
        };
        Ok(Key { id, algorithms, decoding })
    }
}

/// The only key, if all the listed algorithms are its own.
fn one(mut key: Key, listed: &[Algorithm], kind: &'static str) -> Result<Keys, Error> {
    if let Some(other) = listed.iter().find(|algorithm| !key.algorithms.contains(algorithm)) {
        return Err(mismatch(*other, kind));
    }
    if !listed.is_empty() {
        key.algorithms = listed.to_vec();
    }
    Ok(Keys::One(Arc::new(KeySet { keys: vec![key] })))
}

fn mismatch(algorithm: Algorithm, key: &'static str) -> Error {
    Error::AlgorithmMismatch { algorithm: format!("{algorithm:?}"), key }
}

fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, Error> {
    let known = |name: &String| name.parse().map_err(|_| Error::UnknownAlgorithm(name.clone()));
    names.iter().map(known).collect()
}

/// What the library checks: the issuer and the audience. Times are checked by the caller.
fn validation(options: &Jwt) -> Validation {
    let mut validation = Validation::new(HS256);
    validation.algorithms.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = options.audience.is_some();
    let mut required = HashSet::new();
    if let Some(issuer) = &options.issuer {
        validation.set_issuer(&[issuer]);
        required.insert("iss".to_owned());
    }
    if let Some(audience) = &options.audience {
        validation.set_audience(&[audience]);
        required.insert("aud".to_owned());
    }
    validation.required_spec_claims = required;
    validation
}

/// What the client is told.
fn explain(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::InvalidSignature => "the token's signature is not valid",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks its issuer or audience",
        _ => "the token cannot be read",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::gate::auth::Secret;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    pub(in crate::gate::auth) const NOW: u64 = 1_400_000_000;
    const SECRET: &[u8] = b"an hmac secret of at least 32 bytes";

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/jwt/", $name))
        };
    }
    pub(in crate::gate::auth) use fixture;

    /// Signs claims, with `kid` if there is one.
    pub(in crate::gate::auth) fn sign(
        algorithm: Algorithm,
        key: &EncodingKey,
        kid: Option<&str>,
        claims: &Value,
    ) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        encode(&header, claims, key).unwrap()
    }

    pub(in crate::gate::auth) fn rsa(pem: &[u8]) -> EncodingKey {
        EncodingKey::from_rsa_pem(pem).unwrap()
    }

    pub(in crate::gate::auth) fn ec(pem: &[u8]) -> EncodingKey {
        EncodingKey::from_ec_pem(pem).unwrap()
    }

    fn hmac(token_key: &[u8], claims: &Value) -> String {
        sign(HS256, &EncodingKey::from_secret(token_key), None, claims)
    }

    fn with_secret(jwt: Jwt) -> Checker {
        Checker::new(&Jwt { secret: Some(Secret::new(SECRET)), ..jwt }).unwrap()
    }

    fn with_pem(pem: &[u8], algorithms: &[&str]) -> Result<Checker, Error> {
        let algorithms = algorithms.iter().map(|name| (*name).to_owned()).collect();
        Checker::new(&Jwt { public_key: Some(pem.to_vec()), algorithms, ..Jwt::default() })
    }

    async fn verdict(checker: &Checker, token: &str) -> Result<Claimed, String> {
        checker.check(token, NOW).await.map_err(|error| match error {
            AuthError::Unauthorized(reason) => reason,
            AuthError::Unavailable(reason) => panic!("unavailable: {reason}"),
        })
    }

    fn good() -> Value {
        json!({ "sub": "alice", "exp": NOW + 60 })
    }

    fn alice() -> Claimed {
        Claimed { expires: Some(NOW + 60), subject: Some("alice".to_owned()) }
    }

    #[tokio::test]
    async fn each_algorithm_is_verified_with_its_own_key() {
        type Case<'a> = (Algorithm, EncodingKey, &'a [u8], &'a [u8]);
        let (rsa1, rsa2) = (fixture!("rsa1.pub.pem"), fixture!("rsa2.pub.pem"));
        let (ec1, ec2) = (fixture!("ec1.pub.pem"), fixture!("ec2.pub.pem"));
        let cases: Vec<Case<'_>> = vec![
            (RS256, rsa(fixture!("rsa1.pem")), rsa1, rsa2),
            (RS512, rsa(fixture!("rsa1.pem")), rsa1, rsa2),
            (PS384, rsa(fixture!("rsa1.pem")), rsa1, ec1),
            (ES256, ec(fixture!("ec1.pem")), ec1, ec2),
            (ES384, ec(fixture!("p384.pem")), fixture!("p384.pub.pem"), ec1),
            (
                EdDSA,
                EncodingKey::from_ed_pem(fixture!("ed25519.pem")).unwrap(),
                fixture!("ed25519.pub.pem"),
                ec1,
            ),
        ];
        for (algorithm, private, public, other) in cases {
            let token = sign(algorithm, &private, None, &good());
            let name = format!("{algorithm:?}");
            for listed in [&[][..], &[name.as_str()]] {
                let checker = with_pem(public, listed).unwrap();
                assert_eq!(verdict(&checker, &token).await, Ok(alice()), "{name}");
            }
            let refused = verdict(&with_pem(other, &[]).unwrap(), &token).await;
            assert!(refused.is_err(), "{name} with another key: {refused:?}");
            assert!(verdict(&with_secret(Jwt::default()), &token).await.is_err(), "{name}");
        }
        let checker = with_secret(Jwt::default());
        assert_eq!(verdict(&checker, &hmac(SECRET, &good())).await, Ok(alice()));
        let other = hmac(b"another hmac secret of 32 bytes or more", &good());
        assert_eq!(
            verdict(&checker, &other).await,
            Err("the token's signature is not valid".to_owned())
        );
    }

    #[tokio::test]
    async fn a_changed_token_is_refused() {
        let checker = with_secret(Jwt::default());
        let token = hmac(SECRET, &good());
        let other = hmac(SECRET, &json!({ "sub": "root", "exp": NOW + 60 }));
        let parts: Vec<&str> = token.split('.').collect();
        let theirs: Vec<&str> = other.split('.').collect();
        let spliced = format!("{}.{}.{}", parts[0], theirs[1], parts[2]);
        assert_eq!(
            verdict(&checker, &spliced).await,
            Err("the token's signature is not valid".to_owned())
        );
        for broken in [
            format!("{}.{}", parts[0], parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{token}."),
            format!("{token}.{}", parts[2]),
            "".to_owned(),
            "..".to_owned(),
        ] {
            assert!(verdict(&checker, &broken).await.is_err(), "{broken}");
        }
    }

    #[tokio::test]
    async fn no_algorithm_is_no_signature() {
        // {"alg":"none","typ":"JWT"}, and the spellings that have got past others
        let heads = [
            "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0",
            "eyJhbGciOiJOb25lIn0",
            "eyJhbGciOiJOT05FIn0",
            "eyJhbGciOiIifQ",
            "e30",
        ];
        let token = hmac(SECRET, &good());
        let parts: Vec<&str> = token.split('.').collect();
        let secret = with_secret(Jwt::default());
        let public = with_pem(fixture!("rsa1.pub.pem"), &[]).unwrap();
        for head in heads {
            for signature in ["", parts[2]] {
                let forged = format!("{head}.{}.{signature}", parts[1]);
                let reason = Err("the token is no JWT with a known algorithm".to_owned());
                assert_eq!(verdict(&secret, &forged).await, reason, "{head}");
                assert_eq!(verdict(&public, &forged).await, reason, "{head}");
            }
        }
        let none = Jwt { algorithms: vec!["none".to_owned()], ..Jwt::default() };
        let refused = Checker::new(&Jwt { secret: Some(Secret::new(SECRET)), ..none }).unwrap_err();
        assert_eq!(refused, Error::UnknownAlgorithm("none".to_owned()));
    }

    #[tokio::test]
    async fn a_public_key_is_no_hmac_secret() {
        for pem in [&fixture!("rsa1.pub.pem")[..], fixture!("ec1.pub.pem")] {
            let checker = with_pem(pem, &[]).unwrap();
            let decoded = Key::from_pem(pem).unwrap();
            let der = decoded.decoding.try_get_as_bytes().unwrap();
            for secret in [pem, pem.trim_ascii_end(), der, b""] {
                let forged = hmac(secret, &good());
                assert_eq!(
                    verdict(&checker, &forged).await,
                    Err("the token's algorithm is not accepted".to_owned())
                );
                // Not even were the algorithm listed: the key itself does not fit.
                let open = Checker { algorithms: vec![HS256], ..with_pem(pem, &[]).unwrap() };
                assert!(verdict(&open, &forged).await.is_err());
            }
        }
    }

    #[tokio::test]
    async fn only_listed_algorithms_are_accepted() {
        let checker = with_pem(fixture!("rsa1.pub.pem"), &["RS384"]).unwrap();
        let key = rsa(fixture!("rsa1.pem"));
        assert!(verdict(&checker, &sign(RS384, &key, None, &good())).await.is_ok());
        for algorithm in [RS256, RS512, PS384] {
            let refused = verdict(&checker, &sign(algorithm, &key, None, &good())).await;
            assert_eq!(refused, Err("the token's algorithm is not accepted".to_owned()));
        }
    }

    #[tokio::test]
    async fn a_critical_extension_is_not_understood() {
        let key = EncodingKey::from_secret(SECRET);
        let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(HS256) };
        let token = encode(&header, &good(), &key).unwrap();
        let reason = Err("the token needs an extension that is not known".to_owned());
        assert_eq!(verdict(&with_secret(Jwt::default()), &token).await, reason);
    }

    #[tokio::test]
    async fn times_are_judged_with_leeway() {
        let (strict, lenient) = (
            with_secret(Jwt::default()),
            with_secret(Jwt { leeway: Duration::from_secs(30), ..Jwt::default() }),
        );
        let expired = Err("the token has expired");
        let early = Err("the token is not valid yet");
        let unread = Err("the token cannot be read");
        let ends = |at: u64| Ok(Some(at));
        type Case = (Value, Result<Option<u64>, &'static str>, Result<Option<u64>, &'static str>);
        let cases: Vec<Case> = vec![
            (json!({}), Ok(None), Ok(None)),
            (json!({ "exp": null }), Ok(None), Ok(None)),
            (json!({ "exp": NOW + 1 }), ends(NOW + 1), ends(NOW + 1)),
            (json!({ "exp": NOW }), expired, ends(NOW)),
            (json!({ "exp": NOW - 29 }), expired, ends(NOW - 29)),
            (json!({ "exp": NOW - 30 }), expired, expired),
            (json!({ "exp": NOW as f64 + 1.9 }), ends(NOW + 1), ends(NOW + 1)),
            (json!({ "exp": 0 }), expired, expired),
            (json!({ "exp": -1 }), expired, expired),
            (json!({ "exp": u64::MAX }), ends(u64::MAX), ends(u64::MAX)),
            (json!({ "exp": 1e300 }), ends(u64::MAX), ends(u64::MAX)),
            (json!({ "exp": "1400000060" }), unread, unread),
            (json!({ "exp": true }), unread, unread),
            (json!({ "nbf": NOW }), Ok(None), Ok(None)),
            (json!({ "nbf": NOW + 1 }), early, Ok(None)),
            (json!({ "nbf": NOW as f64 + 0.5 }), early, Ok(None)),
            (json!({ "nbf": NOW + 31 }), early, early),
            (json!({ "nbf": "soon" }), unread, unread),
            (json!({ "exp": NOW + 60, "nbf": NOW + 60 }), early, early),
        ];
        for (claims, strictly, leniently) in cases {
            let token = hmac(SECRET, &claims);
            for (checker, expected) in [(&strict, strictly), (&lenient, leniently)] {
                let found = verdict(checker, &token).await.map(|claimed| claimed.expires);
                assert_eq!(found, expected.map_err(str::to_owned), "{claims}");
            }
        }
    }

    #[tokio::test]
    async fn issuer_and_audience_must_be_there_and_match() {
        let jwt = Jwt {
            issuer: Some("https://id.example".to_owned()),
            audience: Some("pogo".to_owned()),
            ..Jwt::default()
        };
        let (checker, open) = (with_secret(jwt), with_secret(Jwt::default()));
        let cases = [
            (json!({ "iss": "https://id.example", "aud": "pogo" }), "good"),
            (json!({ "iss": "https://id.example", "aud": ["other", "pogo"] }), "good"),
            (
                json!({ "iss": "https://id.example", "aud": "other" }),
                "the token is for another audience",
            ),
            (
                json!({ "iss": "https://id.example", "aud": ["other"] }),
                "the token is for another audience",
            ),
            (
                json!({ "iss": "https://id.example", "aud": [] }),
                "the token is for another audience",
            ),
            (
                json!({ "iss": "https://id.example/", "aud": "pogo" }),
                "the token is of another issuer",
            ),
            (json!({ "iss": "https://id.example" }), "the token lacks its issuer or audience"),
            (
                json!({ "iss": "https://id.example", "aud": 7 }),
                "the token lacks its issuer or audience",
            ),
            (json!({ "aud": "pogo" }), "the token lacks its issuer or audience"),
            (json!({ "iss": null, "aud": "pogo" }), "the token lacks its issuer or audience"),
        ];
        for (claims, expected) in cases {
            let token = hmac(SECRET, &claims);
            let found = verdict(&checker, &token).await.map_or_else(|why| why, |_| "good".into());
            assert_eq!(found, expected, "{claims}");
            assert!(verdict(&open, &token).await.is_ok(), "{claims} where neither is asked for");
        }
    }

    #[tokio::test]
    async fn a_subject_is_text() {
        let checker = with_secret(Jwt::default());
        let unread = Err("the token cannot be read".to_owned());
        let cases = [
            (json!("alice"), Ok(Some("alice".to_owned()))),
            (json!(null), Ok(None)),
            (json!(42), unread.clone()),
            (json!({}), unread),
        ];
        for (subject, expected) in cases {
            let claimed = verdict(&checker, &hmac(SECRET, &json!({ "sub": subject }))).await;
            assert_eq!(claimed.map(|claimed| claimed.subject), expected, "{subject}");
        }
    }

    #[test]
    fn a_bad_key_does_not_start() {
        let cases: &[(&[u8], Error)] = &[
            (fixture!("rsa1.pem"), Error::PrivateKey),
            (fixture!("ec1.pem"), Error::PrivateKey),
            (fixture!("certificate.pem"), Error::Certificate),
            (fixture!("rsa1024.pub.pem"), Error::WeakRsaKey),
            (fixture!("p521.pub.pem"), Error::PublicKey),
            (b"", Error::PublicKey),
            (b"\xff not a key", Error::PublicKey),
            (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", Error::PublicKey),
        ];
        for (pem, expected) in cases {
            assert_eq!(with_pem(pem, &[]).unwrap_err(), *expected);
        }
    }

    #[test]
    fn an_algorithm_that_does_not_fit_the_key_does_not_start() {
        let jwt = |names: &[&str]| Jwt {
            algorithms: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Jwt::default()
        };
        let secret = |names| Jwt { secret: Some(Secret::new(SECRET)), ..jwt(names) };
        let url = |names| Jwt { jwks_url: Some("https://id.example/keys".into()), ..jwt(names) };
        let public = |pem: &[u8], names| Jwt { public_key: Some(pem.to_vec()), ..jwt(names) };
        let cases = [
            (secret(&["HS256", "RS256"]), "RS256 cannot be verified with an HMAC secret"),
            (
                public(fixture!("rsa1.pub.pem"), &["HS256"]),
                "HS256 cannot be verified with this public key",
            ),
            (
                public(fixture!("ec1.pub.pem"), &["ES384"]),
                "ES384 cannot be verified with this public key",
            ),
            (url(&["RS256", "HS512"]), "HS512 cannot be verified with a published key"),
            (secret(&["hs256"]), "\"hs256\" is no accepted signature algorithm; expected HS256"),
            (
                jwt(&[]),
                "a JWT is checked with exactly one of a secret, a public key and a JWKS URL; 0 are given",
            ),
            (
                Jwt { secret: Some(Secret::new(SECRET)), ..url(&[]) },
                "a JWT is checked with exactly one of a secret, a public key and a JWKS URL; 2 are given",
            ),
            (
                Jwt { secret: Some(Secret::new("short")), ..jwt(&[]) },
                "the secret has 5 bytes and could be guessed; at least 32 are needed",
            ),
        ];
        for (options, expected) in cases {
            let error = Checker::new(&options).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_was_not_signed_is_never_accepted(token in "[A-Za-z0-9_.-]{0,80}") {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let checker = with_secret(Jwt::default());
            prop_assert!(runtime.block_on(checker.check(&token, NOW)).is_err());
        }

        #[test]
        fn a_token_with_one_byte_changed_is_never_accepted(at in 0usize..150, new in "[A-Za-z0-9_-]") {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let token = hmac(SECRET, &good());
            // The last character of the signature holds bits that are not part of it.
            let at = at % (token.len() - 1);
            prop_assume!(token.as_bytes()[at] != b'.' && token[at..=at] != new);
            let mut changed = token.clone();
            changed.replace_range(at..=at, &new);
            let checker = with_secret(Jwt::default());
            prop_assert!(runtime.block_on(checker.check(&changed, NOW)).is_err());
        }
    }
}
