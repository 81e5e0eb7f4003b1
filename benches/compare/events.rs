//! What one delivery of an event costs, how long it takes, and how long its writer waits.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Measured;
use crate::cpu;
use crate::crowd::{Crowd, OPENING, uri};
use crate::http::{connect, response};
use crate::options::Options;
use crate::peer::{Peer, Server};
use crate::row::{Shape, What};
use crate::socket::Dialect;
use crate::times::Times;
use crate::upstream::item;

/// For the server to come to rest after the last bind.
const REST: Duration = Duration::from_millis(500);
/// Files of this process that are not sockets of the crowd.
const OTHER_FILES: usize = 64;
/// Turns before counting begins. A turn is one burst of writes, to one URI.
const WARM_UP: usize = 2;
const FEWEST_TURNS: usize = 4;
/// Enough, however few sockets each write reaches.
const MOST_TURNS: usize = 2000;
/// No URI is written more often than Pogo fetches a view (`views.min_interval`, 100 ms), or its delay would be what is measured. It
/// is the same for all servers.
const INTERVAL: Duration = Duration::from_millis(110);
const LONGEST: Duration = Duration::from_secs(10);
/// Writes to what nobody is bound to.
const UNWATCHED: usize = 500;

pub(crate) async fn measure(
    options: &Options,
    shape: Shape,
    peer: Peer,
    server: &Server,
) -> io::Result<Measured> {
    let dialect = peer.dialect();
    enough_files(shape.sockets)?;
    let mut figures = Vec::new();
    let mut writer = Writer::connect(server.address(), dialect).await?;
    let (_, mut unwatched) = write_unwatched(server, &mut writer).await?;

    let memory = cpu::memory(server.pid())?;
    let crowd = Crowd::gather(server.address(), shape, dialect, OPENING).await?;
    sleep(REST).await;
    if shape.each > 1 {
        let grown = cpu::memory(server.pid())?.saturating_sub(memory);
        let (untouching, _) = write_unwatched(server, &mut writer).await?;
        figures.push((What::Memory, grown as f64 / shape.bindings() as f64));
        figures.push((What::Untouching, untouching));
    }
    let Some(Delivered { used, took, count, mut answers }) =
        deliver(options, shape, server, &mut writer, &crowd).await?
    else {
        return Ok((Vec::new(), crowd.faults()));
    };
    figures.push((What::Cpu, used / count as f64));
    if shape.is_mixed() {
        let writes = count / shape.bound();
        // The others are given what is new.
        let mut refetch = 0.0;
        if peer.fetches() {
            refetch = measure_refetch(shape, server, &mut writer, writes).await?;
            figures.push((What::Refetch, refetch));
        }
        figures.push((What::Delivery, (used - refetch * writes as f64) / count as f64));
    }
    if shape.burst == 1 {
        let mut delays = crowd.delays();
        let times = [
            (What::Median, delays.quantile(0.5)),
            (What::P99, delays.quantile(0.99)),
            (What::P999, delays.quantile(0.999)),
            (What::UnwatchedAnswer, unwatched.quantile(0.5)),
            (What::WatchedAnswer, answers.quantile(0.5)),
        ];
        figures.extend(times.iter().filter_map(|(what, time)| Some((*what, (*time)?))));
    } else {
        figures.push((What::Rate, count as f64 / took));
    }
    Ok((figures, crowd.faults()))
}

pub(crate) fn enough_files(sockets: usize) -> io::Result<()> {
    if cpu::open_files()? < sockets + OTHER_FILES {
        return Err(io::Error::other(format!("ulimit -n is too low for {sockets} sockets")));
    }
    Ok(())
}

struct Delivered {
    /// Microseconds of the server's CPU time.
    used: f64,
    /// Seconds.
    took: f64,
    count: usize,
    /// How long each write took to be answered.
    answers: Times,
}

