//! What connections and sockets cost that are open and do nothing.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::crowd::{Crowd, OPENING};
use crate::events::enough_files;
use crate::http::ask;
use crate::options::Options;
use crate::peer::Server;
use crate::row::{Shape, What};
use crate::socket::{Dialect, connect};
use crate::{Measured, cpu};

/// For memory to be given back, and less than what an idle connection lasts.
const REST: Duration = Duration::from_secs(8);

/// So many sockets, bound to one URI.
pub(crate) async fn sockets(
    options: &Options,
    count: usize,
    dialect: Dialect,
    server: &Server,
) -> io::Result<Measured> {
    enough_files(count)?;
    let pid = server.pid();
    // What the first one makes is made once.
    let (address, one) = (server.address(), Shape::one_uri(1));
    drop(Crowd::gather(address, one, dialect, OPENING).await?);
    let (memory, before) = (cpu::memory(pid)?, cpu::nanoseconds(pid)?);
    let _crowd = Crowd::gather(address, Shape::one_uri(count), dialect, OPENING).await?;
    let bind = (cpu::nanoseconds(pid)? - before) as f64 / 1e3 / count as f64;
    let mut figures = at_rest(options, count, memory, server).await?;
    figures.insert(0, (What::Bind, bind));
    Ok((figures, Vec::new()))
}

/// So many HTTP connections, each of which has had one answer.
pub(crate) async fn connections(
    options: &Options,
    count: usize,
    server: &Server,
) -> io::Result<Measured> {
    enough_files(count)?;
    drop(open(server.address(), OPENING).await?);
    let memory = cpu::memory(server.pid())?;
    let _kept = open(server.address(), count).await?;
    Ok((at_rest(options, count, memory, server).await?, Vec::new()))
}

async fn open(server: SocketAddr, count: usize) -> io::Result<Vec<TcpStream>> {
    let request: Rc<str> =
        format!("GET /items/1 HTTP/1.1\r\nHost: {server}\r\nUser-Agent: bench\r\n\r\n").into();
    let permits = Rc::new(Semaphore::new(OPENING));
    let mut opening = JoinSet::new();
    for index in 0..count {
        let (request, permits) = (request.clone(), permits.clone());
        opening.spawn_local(async move {
            let _permit = permits.acquire().await.map_err(io::Error::other)?;
            let mut stream = connect(server, index).await?;
            ask(&mut stream, request.as_bytes(), &mut [0; 4096]).await?;
            Ok(stream)
        });
    }
    let mut kept = Vec::with_capacity(count);
    while let Some(opened) = opening.join_next().await {
        let opened: io::Result<TcpStream> = opened.map_err(io::Error::other)?;
        kept.push(opened?);
    }
    Ok(kept)
}

/// Memory above `memory`, and what is used while nothing happens.
async fn at_rest(
    options: &Options,
    count: usize,
    memory: u64,
    server: &Server,
) -> io::Result<Vec<(What, f64)>> {
    let pid = server.pid();
    sleep(REST).await;
    let grown = cpu::memory(pid)?.saturating_sub(memory) as f64 / count as f64;
    let (before, wakes) = (cpu::nanoseconds(pid)?, cpu::wakes(pid)?);
    sleep(Duration::from_secs(options.idle_seconds as u64)).await;
    let seconds = options.idle_seconds as f64;
    let used = (cpu::nanoseconds(pid)? - before) as f64 / 1e6 / seconds;
    let woken = (cpu::wakes(pid)? - wakes) as f64 / seconds / options.workers as f64;
    Ok(vec![(What::Memory, grown), (What::IdleCpu, used), (What::Wakes, woken)])
}
