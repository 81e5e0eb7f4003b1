//! The load that Pogo is built for when its compiler is guided by what it has seen it run: `deploy/guided-build`. What is measured here
//! means nothing; a Pogo that counts is slow.

use std::io;

use crate::cores::Cores;
use crate::load;
use crate::options::{Options, WRITERS};
use crate::peer::{self, Peer, Stage};
use crate::row::{Load, Requests, Row, Shape};

const SOCKETS: usize = 1000;

pub(crate) async fn run(options: &Options) -> io::Result<()> {
    let cores = Cores::divide(options.workers)?;
    let requests = [
        Requests::Get,
        Requests::Alone,
        Requests::Post,
        Requests::Connect,
        Requests::Http2,
        Requests::Large,
    ];
    let events = [
        Shape::one_uri(SOCKETS),
        Shape::mixed(SOCKETS, WRITERS),
        Shape::mixed(SOCKETS, 1),
        Shape::burst(SOCKETS),
        Shape::many_bindings(SOCKETS),
    ];
    let loads = requests.map(Load::Requests).into_iter().chain(events.map(Load::Events));
    let loads = loads.chain([Load::Answers]);
    for row in loads.map(Row::new) {
        eprintln!("{row}");
        let upstream = peer::upstream()?;
        let stage = Stage {
            upstream: upstream.address(),
            workers: options.workers,
            cores: cores.as_ref(),
            pogo: &options.pogo,
        };
        let mut server = Peer::Pogo.start(row, &stage)?;
        let (_, faults) = load(options, row, Peer::Pogo, &server).await?;
        if let Some(fault) = faults.first() {
            return Err(io::Error::other(format!("{row}: {fault}")));
        }
        // It writes what it has counted when it ends.
        server.end()?;
    }
    Ok(())
}
