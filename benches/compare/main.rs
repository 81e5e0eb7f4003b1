//! What Pogo costs next to other servers: `cargo bench`, or `cargo bench -- --only fanout --rounds 3`. Linux only, loopback only.
//!
//! Every server is a process of its own, on a core of its own, and what is counted is the user and system time of its whole process
//! tree, because wall-clock time says little on a machine that does other things too. Rounds visit the servers in turn, so that a
//! slow minute meets all of them. The generator (this process) and the API are counted for nobody.
//!
//! Read in this order: `row` (what is measured), `peer` (of whom), `http`, `events` and `idle` (how), `crowd` (what must arrive),
//! `table` (what is printed), `report` (what becomes of it). `guard`, `soak`, `formats` and `train` are programs of their own.

mod answers;
mod chart;
mod conf;
mod cores;
mod count;
mod cpu;
mod crowd;
mod events;
mod floor;
mod formats;
mod guard;
mod http;
mod http2_load;
mod idle;
mod options;
mod pass_through;
mod peer;
mod report;
mod row;
mod soak;
mod socket;
mod table;
mod times;
mod train;
mod upstream;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::time::Instant;

use crate::cores::Cores;
use crate::crowd::Fault;
use crate::options::{Options, Role};
use crate::peer::{Peer, Server, Stage};
use crate::row::{Load, Row, What};
use crate::table::Table;

/// No measurement of one server takes longer; what does has hung.
const LONGEST: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.role {
        Some(Role::Upstream) => upstream::run(),
        Some(Role::PassThrough { upstream, http2, workers }) => {
            pass_through::run(*upstream, *workers, *http2)
        }
        Some(Role::Floor) => floor::run(),
        Some(Role::Formats) => formats::run(options.rounds),
        Some(Role::Guard { update }) => alone(guard::run(&options, *update)),
        Some(Role::Soak { minutes, sockets, into }) => {
            alone(soak::run(&options, *minutes, *sockets, into))
        }
        Some(Role::Train) => alone(train::run(&options)),
        Some(Role::Report { figures }) => report::run(figures),
        None => alone(compare(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the load on this thread alone, with as many files as the system allows.
fn alone(load: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, load)
}

async fn compare(options: &Options) -> io::Result<()> {
    let cores = Cores::divide(options.workers)?;
    if cores.is_none() {
        eprintln!("nothing is pinned: there is no core for each worker and one for the load");
    }
    let mut table = Table::new(options.rounds, cores.is_some());
    rounds(options, cores.as_ref(), &mut table).await;
    table.print(io::stdout().lock())?;
    if let Some(file) = &options.json {
        std::fs::write(file, table.to_json()?)?;
        eprintln!("every figure is in {}", file.display());
    }
    if table.is_sound() { Ok(()) } else { Err(io::Error::other("not sound")) }
}

async fn rounds(options: &Options, cores: Option<&Cores>, table: &mut Table) {
    let began = Instant::now();
    let rows: Vec<(Row, Vec<Peer>)> = options
        .rows()
        .into_iter()
        .map(|row| (row, row.peers().into_iter().filter(|peer| peer.is_installed()).collect()))
        .collect();
    let all = options.rounds * rows.iter().map(|(_, peers)| peers.len()).sum::<usize>();
    let mut done = 0;
    for round in 0..options.rounds {
        for (row, peers) in &rows {
            for index in 0..peers.len() {
                let peer = peers[(index + round) % peers.len()];
                done += 1;
                let minutes = began.elapsed().as_secs() / 60;
                eprint!("{done}/{all}, {minutes} min: {row}, {peer}: ");
                let measured = tokio::time::timeout(LONGEST, measure(options, cores, *row, peer));
                match measured.await.unwrap_or_else(|_| Err(io::Error::other("timed out"))) {
                    Ok((figures, faults)) => {
                        let first =
                            figures.first().map(|(what, figure)| format!("{figure:.2} {what}"));
                        eprintln!("{}", first.unwrap_or_default());
                        figures
                            .into_iter()
                            .for_each(|(what, figure)| table.add(*row, what, peer, figure));
                        faults.into_iter().for_each(|fault| table.fault(*row, peer, &fault));
                    }
                    Err(error) => table.fault(*row, peer, &Fault::Failed(error.to_string())),
                }
            }
        }
    }
}

type Measured = (Vec<(What, f64)>, Vec<Fault>);

/// One row of one server, freshly started.
async fn measure(
    options: &Options,
    cores: Option<&Cores>,
    row: Row,
    peer: Peer,
) -> io::Result<Measured> {
    if let Some(cores) = cores
        && !(if row.free { cores.share() } else { cores.leave() })
    {
        return Err(io::Error::other("taskset failed"));
    }
    let cores = if row.free { None } else { cores };
    let upstream = peer::upstream()?;
    let workers = options.workers;
    let stage = Stage { upstream: upstream.address(), workers, cores, pogo: &options.pogo };
    let server = peer.start(row, &stage)?;
    load(options, row, peer, &server).await
}

async fn load(options: &Options, row: Row, peer: Peer, server: &Server) -> io::Result<Measured> {
    match row.load {
        Load::Requests(requests) => http::measure(options, requests, server).await,
        Load::Kept(count) => idle::connections(options, count, server).await,
        Load::Idle(count) => idle::sockets(options, count, peer.dialect(), server).await,
        Load::Events(shape) => events::measure(options, shape, peer, server).await,
        Load::Answers => answers::measure(options, server).await,
    }
}
