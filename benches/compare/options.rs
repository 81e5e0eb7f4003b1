//! What to run, from the command line.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::peer::Peer;

/// Sockets of one URI in the mixed row.
const SHARING: usize = 10;
const BURST: usize = 20;

/// Compare the CPU time that Pogo takes with that of other servers.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Which rows to measure.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "get,post,connect,fanout,mixed,burst"
    )]
    only: Vec<Kind>,
    /// How often each row visits each server.
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// How many sockets are bound: fan-out for each number, mixed for the largest, burst for the smallest.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000", value_parser = at_least_one)]
    sockets: Vec<usize>,
    /// How many requests one measurement sends.
    #[arg(long, default_value_t = 20_000, value_parser = at_least_one)]
    pub(crate) requests: usize,
    /// How many events one measurement delivers, all sockets together.
    #[arg(long, default_value_t = 50_000, value_parser = at_least_one)]
    pub(crate) deliveries: usize,
    /// How many connections send requests at once.
    #[arg(long, default_value_t = 32, value_parser = at_least_one)]
    pub(crate) connections: usize,
    /// Worker threads (nginx: processes) of each server.
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub(crate) workers: usize,
    /// The pogo to measure, such as the build of another revision.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_pogo"))]
    pub(crate) pogo: PathBuf,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Get,
    Post,
    Connect,
    /// Each write reaches all sockets.
    Fanout,
    /// Each write reaches ten sockets of many.
    Mixed,
    /// Writes that do not wait for one another.
    Burst,
}

/// What this program is when it was started by itself.
#[derive(Debug, Clone, Copy, Subcommand)]
#[command(hide = true)]
pub(crate) enum Role {
    Upstream,
    PassThrough { upstream: SocketAddr },
    Floor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    Get,
    Post,
    Connect,
    Events(Shape),
}

/// Who is bound to what, and how it is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) sockets: usize,
    pub(crate) uris: usize,
    /// Writes that do not wait until the last one has arrived.
    pub(crate) burst: usize,
}

impl Shape {
    /// How many sockets each URI has.
    pub(crate) fn bound(self) -> u64 {
        (self.sockets / self.uris) as u64
    }
}

impl Options {
    pub(crate) fn rows(&self) -> Vec<Row> {
        let largest = self.sockets.iter().copied().max().unwrap_or(SHARING);
        let smallest = self.sockets.iter().copied().min().unwrap_or(SHARING);
        let events = |sockets, uris, burst| Row::Events(Shape { sockets, uris, burst });
        let rows = self.only.iter().flat_map(|kind| match kind {
            Kind::Get => vec![Row::Get],
            Kind::Post => vec![Row::Post],
            Kind::Connect => vec![Row::Connect],
            Kind::Fanout => self.sockets.iter().map(|sockets| events(*sockets, 1, 1)).collect(),
            Kind::Mixed => {
                let uris = largest.div_ceil(SHARING);
                vec![events(uris * SHARING, uris, 1)]
            }
            Kind::Burst => vec![events(smallest, 1, BURST)],
        });
        rows.collect()
    }
}

impl Row {
    pub(crate) fn peers(self) -> Vec<Peer> {
        match self {
            Self::Get | Self::Post | Self::Connect => {
                vec![Peer::Nginx, Peer::PassThrough, Peer::Pogo]
            }
            Self::Events(_) => vec![Peer::Floor, Peer::Pogo],
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => f.write_str("GET 1 KB, keep-alive"),
            Self::Post => f.write_str("POST 1 KB, keep-alive"),
            Self::Connect => f.write_str("GET 1 KB, new connection each"),
            Self::Events(shape) if shape.burst > 1 => {
                write!(f, "{} events of 1 KB at once to {shape}", shape.burst)
            }
            Self::Events(shape) => write!(f, "event of 1 KB to {shape}"),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uris {
            1 => write!(f, "{} sockets", self.sockets),
            uris => write!(f, "{} of {} sockets", self.sockets / uris, self.sockets),
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected 1 or more".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a number".to_owned()),
    }
}
