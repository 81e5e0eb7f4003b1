//! The keys an issuer publishes (RFC 7517), fetched when they are needed and kept.
//!
//! Anyone can send a token that names a key nobody knows, so what such a token can cause is
//! bounded: one fetch at a time, and one in [`REFRESH_INTERVAL`].

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::jwt::Key;
use super::{AuthError, Error};

/// A token with an unknown key causes at most one fetch in this time.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// The same after a fetch that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// After this keys are fetched again, so that a withdrawn one is forgotten; meanwhile they serve.
const FRESH_FOR: Duration = Duration::from_secs(10 * 60);
/// After this they serve no longer, however long the issuer cannot be reached.
const STALE_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const BODY_BYTES: usize = 1024 * 1024;

/// Keys that are in force together.
#[derive(Debug)]
pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
}

impl KeySet {
    /// The keys a token may have been signed with: those it names, or all when it names none.
    pub(super) fn candidates<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'a Key> {
        self.keys.iter().filter(move |key| {
            (id.is_none() || id == key.id.as_deref()) && key.algorithms.contains(&algorithm)
        })
    }

    /// Unreadable and unusable keys are left out: the issuer may publish what others can use.
    fn parse(body: &[u8]) -> Option<KeySet> {
        #[derive(Deserialize)]
        struct Published {
            keys: Vec<Value>,
        }
        let published: Published = serde_json::from_slice(body).ok()?;
        let keys = published.keys.into_iter().filter_map(|key| {
            let jwk: Jwk = serde_json::from_value(key).ok()?;
            Key::from_jwk(&jwk)
        });
        Some(KeySet { keys: keys.collect() })
    }
}

#[derive(Debug)]
pub(super) struct Jwks {
    url: reqwest::Url,
    client: reqwest::Client,
    cache: Arc<Cache>,
    /// Whose turn it is to fetch. Held while fetching, which is what makes it one at a time; a
    /// fetch ends by its time-out, and so does the wait for one.
    turn: Arc<Mutex<Option<Attempt>>>,
}

/// What the last fetch that succeeded brought.
#[derive(Debug, Default)]
struct Cache(ArcSwapOption<Fetched>);

#[derive(Debug)]
struct Fetched {
    set: Arc<KeySet>,
    at: Instant,
}

#[derive(Debug)]
struct Attempt {
    at: Instant,
    failed: bool,
}

impl Attempt {
    fn allows_another(&self, now: Instant) -> bool {
        let interval = if self.failed { RETRY_INTERVAL } else { REFRESH_INTERVAL };
        now.saturating_duration_since(self.at) >= interval
    }
}

impl Jwks {
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let url = reqwest::Url::parse(url).map_err(|_| Error::JwksUrl("is not a URL"))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(Error::JwksUrl("is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::JwksUrl("holds a password, which would be printed"));
        }
        // Connections belong to the runtime that opened them, and each worker has its own, so
        // none is kept. A redirect could lead from https to http.
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::HttpClient(error.to_string()))?;
        Ok(Jwks { url, client, cache: Arc::default(), turn: Arc::default() })
    }

    /// The keys in force, fetched again if none of them can have signed the token.
    pub(super) async fn keys(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        now: Instant,
    ) -> Result<Arc<KeySet>, AuthError> {
        let has = |set: &KeySet| set.candidates(id, algorithm).next().is_some();
        if let Some((set, age)) = self.cache.get(now)
            && has(&set)
        {
            if age >= FRESH_FOR {
                self.refresh_behind(now);
            }
            return Ok(set);
        }
        let unavailable = || AuthError::unavailable("the issuer's keys are not at hand");
        let turn = tokio::time::timeout(2 * FETCH_TIMEOUT, Arc::clone(&self.turn).lock_owned());
        let turn = turn.await.map_err(|_| unavailable())?;
        // Somebody else's fetch may have ended while this one waited.
        if let Some(last) = turn.as_ref()
            && !last.allows_another(now)
        {
            // If it brought no such key, the issuer has none.
            let known = self.cache.get(now).map(|(set, _)| set);
            return known.filter(|_| !last.failed).ok_or_else(unavailable);
        }
        // Its own task, so that a client that leaves does not take the fetch with it.
        self.fetch(turn, now).await.ok().flatten().ok_or_else(unavailable)
    }

    /// Fetches again without anybody waiting, unless that is being done or was done lately.
    fn refresh_behind(&self, now: Instant) {
        if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned()
            && turn.as_ref().is_none_or(|last| last.allows_another(now))
        {
            // Ends by its time-out; the next token that asks for keys sees what came of it.
            drop(self.fetch(turn, now));
        }
    }

    fn fetch(
        &self,
        mut turn: OwnedMutexGuard<Option<Attempt>>,
        now: Instant,
    ) -> JoinHandle<Option<Arc<KeySet>>> {
        let (client, url, cache) = (self.client.clone(), self.url.clone(), self.cache.clone());
        *turn = Some(Attempt { at: now, failed: true });
        tokio::spawn(async move {
            match download(&client, url.clone()).await {
                Ok(set) => {
                    let set = Arc::new(set);
                    cache.0.store(Some(Arc::new(Fetched { set: Arc::clone(&set), at: now })));
                    *turn = Some(Attempt { at: now, failed: false });
                    Some(set)
                }
                Err(problem) => {
                    tracing::warn!(%url, problem, "the issuer's keys could not be fetched");
                    None
                }
            }
        })
    }
}

