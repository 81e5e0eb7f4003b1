//! A long time of clients that come, bind, write, let go and leave without a word, and what it does to the memory of Pogo:
//! `cargo bench -- soak --minutes 60`.

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::chart::{self, OURS, SECOND, Series};
use crate::cores::Cores;
use crate::cpu;
use crate::crowd::uri;
use crate::events::{Writer, enough_files};
use crate::options::Options;
use crate::peer::{self, Peer, Server, Stage};
use crate::row::{Load, Row, Shape, thousands};
use crate::socket::{Dialect, Socket};

/// URIs that are bound; a client's own lie beside one another.
const URIS: usize = 2000;
const SAMPLES: u32 = 120;
const LEAST_INTERVAL: Duration = Duration::from_secs(2);
/// For Pogo to notice that all have gone.
const GONE: Duration = Duration::from_secs(5);
/// So many clients in a hundred say goodbye to no one.
const SILENT: usize = 50;

#[derive(Debug, Default)]
struct Done {
    sockets: Cell<usize>,
    binds: Cell<usize>,
    writes: Cell<usize>,
}

impl Done {
    fn count(counter: &Cell<usize>) {
        counter.set(counter.get() + 1);
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    seconds: f64,
    resident: u64,
    proportional: u64,
}

pub(crate) async fn run(
    options: &Options,
    minutes: usize,
    clients: usize,
    into: &Path,
) -> io::Result<()> {
    enough_files(clients)?;
    let cores = Cores::divide(options.workers)?;
    let upstream = peer::upstream()?;
    let stage = Stage {
        upstream: upstream.address(),
        workers: options.workers,
        cores: cores.as_ref(),
        pogo: &options.pogo,
    };
    let server = Peer::Pogo.start(Row::new(Load::Events(Shape::one_uri(1))), &stage)?;
    let done = Rc::new(Done::default());
    let mut running = JoinSet::new();
    for number in 0..clients {
        running.spawn_local(churn(server.address(), number, done.clone()));
    }
    let (began, length) = (Instant::now(), Duration::from_secs(60 * minutes as u64));
    let mut samples = Vec::new();
    let mut sampling = interval((length / SAMPLES).max(LEAST_INTERVAL));
    sampling.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while began.elapsed() < length {
        tokio::select! {
            _ = sampling.tick() => {}
            ended = running.join_next() => {
                let Some(ended) = ended else { break };
                ended.map_err(io::Error::other)??;
            }
        }
        samples.push(sample(&server, began, &done)?);
    }
    // What is left when all have gone.
    running.shutdown().await;
    sleep(GONE).await;
    samples.push(sample(&server, began, &done)?);
    write(&samples, &done, clients, into)
}

fn sample(server: &Server, began: Instant, done: &Done) -> io::Result<Sample> {
    let sample = Sample {
        seconds: began.elapsed().as_secs_f64(),
        resident: cpu::resident(server.pid())?,
        proportional: cpu::memory(server.pid())?,
    };
    let megabytes = sample.resident as f64 / 1e6;
    eprintln!(
        "{:.0} s: {megabytes:.1} MB resident, {} sockets, {} binds, {} writes",
        sample.seconds,
        thousands(done.sockets.get()),
        thousands(done.binds.get()),
        thousands(done.writes.get()),
    );
    Ok(sample)
}

/// One client after another in the place of one.
async fn churn(server: SocketAddr, number: usize, done: Rc<Done>) -> io::Result<()> {
    let mut turn = number;
    loop {
        // Coprime steps: who meets whom changes all the time.
        turn = turn.wrapping_add(7919);
        let first = turn % (URIS - 5);
        let mut socket = Socket::bind(server, number, first..first + 5, Dialect::Bind).await?;
        Done::count(&done.sockets);
        done.binds.set(done.binds.get() + 5);
        let mut writer = Writer::connect(server, Dialect::Bind).await?;
        for item in first..first + 3 {
            writer.put(&uri(item), turn as u64).await?;
            Done::count(&done.writes);
        }
        socket.call("unbind", &uri(first)).await?;
        if turn % 100 >= SILENT {
            for item in first + 1..first + 5 {
                socket.call("unbind", &uri(item)).await?;
            }
        }
    }
}

fn write(samples: &[Sample], done: &Done, clients: usize, into: &Path) -> io::Result<()> {
    let mut csv = String::from("seconds,resident_bytes,proportional_bytes\n");
    for Sample { seconds, resident, proportional } in samples {
        writeln!(csv, "{seconds:.1},{resident},{proportional}").map_err(io::Error::other)?;
    }
    fs::write(into.join("soak.csv"), csv)?;
    let minutes = samples.last().map_or(0.0, |sample| sample.seconds / 60.0);
    let points = |of: fn(&Sample) -> u64| {
        samples.iter().map(|sample| (sample.seconds / 60.0, of(sample) as f64 / 1e6)).collect()
    };
    let resident = points(|sample| sample.resident);
    let proportional = points(|sample| sample.proportional);
    let series = [
        Series { label: "resident".to_owned(), colour: SECOND, points: resident },
        Series { label: "proportional".to_owned(), colour: OURS, points: proportional },
    ];
    let about = format!(
        "megabytes; {} sockets came and went, {clients} at a time, with {} binds and {} writes",
        thousands(done.sockets.get()),
        thousands(done.binds.get()),
        thousands(done.writes.get())
    );
    let title = format!("Memory of Pogo over {minutes:.0} minutes of churn");
    let plot = chart::lines(&title, &about, ("minutes", false), &series);
    fs::write(into.join("soak.svg"), plot)
}
