//! Probes: whether a server lives, and whether it should be sent clients.

use tokio::time::Instant;

use crate::harness::{Nowhere, Operator, PATIENCE, Pogo, Upstream};

fn probe(operator: &Operator, path: &str) -> u16 {
    operator.raw(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).status()
}

/// Asks until the answer is `wanted`: that of an attempt to connect is kept for a second.
#[track_caller]
fn becomes(operator: &Operator, path: &str, wanted: u16) {
    let end = Instant::now() + PATIENCE;
    while probe(operator, path) != wanted {
        assert!(Instant::now() < end, "{path} does not become {wanted}");
    }
}

#[test]
fn a_server_is_ready_when_its_upstream_can_be_connected_to() {
    let upstream = Nowhere::new();
    let pogo = Pogo::at(&upstream.address().to_string(), Operator::admit);
    let operator = Operator::of(&pogo);
    let refused = operator.raw("GET /readyz HTTP/1.1\r\nHost: 10.0.0.1:80\r\n\r\n");
    assert_eq!(refused.status(), 503);
    assert!(refused.text().contains("the upstream cannot be connected to"), "{}", refused.text());
    assert_eq!(probe(&operator, "/healthz"), 200);
    let upstream = upstream.listen();
    becomes(&operator, "/readyz", 200);
    drop(upstream);
    becomes(&operator, "/readyz", 503);
}

#[test]
fn a_server_that_drains_lives_and_is_not_ready() {
    let upstream = Upstream::start();
    let mut pogo = Pogo::with(&upstream, Operator::admit);
    let operator = Operator::of(&pogo);
    assert_eq!(probe(&operator, "/readyz"), 200);
    drop(upstream.accept());
    let mut busy = pogo.get("/busy");
    let (mut api, _) = upstream.request();
    let draining = pogo.drain();
    becomes(&operator, "/readyz", 503);
    assert_eq!(probe(&operator, "/healthz"), 200);
    assert!(operator.metrics().contains("pogo_draining 1"));
    api.respond("done");
    assert_eq!(busy.message().text(), "done");
    draining.join().unwrap().unwrap();
}

#[test]
fn every_worker_answers_the_probe_of_its_life_at_once() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| {
        Operator::admit(options);
        options.workers = 3;
    });
    let operator = Operator::of(&pogo);
    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(probe(&operator, "/healthz"), 200);
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}
