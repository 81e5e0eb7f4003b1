//! A process that has run out of file descriptors.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{Api, Launch, Wire};

const GET: &str = "GET /posts HTTP/1.1\r\nHost: api\r\n\r\n";
const DESCRIPTORS: u32 = 40;

#[test]
fn a_process_without_descriptors_waits_for_some_and_then_goes_on() {
    let api = Api::start();
    let pogo = Launch { workers: 1, descriptors: Some(DESCRIPTORS), ..Launch::default() };
    let pogo = pogo.before(api.address());
    // One that was there before is served all the while.
    let mut early = pogo.connect();
    early.send(GET);
    assert_eq!(early.message().status(), 200);
    let mut crowd: Vec<Wire> = (0..DESCRIPTORS).map(|_| pogo.connect()).collect();
    let logged = pogo.line("cannot accept connections");
    assert_eq!(logged["level"], "ERROR");
    let (began, ticks) = (Instant::now(), pogo.ticks());
    const TRIES: u32 = 10;
    for _ in 0..TRIES {
        pogo.line("cannot accept connections");
        early.send(GET);
        assert_eq!(early.message().status(), 200);
    }
    // It rests between two tries, and does not burn what the others need.
    let (took, used) = (began.elapsed(), pogo.ticks() - ticks);
    assert!(took > TRIES * Duration::from_millis(50), "ten tries in {took:?}");
    const TICKS_PER_SECOND: u64 = 100;
    assert!(used < TICKS_PER_SECOND / 4, "{used} ticks in {took:?}");
    // Who waited is served once others have left.
    let mut waiting = crowd.pop().unwrap();
    drop(crowd);
    waiting.send(GET);
    assert_eq!(waiting.message().status(), 200);
    assert_eq!(pogo.ask("GET", "/posts", "").message().status(), 200);
}
