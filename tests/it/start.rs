//! One port for all workers, and for no other program.

use std::io::ErrorKind;
use std::net::TcpListener;

use pogo::server::{Options, Server};

use crate::harness::{Pogo, Upstream, Wire};

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

#[test]
fn listeners_that_were_opened_before_are_shared_out_among_the_workers() {
    let upstream = Upstream::start();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let options = |workers| {
        let mut options = Options { workers, ..Options::default() };
        options.upstream.origin = upstream.address().to_string().parse().unwrap();
        options
    };
    let refused = Server::start_on(options(1), &listeners).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(refused.to_string(), "2 inherited listeners for 1 workers");
    for workers in [2, 3] {
        let server = Server::start_on(options(workers), &listeners).unwrap();
        assert_eq!(server.address(), listeners[0].local_addr().unwrap());
        for listener in &listeners {
            let mut client = Wire::connect(listener.local_addr().unwrap());
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let (mut api, _) = upstream.request();
            api.respond("");
            assert_eq!(client.message().status(), 200);
        }
    }
}
