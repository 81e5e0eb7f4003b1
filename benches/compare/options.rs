//! What to run, from the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::row::{Load, Requests, Row, Shape};

/// Who write at once where each write is for a few of many.
pub(crate) const WRITERS: usize = 16;

/// Compare the CPU time that Pogo takes with that of other servers.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Which rows to measure.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "get,alone,post,connect,h2,large,kept,idle,fanout,mixed,burst,bindings,workers"
    )]
    only: Vec<Kind>,
    /// How often each row visits each server.
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// How many sockets are bound: fan-out and idle for each number, mixed for the largest, burst for the smallest.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000", value_parser = at_least_one)]
    sockets: Vec<usize>,
    /// How many bindings there are, for each growth row.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "100,1000,10000,100000",
        value_parser = at_least_one
    )]
    bindings: Vec<usize>,
    /// How many requests one measurement sends.
    #[arg(long, default_value_t = 20_000, value_parser = at_least_one)]
    pub(crate) requests: usize,
    /// How many bodies of 10 MB one measurement reads.
    #[arg(long, default_value_t = 40, value_parser = at_least_one)]
    pub(crate) bodies: usize,
    /// How many events one measurement delivers, all sockets together.
    #[arg(long, default_value_t = 50_000, value_parser = at_least_one)]
    pub(crate) deliveries: usize,
    /// How many connections send requests at once.
    #[arg(long, default_value_t = 32, value_parser = at_least_one)]
    pub(crate) connections: usize,
    /// How many HTTP connections are kept open, idle.
    #[arg(long, default_value_t = 10_000, value_parser = at_least_one)]
    kept: usize,
    /// For how many seconds what is idle is watched.
    #[arg(long, default_value_t = 10, value_parser = at_least_one)]
    pub(crate) idle_seconds: usize,
    /// Worker threads (nginx: processes) of each server.
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub(crate) workers: usize,
    /// Where to write every figure of every round, for `report`.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The pogo to measure, such as the build of another revision.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_pogo"), global = true)]
    pub(crate) pogo: PathBuf,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Get,
    /// GET on one connection.
    Alone,
    Post,
    Connect,
    /// HTTP/2 without TLS.
    H2,
    /// GET of 10 MB.
    Large,
    /// Idle HTTP connections.
    Kept,
    /// Idle sockets.
    Idle,
    /// Each write reaches all sockets.
    Fanout,
    /// Each write reaches ten sockets of many: with many writers, and with one.
    Mixed,
    /// Writes that do not wait for one another.
    Burst,
    /// What grows with the number of bindings and views.
    Bindings,
    /// Two workers against one.
    Workers,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Role {
    /// Count what a request, a write and a fan-out cost, in instructions and system calls, against `benches/guard.toml`.
    Guard {
        /// Write the file from what is counted instead.
        #[arg(long)]
        update: bool,
    },
    /// Connect, bind, write and leave for a long time, and watch the memory.
    Soak {
        #[arg(long, default_value_t = 60, value_parser = at_least_one)]
        minutes: usize,
        /// Sockets that are open at one time.
        #[arg(long, default_value_t = 500, value_parser = at_least_one)]
        sockets: usize,
        /// Where to write the samples and the curve, as `soak.csv` and `soak.svg`.
        #[arg(long, value_name = "FOLDER", default_value = "docs")]
        into: PathBuf,
    },
    /// Put on a Pogo that counts what it runs (`--pogo`) the load that it is to be built for; see `deploy/guided-build`.
    Train,
    /// Print what a message weighs and costs in each format.
    Formats,
    /// Draw the plots and fill in the table of `docs/performance.md`, from the file of `--json`.
    Report { figures: PathBuf },
    /// This program as the API behind the servers.
    #[command(hide = true)]
    Upstream,
    #[command(hide = true)]
    PassThrough {
        upstream: SocketAddr,
        #[arg(long)]
        http2: bool,
        #[arg(long, default_value_t = 1)]
        workers: usize,
    },
    #[command(hide = true)]
    Floor,
}

impl Options {
    pub(crate) fn rows(&self) -> Vec<Row> {
        let largest = self.sockets.iter().copied().max().unwrap_or(1);
        let smallest = self.sockets.iter().copied().min().unwrap_or(1);
        let each = |numbers: &[usize], load: fn(usize) -> Load| -> Vec<Row> {
            numbers.iter().map(|number| Row::new(load(*number))).collect()
        };
        let requests = |requests| vec![Row::new(Load::Requests(requests))];
        let rows = self.only.iter().flat_map(|kind| match kind {
            Kind::Get => requests(Requests::Get),
            Kind::Alone => requests(Requests::Alone),
            Kind::Post => requests(Requests::Post),
            Kind::Connect => requests(Requests::Connect),
            Kind::H2 => requests(Requests::Http2),
            Kind::Large => requests(Requests::Large),
            Kind::Kept => each(&[self.kept], Load::Kept),
            Kind::Idle => each(&self.sockets, Load::Idle),
            Kind::Fanout => each(&self.sockets, |sockets| Load::Events(Shape::one_uri(sockets))),
            Kind::Mixed => [WRITERS, 1]
                .map(|writers| Row::new(Load::Events(Shape::mixed(largest, writers))))
                .to_vec(),
            Kind::Burst => vec![Row::new(Load::Events(Shape::burst(smallest)))],
            Kind::Bindings => {
                each(&self.bindings, |count| Load::Events(Shape::many_bindings(count)))
            }
            Kind::Workers => {
                let events = Load::Events(Shape::one_uri(smallest));
                [Load::Requests(Requests::Get), events, Load::Answers]
                    .map(|load| Row { load, free: true })
                    .to_vec()
            }
        });
        rows.collect()
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected 1 or more".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a number".to_owned()),
    }
}
