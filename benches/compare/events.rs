//! What one delivery of an event costs, how long it takes, and how long its writer waits.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
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
/// Turns of each author before counting begins. A turn is one burst of writes, to one URI.
const WARM_UP: usize = 2;
const FEWEST_TURNS: usize = 4;
/// Enough for all authors together, however few sockets each write reaches.
const MOST_TURNS: usize = 5000;
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

    let (memory, before) = (cpu::memory(server.pid())?, cpu::nanoseconds(server.pid())?);
    let crowd = Rc::new(Crowd::gather(server.address(), shape, dialect, OPENING).await?);
    let used = (cpu::nanoseconds(server.pid())? - before) as f64 / 1e3;
    sleep(REST).await;
    if shape.each > 1 {
        figures.push((What::Bind, used / shape.bindings() as f64));
        let grown = cpu::memory(server.pid())?.saturating_sub(memory);
        let (untouching, _) = write_unwatched(server, &mut writer).await?;
        figures.push((What::Memory, grown as f64 / shape.bindings() as f64));
        figures.push((What::Untouching, untouching));
    }
    let mut authors = vec![Author::new(shape, 0, writer)];
    for index in 1..shape.writers {
        let writer = Writer::connect(server.address(), dialect).await?;
        authors.push(Author::new(shape, index, writer));
    }
    let (delivered, authors) = deliver(options, shape, server, authors, &crowd).await?;
    let Some(Delivered { used, took, count, mut answers }) = delivered else {
        return Ok((Vec::new(), crowd.faults()));
    };
    figures.push((What::Cpu, used / count as f64));
    if shape.is_mixed() {
        // The others are given what is new.
        let mut refetch = 0.0;
        if peer.fetches() {
            refetch = measure_refetch(shape, server, authors).await?;
            figures.push((What::Refetch, refetch));
        }
        figures.push((What::Delivery, used / count as f64 - refetch / shape.bound() as f64));
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
    let faults = crowd.faults();
    if shape.each > 1 {
        let before = cpu::nanoseconds(server.pid())?;
        drop(crowd);
        sleep(REST).await;
        let used = (cpu::nanoseconds(server.pid())? - before) as f64 / 1e3;
        figures.push((What::Release, used / shape.bindings() as f64));
    }
    Ok((figures, faults))
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

/// Each author writes turn by turn; nothing when something did not arrive.
async fn deliver(
    options: &Options,
    shape: Shape,
    server: &Server,
    authors: Vec<Author>,
    crowd: &Rc<Crowd>,
) -> io::Result<(Option<Delivered>, Vec<Author>)> {
    let each = shape.bound() * shape.burst * shape.writers;
    let most = LONGEST.as_nanos() / pace(shape).as_nanos().max(1);
    let most = usize::try_from(most).unwrap_or(MOST_TURNS).min(MOST_TURNS / shape.writers);
    let turns = (options.deliveries / each).clamp(FEWEST_TURNS, most);
    let (Some(_), authors) = write(authors, WARM_UP, crowd).await? else {
        return Ok((None, Vec::new()));
    };
    crowd.delays();
    let (before, began) = (cpu::nanoseconds(server.pid())?, Instant::now());
    let (answers, authors) = write(authors, turns, crowd).await?;
    let used = (cpu::nanoseconds(server.pid())? - before) as f64 / 1e3;
    let took = began.elapsed().as_secs_f64();
    let delivered = answers.map(|answers| Delivered { used, took, count: turns * each, answers });
    Ok((delivered, authors))
}

/// How long from one turn of an author to the next at least.
fn pace(shape: Shape) -> Duration {
    if shape.burst > 1 {
        Duration::ZERO
    } else {
        INTERVAL * shape.writers as u32 / shape.uris as u32
    }
}

/// Lets all authors write so many turns at once, and says how long their writes took to be answered.
async fn write(
    authors: Vec<Author>,
    turns: usize,
    crowd: &Rc<Crowd>,
) -> io::Result<(Option<Times>, Vec<Author>)> {
    let mut tasks = JoinSet::new();
    for mut author in authors {
        let crowd = crowd.clone();
        tasks.spawn_local(async move {
            let mut answers = Times::default();
            let arrived = author.write(turns, &crowd, &mut answers).await?;
            io::Result::Ok((author, arrived.then_some(answers)))
        });
    }
    let (mut all, mut authors) = (Some(Times::default()), Vec::new());
    for written in tasks.join_all().await {
        let (author, answers) = written?;
        all = all.zip(answers).map(|(all, answers)| all.and(answers));
        authors.push(author);
    }
    Ok((all, authors))
}

/// Microseconds of CPU time that the fetch after a write takes: what a write that changes nothing takes
/// more than one that touches no view. Both come from as many writers and at the same pace as the writes that were delivered.
async fn measure_refetch(
    shape: Shape,
    server: &Server,
    mut authors: Vec<Author>,
) -> io::Result<f64> {
    let mut used = [0.0; 2];
    for (touches, used) in used.iter_mut().enumerate() {
        sleep(INTERVAL).await;
        let before = cpu::nanoseconds(server.pid())?;
        let mut tasks = JoinSet::new();
        for mut author in std::mem::take(&mut authors) {
            tasks.spawn_local(async move {
                author.repeat(touches == 1).await?;
                io::Result::Ok(author)
            });
        }
        authors = tasks.join_all().await.into_iter().collect::<io::Result<_>>()?;
        sleep(INTERVAL).await;
        *used = (cpu::nanoseconds(server.pid())? - before) as f64 / 1e3;
    }
    let [elsewhere, in_vain] = used;
    Ok((in_vain - elsewhere) / shape.uris as f64)
}

/// Who writes some of the items, in turn and each as often as the others.
struct Author {
    writer: Writer,
    shape: Shape,
    items: Vec<usize>,
    /// Turns so far.
    turn: usize,
}

impl Author {
    fn new(shape: Shape, index: usize, writer: Writer) -> Self {
        Self { writer, shape, items: shape.items_of_writer(index), turn: 0 }
    }

    /// Writes a burst to the item whose turn it is, and waits until it has arrived; `false` when it has not. The numbers of each item
    /// have no gaps.
    async fn write(
        &mut self,
        turns: usize,
        crowd: &Crowd,
        answers: &mut Times,
    ) -> io::Result<bool> {
        for _ in 0..turns {
            let next = Instant::now() + pace(self.shape);
            let item = self.items[self.turn % self.items.len()];
            let last = (self.turn / self.items.len() + 1) * self.shape.burst;
            self.turn += 1;
            crowd.expect(item, last as u64);
            for number in last - self.shape.burst + 1..=last {
                let began = Instant::now();
                self.writer.put(&uri(item), number as u64).await?;
                answers.add(began.elapsed());
            }
            if !crowd.is_complete(item).await {
                return Ok(false);
            }
            sleep_until(next).await;
        }
        Ok(true)
    }

    /// Writes each of the items as it is, or as often something that no view can be touched by.
    async fn repeat(&mut self, touches: bool) -> io::Result<()> {
        for (index, item) in self.items.iter().enumerate() {
            let next = Instant::now() + pace(self.shape);
            let number = (self.turn + self.items.len() - 1 - index) / self.items.len();
            let uri = if touches { uri(*item) } else { "/elsewhere".to_owned() };
            self.writer.put(&uri, (number * self.shape.burst) as u64).await?;
            sleep_until(next).await;
        }
        Ok(())
    }
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
