//! One port for all workers, and for no other program.

use std::io::ErrorKind;

use pogo::server::{Options, Server};

use crate::harness::{Pogo, Upstream};

#[test]
fn every_worker_serves_the_same_port() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, |options| options.workers = 4);
    let mut clients: Vec<_> = (0..64).map(|_| pogo.get("/")).collect();
    for _ in &clients {
        let (mut api, _) = upstream.request();
        api.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.message().status(), 200);
    }
}

#[test]
fn a_port_that_is_taken_is_not_shared() {
    let upstream = Upstream::start();
    let pogo = Pogo::before(&upstream);
    let second = Server::start(Options { listen: pogo.address(), ..Options::default() });
    assert_eq!(second.unwrap_err().kind(), ErrorKind::AddrInUse);
}
