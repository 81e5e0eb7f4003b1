//! What Pogo costs next to other servers, in CPU time: `cargo bench`, or
//! `cargo bench -- --only fanout --rounds 5`. Linux only, loopback only.
//!
//! Every server is a process of its own, and what is counted is the user and system time of its whole process tree, because
//! wall-clock time says little on a machine that does other things too. Rounds visit the servers in turn, so that a slow minute
//! meets all of them. The generator (this process) and the upstream are counted for nobody.
//!
//! Read in this order: `peer` (who is measured), `http` and `fanout` (what is measured), `crowd` (what must arrive), `table` (what is printed).

mod cpu;
mod crowd;
mod fanout;
mod floor;
mod http;
mod options;
mod pass_through;
mod peer;
mod socket;
mod table;
mod upstream;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::crowd::Fault;
use crate::options::{Options, Role, Row};
use crate::peer::Peer;
use crate::table::{Measure, Table};

/// No measurement of one server takes longer; what does has hung.
const LONGEST: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.role {
        Some(Role::Upstream) => upstream::run(),
        Some(Role::PassThrough { upstream }) => pass_through::run(upstream, options.workers),
        Some(Role::Floor) => floor::run(),
        None => return compare(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        eprintln!("no runtime for the load generator");
        return ExitCode::FAILURE;
    };
    let local = tokio::task::LocalSet::new();
    let mut table = Table::default();
    local.block_on(&runtime, rounds(options, &mut table));
    match table.print(io::stdout().lock()) {
        Ok(()) if table.is_sound() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

async fn rounds(options: &Options, table: &mut Table) {
    for round in 0..options.rounds {
        for row in options.rows() {
            let mut peers = row.peers();
            peers.retain(|peer| peer.is_installed());
            let first = round % peers.len().max(1);
            peers.rotate_left(first);
            for peer in peers {
                eprintln!("round {} of {}: {row}, {peer}", round + 1, options.rounds);
                let measured = tokio::time::timeout(LONGEST, measure(options, row, peer)).await;
                match measured.unwrap_or_else(|_| Err(io::Error::other("timed out"))) {
                    Ok((figures, faults)) => {
                        figures.into_iter().for_each(|(what, cost)| table.add(what, peer, cost));
                        faults.into_iter().for_each(|fault| table.fault(row, peer, fault));
                    }
                    Err(error) => table.fault(row, peer, Fault::Failed(error.to_string())),
                }
            }
        }
    }
}

type Measured = (Vec<(Measure, f64)>, Vec<Fault>);

/// One row of one server, freshly started.
async fn measure(options: &Options, row: Row, peer: Peer) -> io::Result<Measured> {
    let upstream = peer::upstream()?;
    let server = peer.start(upstream.address(), options)?;
    match row {
        Row::Get | Row::Post | Row::Connect => {
            let cost = http::measure(options, row, &server).await?;
            Ok((vec![(Measure::Request(row), cost)], Vec::new()))
        }
        Row::Events(shape) => fanout::measure(options, shape, &server).await,
    }
}
