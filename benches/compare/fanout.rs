//! What one delivery of an event costs, and what a bound socket costs that is sent nothing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::Measured;
use crate::cpu;
use crate::crowd::{Crowd, uri};
use crate::http::{connect, response};
use crate::options::{Options, Shape};
use crate::peer::Server;
use crate::table::Measure;
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

pub(crate) async fn measure(
    options: &Options,
    shape: Shape,
    server: &Server,
) -> io::Result<Measured> {
    if cpu::open_files()? < shape.sockets + OTHER_FILES {
        let why = format!("ulimit -n is too low for {} sockets", shape.sockets);
        return Err(io::Error::other(why));
    }
    let pid = server.pid();
    let mut writer = Writer::connect(server.address()).await?;
    writer.put("/warm-up", 0).await?;

    let (memory, began) = (cpu::memory(pid)?, cpu::nanoseconds(pid)?);
    let crowd = Crowd::gather(server.address(), shape).await?;
    let bind = (cpu::nanoseconds(pid)? - began) as f64 / 1e3 / shape.sockets as f64;
    sleep(REST).await;
    let idle = cpu::memory(pid)?.saturating_sub(memory) as f64 / shape.sockets as f64;

    let deliveries = shape.bound() as usize * shape.burst;
    let turns = (options.deliveries / deliveries).clamp(FEWEST_TURNS, MOST_TURNS);
    let mut before = 0;
    for turn in 0..WARM_UP + turns {
        if turn == WARM_UP {
            before = cpu::nanoseconds(pid)?;
        }
        if !write(turn, shape, &mut writer, &crowd).await? {
            return Ok((Vec::new(), crowd.faults()));
        }
    }
    let used = cpu::nanoseconds(pid)? - before;
    let delivery = used as f64 / 1e3 / (turns * deliveries) as f64;
    let mut figures = vec![(Measure::Delivery(shape), delivery)];
    if shape.burst == 1 {
        figures.extend([(Measure::Bind(shape), bind), (Measure::Idle(shape), idle)]);
    }
    Ok((figures, crowd.faults()))
}

/// Writes a burst to the URI whose turn it is, and waits until it has arrived. The numbers of each URI have no gaps.
async fn write(turn: usize, shape: Shape, writer: &mut Writer, crowd: &Crowd) -> io::Result<bool> {
    let item = turn % shape.uris;
    let last = (turn / shape.uris + 1) * shape.burst;
    crowd.expect(item, last as u64);
    for number in last - shape.burst + 1..=last {
        writer.put(&uri(item), number as u64).await?;
    }
    Ok(crowd.is_complete().await)
}

/// Writes items through the server.
struct Writer {
    stream: TcpStream,
    host: SocketAddr,
}

impl Writer {
    async fn connect(server: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: connect(server).await?, host: server })
    }

    async fn put(&mut self, uri: &str, number: u64) -> io::Result<()> {
        let body = item(number);
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
