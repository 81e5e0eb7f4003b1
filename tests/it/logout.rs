//! Who logs out is out, on every socket.

use serde_json::json;

use crate::harness::{Api, Pogo, Reply, Socket};

#[test]
fn a_logout_ends_the_sessions_of_its_credential_and_no_other() {
    let api = Api::start();
    let pogo = Pogo::at(&api.address().to_string(), |options| {
        options.workers = 2;
        options.auth.logout = vec![
            (http::Method::POST, "/logout".into()),
            (http::Method::DELETE, "/users/{id}/session".into()),
        ];
    });
    let out = |request: &str, headers: &str| {
        let mut wire = pogo
            .ask(&format!("{request} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{headers}\r\n"));
        wire.message().status()
    };
    let mut nobody = Socket::open(&pogo);
    let mut bob = Socket::open_as(&pogo, "bob");
    for request in ["POST /logout", "POST /logout/?all=1", "DELETE /users/7/session"] {
        api.put("/users/7/session", json!({}));
        let mut alices: Vec<_> = (0..4).map(|_| Socket::open_as(&pogo, "alice")).collect();
        let mut by_auth = Socket::open(&pogo);
        by_auth.must(json!({"event": "auth", "data": {"token": "alice"}}));
        alices.push(by_auth);
        for socket in &mut alices {
            socket.must(json!({"event": "ping"}));
        }
        assert!(out(request, "Authorization: Bearer alice\r\n") < 300);
        for mut socket in alices {
            assert_eq!(socket.closed(), (4401, "logged out".into()), "{request}");
        }
    }
    // Neither other requests, nor one that the API refuses.
    let mut alice = Socket::open_as(&pogo, "alice");
    out("PUT /logout", "Authorization: Bearer alice\r\n");
    out("POST /logout/extra", "Authorization: Bearer alice\r\n");
    api.on("POST /logout", |_, _| Some(Reply::empty(403)));
    out("POST /logout", "Authorization: Bearer alice\r\n");
    for socket in [&mut nobody, &mut bob, &mut alice] {
        socket.assert_silent();
    }
    api.be_normal();
    let mut cookie = Socket::open_with(&pogo, &[("cookie", "sid=1; theme=dark")]);
    out("POST /logout", "Cookie: theme=dark; sid=1; more=1\r\n");
    assert_eq!(cookie.closed().0, 4401);
    alice.send(&json!({"event": "create", "uri": "/logout", "bind": false}));
    assert_eq!(alice.closed().0, 4401);
    nobody.assert_silent();
    bob.assert_silent();
}
