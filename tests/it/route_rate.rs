//! A route's own rate holds for it and for nothing else.

use std::net::TcpListener;

use pogo::route::Rule;

use crate::harness::Pogo;

#[test]
fn a_route_takes_as_many_requests_of_an_address_as_its_rate_says() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let pogo = Pogo::at(&closed, |options| {
        let rate = Some("1/d burst 2".parse().unwrap());
        options.routes = vec![Rule { path: "/posts/{id}".into(), rate, ..Rule::default() }];
    });
    // What reaches the upstream's closed door is a bad gateway.
    for (path, status) in [
        ("/posts/1", 502),
        ("/posts/2?page=1", 502),
        ("/posts/3", 429),
        ("/p%6Fsts/4", 429),
        ("/posts/5/", 429),
        ("/posts", 502),
        ("/users/1", 502),
    ] {
        pogo.get(path).message().assert_problem(status);
    }
}
