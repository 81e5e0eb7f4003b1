use std::net::SocketAddr;

use pogo::admin;
use pogo::gate::auth::Secret;
use pogo::server::Options;
use serde_json::Value;

use super::{Message, Pogo, Wire};

const TOKEN: &str = "operators-hold-this-token";

/// Somebody who holds the token of the admin listener.
pub struct Operator {
    address: SocketAddr,
}

impl Operator {
    /// What makes a Pogo serve operators.
    pub fn admit(options: &mut Options) {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let token = Some(Secret::new(TOKEN));
        options.admin = Some(admin::Options { listen, token, ..admin::Options::default() });
    }

    pub fn of(pogo: &Pogo) -> Self {
        Self { address: pogo.admin() }
    }

    pub fn token() -> &'static str {
        TOKEN
    }

    /// A request as it stands, without the token.
    pub fn raw(&self, request: &str) -> Message {
        let mut wire = Wire::connect(self.address);
        wire.send(request);
        wire.message()
    }

    pub fn ask(&self, method: &str, target: &str, body: Option<&Value>) -> Message {
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        self.raw(&format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// The JSON that a request is answered with, successfully.
    pub fn must(&self, method: &str, target: &str, body: Option<&Value>) -> Value {
        let answer = self.ask(method, target, body);
        assert_eq!(answer.status(), 200, "{method} {target}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub fn get(&self, target: &str) -> Value {
        self.must("GET", target, None)
    }

    pub fn metrics(&self) -> String {
        let answer = self.ask("GET", "/metrics", None);
        assert_eq!(answer.status(), 200);
        answer.text().to_owned()
    }

    /// The value of a series; 0 if it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}