impl Cache {
    /// The keys and their age, unless they are too old to be believed.
    fn get(&self, now: Instant) -> Option<(Arc<KeySet>, Duration)> {
        let fetched = self.0.load();
        let fetched = fetched.as_ref()?;
        let age = now.saturating_duration_since(fetched.at);
        (age < STALE_FOR).then(|| (Arc::clone(&fetched.set), age))
    }
}

/// The client's time-out covers the body as well.
async fn download(client: &reqwest::Client, url: reqwest::Url) -> Result<KeySet, String> {
    let request = client.get(url).header("accept", "application/json");
    let mut response = request.send().await.map_err(|error| error.without_url().to_string())?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("answered {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(part) =
        response.chunk().await.map_err(|error| error.without_url().to_string())?
    {
        if body.len() + part.len() > BODY_BYTES {
            return Err(format!("answered more than {BODY_BYTES} bytes"));
        }
        body.extend_from_slice(&part);
    }
    KeySet::parse(&body).ok_or_else(|| "answered no JWK set".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::jwt::Checker;
    use super::super::jwt::tests::{NOW, ec, fixture, rsa, sign};
    use super::super::{Authenticator, Jwt, Options, Verified};
    use super::*;
    use std::convert::Infallible;
    use std::sync::Mutex as StdMutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use jsonwebtoken::Algorithm::{ES256, HS256, RS256};
    use jsonwebtoken::EncodingKey;
    use serde_json::json;
    use tokio::sync::Semaphore;

    /// An issuer on a port of its own that answers what it is told to.
    struct Issuer {
        url: String,
        answer: Arc<StdMutex<(u16, Bytes)>>,
        asked: Arc<AtomicUsize>,
        asks: Arc<Semaphore>,
        answers: Arc<Semaphore>,
    }

    impl Issuer {
        async fn start(keys: &[Value]) -> Issuer {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let issuer = Issuer {
                url: format!("http://{}/keys", listener.local_addr().unwrap()),
                answer: Arc::default(),
                asked: Arc::default(),
                asks: Arc::new(Semaphore::new(0)),
                answers: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2)),
            };
            issuer.publish(keys);
            let (answer, asked) = (issuer.answer.clone(), issuer.asked.clone());
            let (asks, answers) = (issuer.asks.clone(), issuer.answers.clone());
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (answer, asked) = (answer.clone(), asked.clone());
                    let (asks, answers) = (asks.clone(), answers.clone());
                    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                        let asked_for_keys = request.uri().path() == "/keys";
                        asked.fetch_add(1, Ordering::SeqCst);
                        asks.add_permits(1);
                        let (answer, answers) = (answer.clone(), answers.clone());
                        async move {
                            answers.acquire().await.unwrap().forget();
                            let (status, body) = match asked_for_keys {
                                true => answer.lock().unwrap().clone(),
                                false => (200, json!({ "keys": [key_one()] }).to_string().into()),
                            };
                            let response = Response::builder()
                                .status(status)
                                .header("location", "/elsewhere")
                                .body(Full::new(body))
                                .unwrap();
                            Ok::<_, Infallible>(response)
                        }
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(connection);
                }
            });
            issuer
        }

        fn publish(&self, keys: &[Value]) {
            self.say(200, json!({ "keys": keys }).to_string());
        }

        fn say(&self, status: u16, body: impl Into<Bytes>) {
            *self.answer.lock().unwrap() = (status, body.into());
        }

        /// Lets no answer out until [`Issuer::release`].
        fn hold(&self) {
            let free = self.answers.available_permits();
            self.answers.forget_permits(free);
        }

        fn release(&self) {
            self.answers.add_permits(Semaphore::MAX_PERMITS / 2);
        }

        async fn is_asked(&self) {
            let asked = tokio::time::timeout(Duration::from_secs(10), self.asks.acquire());
            asked.await.expect("the issuer is asked").unwrap().forget();
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }

        fn jwks(&self) -> Arc<Jwks> {
            Arc::new(Jwks::new(&self.url).unwrap())
        }
    }

    fn published(kid: &str, key: &EncodingKey, algorithm: Algorithm) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(key, algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk
    }

    fn key_one() -> Value {
        published("one", &rsa(fixture!("rsa1.pem")), RS256)
    }

    fn key_two() -> Value {
        published("two", &ec(fixture!("ec1.pem")), ES256)
    }

    /// Whether a key of this name is in force, or that nobody can tell.
    async fn knows(jwks: &Jwks, id: &str, algorithm: Algorithm, now: Instant) -> Result<bool, ()> {
        let set = jwks.keys(Some(id), algorithm, now).await.map_err(|error| {
            assert!(matches!(error, AuthError::Unavailable(_)), "{error:?}");
        })?;
        Ok(set.candidates(Some(id), algorithm).next().is_some())
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn a_token_is_checked_with_the_key_it_names() {
        let issuer = Issuer::start(&[key_one(), key_two()]).await;
        let jwt = Jwt { jwks_url: Some(issuer.url.clone()), ..Jwt::default() };
        let options = Options { jwt: Some(jwt), ..Options::default() };
        let authenticator = Authenticator::new(&options).unwrap();
        let claims = json!({ "sub": "alice", "exp": NOW + 60 });
        let check = async |algorithm, key: &EncodingKey, kid: Option<&str>| {
            let token = sign(algorithm, key, kid, &claims);
            let ask = async |_| -> Result<Response<Full<Bytes>>, Infallible> { unreachable!() };
            authenticator.check_at(&token, ask, NOW).await
        };
        let (one, two) = (rsa(fixture!("rsa1.pem")), ec(fixture!("ec1.pem")));
        let good =
            Verified { expires: NOW + 60, ends: NOW + 60, subject: Some("alice".to_owned()) };
        assert_eq!(check(RS256, &one, Some("one")).await, Ok(good.clone()));
        assert_eq!(check(ES256, &two, Some("two")).await, Ok(good.clone()));
        assert_eq!(check(RS256, &one, None).await, Ok(good));
        assert_eq!(issuer.asked(), 1);
        for (algorithm, key, kid, reason) in [
            (RS256, &rsa(fixture!("rsa2.pem")), "one", "the token's signature is not valid"),
            (ES256, &ec(fixture!("ec2.pem")), "two", "the token's signature is not valid"),
            (RS256, &one, "two", "the token was signed with a key that is not known"),
            (RS256, &one, "three", "the token was signed with a key that is not known"),
            (
                HS256,
                &EncodingKey::from_secret(fixture!("rsa1.pub.pem")),
                "one",
                "the token's algorithm is not accepted",
            ),
        ] {
            let refused = check(algorithm, key, Some(kid)).await;
            assert_eq!(refused, Err(AuthError::unauthorized(reason)), "{kid}");
        }
        assert_eq!(issuer.asked(), 1, "just asked; not again for a name nobody knows");
    }

    #[tokio::test]
    async fn a_token_that_names_no_key_is_tried_with_a_few() {
        let mut keys = vec![published("other", &rsa(fixture!("rsa2.pem")), RS256); 7];
        keys.push(key_one());
        let issuer = Issuer::start(&keys).await;
        let options = Jwt { jwks_url: Some(issuer.url.clone()), ..Jwt::default() };
        let token = sign(RS256, &rsa(fixture!("rsa1.pem")), None, &json!({ "exp": NOW + 60 }));
        let verdict = async || Checker::new(&options).unwrap().check(&token, NOW).await;
        assert_eq!(verdict().await.unwrap().expires, Some(NOW + 60));
        keys.insert(0, keys[0].clone());
        issuer.publish(&keys);
        let reason = "the token's signature is not valid";
        assert_eq!(verdict().await, Err(AuthError::unauthorized(reason)));
    }

    #[tokio::test]
    async fn a_new_key_is_found_at_most_once_a_minute() {
        let issuer = Issuer::start(&[key_one()]).await;
        let (jwks, start) = (issuer.jwks(), Instant::now());
        assert_eq!(knows(&jwks, "one", RS256, start).await, Ok(true));
        issuer.publish(&[key_two()]);
        assert_eq!(knows(&jwks, "two", ES256, after(start, 59)).await, Ok(false));
        assert_eq!(issuer.asked(), 1);
        assert_eq!(knows(&jwks, "two", ES256, after(start, 60)).await, Ok(true));
        assert_eq!(issuer.asked(), 2);
        // The old key went with the rotation.
        assert_eq!(knows(&jwks, "one", RS256, after(start, 61)).await, Ok(false));
        for attempt in 0..20 {
            let id = format!("made up {attempt}");
            assert_eq!(knows(&jwks, &id, RS256, after(start, 100)).await, Ok(false));
        }
        assert_eq!(issuer.asked(), 2);
    }

    #[tokio::test]
    async fn many_tokens_at_once_are_one_fetch() {
        let issuer = Issuer::start(&[key_one()]).await;
        issuer.hold();
        let (jwks, start) = (issuer.jwks(), Instant::now());
        let mut tokens = tokio::task::JoinSet::new();
        for number in 0..10 {
            let jwks = jwks.clone();
            let id = if number % 2 == 0 { "one" } else { "unknown" };
            tokens.spawn(async move { (id, knows(&jwks, id, RS256, start).await) });
        }
        issuer.is_asked().await;
        issuer.release();
        while let Some(done) = tokens.join_next().await {
            let (id, known) = done.unwrap();
            assert_eq!(known, Ok(id == "one"));
        }
        assert_eq!(issuer.asked(), 1);
    }

    #[tokio::test]
    async fn a_client_that_leaves_does_not_take_the_fetch_with_it() {
        let issuer = Issuer::start(&[key_one()]).await;
        issuer.hold();
        let (jwks, start) = (issuer.jwks(), Instant::now());
        let leaving = tokio::spawn({
            let jwks = jwks.clone();
            async move { knows(&jwks, "one", RS256, start).await }
        });
        issuer.is_asked().await;
        leaving.abort();
        assert!(leaving.await.unwrap_err().is_cancelled());
        issuer.release();
        assert_eq!(knows(&jwks, "one", RS256, start).await, Ok(true));
        assert_eq!(issuer.asked(), 1);
    }

    #[tokio::test]
    async fn a_worker_that_ends_does_not_take_the_turn_with_it() {
        let issuer = Issuer::start(&[key_one()]).await;
        issuer.hold();
        let (jwks, start) = (issuer.jwks(), Instant::now());
        let worker = tokio::task::spawn_blocking({
            let (jwks, asks) = (jwks.clone(), issuer.asks.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    tokio::select! {
                        _ = knows(&jwks, "one", RS256, start) => panic!("no answer is let out"),
                        asked = asks.acquire() => asked.unwrap().forget(),
                    }
                });
            }
        });
        worker.await.unwrap();
        issuer.release();
        assert_eq!(knows(&jwks, "one", RS256, after(start, 4)).await, Err(()));
        assert_eq!(knows(&jwks, "one", RS256, after(start, 5)).await, Ok(true));
        assert_eq!(issuer.asked(), 2);
    }

    #[tokio::test]
    async fn an_issuer_that_cannot_be_asked_makes_nobody_unauthorized() {
        let issuer = Issuer::start(&[]).await;
        issuer.say(503, "");
        let (jwks, start) = (issuer.jwks(), Instant::now());
        assert_eq!(knows(&jwks, "one", RS256, start).await, Err(()));
        assert_eq!(knows(&jwks, "one", RS256, after(start, 4)).await, Err(()));
        assert_eq!(issuer.asked(), 1, "not again within five seconds");
        issuer.publish(&[key_one()]);
        assert_eq!(knows(&jwks, "one", RS256, after(start, 5)).await, Ok(true));
        // With keys at hand only the unknown ones are in doubt.
        issuer.say(503, "");
        assert_eq!(knows(&jwks, "two", ES256, after(start, 65)).await, Err(()));
        assert_eq!(knows(&jwks, "two", ES256, after(start, 66)).await, Err(()));
        assert_eq!(knows(&jwks, "one", RS256, after(start, 66)).await, Ok(true));
        assert_eq!(issuer.asked(), 3);
    }

    #[tokio::test]
    async fn keys_serve_while_they_are_renewed_and_not_for_ever() {
        let issuer = Issuer::start(&[key_one()]).await;
        let (jwks, start) = (issuer.jwks(), Instant::now());
        assert_eq!(knows(&jwks, "one", RS256, start).await, Ok(true));
        assert_eq!(knows(&jwks, "one", RS256, after(start, 599)).await, Ok(true));
        issuer.is_asked().await;
        // The key is withdrawn; the token that finds the keys old does not wait for new ones.
        issuer.publish(&[key_two()]);
        issuer.hold();
        assert_eq!(knows(&jwks, "one", RS256, after(start, 600)).await, Ok(true));
        issuer.is_asked().await;
        issuer.release();
        assert_eq!(knows(&jwks, "two", ES256, after(start, 601)).await, Ok(true));
        assert_eq!(knows(&jwks, "one", RS256, after(start, 602)).await, Ok(false));
        assert_eq!(issuer.asked(), 2);
        issuer.say(503, "");
        let day = 24 * 60 * 60;
        assert_eq!(knows(&jwks, "two", ES256, after(start, 600 + day - 1)).await, Ok(true));
        issuer.is_asked().await;
        assert_eq!(knows(&jwks, "two", ES256, after(start, 600 + day)).await, Err(()));
    }

    #[tokio::test]
    async fn an_answer_that_is_no_key_set_brings_no_keys() {
        let issuer = Issuer::start(&[]).await;
        let start = Instant::now();
        let padding = " ".repeat(BODY_BYTES);
        let good = json!({ "keys": [key_one()] }).to_string();
        for (status, body) in [
            (200, String::new()),
            (200, "<html>".to_owned()),
            (200, "{}".to_owned()),
            (200, "[]".to_owned()),
            (200, r#"{"keys":{}}"#.to_owned()),
            (200, format!("{good}{padding}")),
            (404, good.clone()),
            (302, good.clone()),
            (206, good.clone()),
        ] {
            issuer.say(status, body.clone());
            let known = knows(&issuer.jwks(), "one", RS256, start).await;
            assert_eq!(known, Err(()), "{status} {:.30}", body);
        }
        issuer.say(200, good);
        assert_eq!(knows(&issuer.jwks(), "one", RS256, start).await, Ok(true));
    }

    #[test]
    fn keys_that_are_not_for_this_are_left_out() {
        let change = |name: &str, value: Value| {
            let mut key = key_one();
            key[name] = value;
            key
        };
        let unusable = [
            json!(null),
            json!("one"),
            json!({ "kty": "RSA", "kid": "one" }),
            json!({ "kty": "oct", "kid": "one", "k": "c2VjcmV0", "alg": "HS256" }),
            json!({ "kty": "EC", "crv": "secp256k1", "kid": "one", "x": "AA", "y": "AA" }),
            json!({ "kty": "EC", "crv": "P-256", "kid": "one", "x": "AA", "y": "AA" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": "one", "x": "AA" }),
            json!({ "kty": "RSA", "kid": "one", "n": "AQAB", "e": "AQAB" }),
            change("use", json!("enc")),
            change("use", json!(7)),
            change("key_ops", json!(["encrypt"])),
            change("alg", json!("RSA-OAEP")),
            change("alg", json!("HS256")),
            change("alg", json!("ES256")),
        ];
        for key in unusable {
            let body = json!({ "keys": [key, key_two()] }).to_string();
            let set = KeySet::parse(body.as_bytes()).unwrap();
            let ids: Vec<_> = set.keys.iter().map(|key| key.id.as_deref()).collect();
            assert_eq!(ids, [Some("two")], "{key}");
        }
        // Without `alg` the key's kind decides; with it, only that one.
        let mut open = key_one();
        open.as_object_mut().unwrap().remove("alg");
        let set = KeySet::parse(json!({ "keys": [open, key_one()] }).to_string().as_bytes());
        let set = set.unwrap();
        assert_eq!(set.candidates(Some("one"), RS256).count(), 2);
        assert_eq!(set.candidates(Some("one"), Algorithm::PS512).count(), 1);
        assert_eq!(set.candidates(Some("one"), ES256).count(), 0);
        assert_eq!(set.candidates(None, HS256).count(), 0);
    }

    #[test]
    fn a_url_that_cannot_be_asked_does_not_start() {
        for (url, reason) in [
            ("", "is not a URL"),
            ("id.example/keys", "is not a URL"),
            ("file:///etc/passwd", "is neither http nor https"),
            ("https://user:pass@id.example/keys", "holds a password, which would be printed"),
        ] {
            assert_eq!(Jwks::new(url).unwrap_err(), Error::JwksUrl(reason), "{url}");
        }
        assert!(Jwks::new("https://id.example/keys").is_ok());
    }
}