/// Writes turn by turn; nothing when something did not arrive.
async fn deliver(
    options: &Options,
    shape: Shape,
    server: &Server,
    writer: &mut Writer,
    crowd: &Crowd,
) -> io::Result<Option<Delivered>> {
    let each = shape.bound() * shape.burst;
    let pace = pace(shape);
    let most = LONGEST.as_nanos() / pace.as_nanos().max(1);
    let most = usize::try_from(most).unwrap_or(MOST_TURNS).min(MOST_TURNS);
    let turns = (options.deliveries / each).clamp(FEWEST_TURNS, most);
    let (mut before, mut began, mut answers) = (0, Instant::now(), Times::default());
    for turn in 0..WARM_UP + turns {
        if turn == WARM_UP {
            answers = Times::default();
            crowd.delays();
            before = cpu::nanoseconds(server.pid())?;
            began = Instant::now();
        }
        let next = Instant::now() + pace;
        if !write(turn, shape, writer, crowd, &mut answers).await? {
            return Ok(None);
        }
        sleep_until(next).await;
    }
    let used = (cpu::nanoseconds(server.pid())? - before) as f64 / 1e3;
    let took = began.elapsed().as_secs_f64();
    Ok(Some(Delivered { used, took, count: turns * each, answers }))
}

fn pace(shape: Shape) -> Duration {
    if shape.burst > 1 { Duration::ZERO } else { INTERVAL / shape.uris as u32 }
}

/// Microseconds of CPU time that the fetch after a write takes: what a write that changes nothing takes
/// more than one that touches no view. Both come at the pace of the `writes` that were delivered before.
async fn measure_refetch(
    shape: Shape,
    server: &Server,
    writer: &mut Writer,
    writes: usize,
) -> io::Result<f64> {
    let written = WARM_UP + writes;
    let mut used = [0.0; 2];
    for (touches, used) in used.iter_mut().enumerate() {
        sleep(INTERVAL).await;
        let before = cpu::nanoseconds(server.pid())?;
        for turn in 0..written.min(shape.uris) {
            let next = Instant::now() + pace(shape);
            // Those of the first round that were written once more in the last have its number.
            let number = (written - turn).div_ceil(shape.uris) * shape.burst;
            let uri = if touches == 1 { uri(turn) } else { "/elsewhere".to_owned() };
            writer.put(&uri, number as u64).await?;
            sleep_until(next).await;
        }
        sleep(INTERVAL).await;
        *used = (cpu::nanoseconds(server.pid())? - before) as f64 / 1e3;
    }
    let [elsewhere, in_vain] = used;
    Ok((in_vain - elsewhere) / written.min(shape.uris) as f64)
}

/// Writes a burst to the URI whose turn it is, and waits until it has arrived. The numbers of each URI have no gaps.
async fn write(
    turn: usize,
    shape: Shape,
    writer: &mut Writer,
    crowd: &Crowd,
    answers: &mut Times,
) -> io::Result<bool> {
    let item = turn % shape.uris;
    let last = (turn / shape.uris + 1) * shape.burst;
    crowd.expect(item, last as u64);
    for number in last - shape.burst + 1..=last {
        let began = Instant::now();
        writer.put(&uri(item), number as u64).await?;
        answers.add(began.elapsed());
    }
    Ok(crowd.is_complete().await)
}

/// Microseconds of CPU time of each write that no view can have been touched by, and how long they took.
async fn write_unwatched(server: &Server, writer: &mut Writer) -> io::Result<(f64, Times)> {
    writer.put("/elsewhere", 0).await?;
    let mut times = Times::default();
    let before = cpu::nanoseconds(server.pid())?;
    for number in 0..UNWATCHED {
        let began = Instant::now();
        writer.put("/elsewhere", number as u64).await?;
        times.add(began.elapsed());
    }
    let used = cpu::nanoseconds(server.pid())? - before;
    Ok((used as f64 / 1e3 / UNWATCHED as f64, times))
}

/// Writes items through the server.
pub(crate) struct Writer {
    stream: TcpStream,
    host: SocketAddr,
    dialect: Dialect,
}

impl Writer {
    pub(crate) async fn connect(server: SocketAddr, dialect: Dialect) -> io::Result<Self> {
        Ok(Self { stream: connect(server).await?, host: server, dialect })
    }

    pub(crate) async fn put(&mut self, uri: &str, number: u64) -> io::Result<()> {
        let mut body = item(number);
        if self.dialect == Dialect::Path {
            // Nobody makes an event of it on the way.
            body = format!("{{\"event\":\"update\",\"uri\":\"{uri}\",\"data\":{body}}}");
        }
        let request = format!(
            "PUT {uri} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        match response(&mut self.stream, &mut [0; 4096]).await? {
            200..300 => Ok(()),
            status => Err(io::Error::other(format!("the write was answered {status}"))),
        }
    }
}
