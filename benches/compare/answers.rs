//! What an answer costs that takes long to make and little to read: a large state, compressed for the one socket that asked. Here the
//! load leaves the server room for more than one worker.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Measured;
use crate::http::{counted, latencies};
use crate::options::Options;
use crate::peer::Server;
use crate::row::What;
use crate::socket::{Received, Socket};
use crate::times::Times;
use crate::upstream::LIST;

/// Requests to one answer.
const FEWER: usize = 10;
const WARM_UP: usize = 2;

pub(crate) async fn measure(options: &Options, server: &Server) -> io::Result<Measured> {
    let count = options.requests / FEWER;
    let mut sockets = Vec::new();
    for index in 0..options.connections {
        let fields = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        sockets.push(Socket::open(server.address(), index, "/", fields).await?);
    }
    let (sockets, _) = ask(sockets, WARM_UP * options.connections).await?;
    let asked = async { Ok(ask(sockets, count).await?.1) };
    let (used, took, times) = counted(server, asked).await?;
    let mut figures = vec![(What::Cpu, used / count as f64)];
    figures.extend(latencies(times));
    figures.push((What::Rate, count as f64 / took));
    Ok((figures, Vec::new()))
}

/// Asks so often for the list, on all sockets at once and with one request outstanding on each.
async fn ask(sockets: Vec<Socket>, count: usize) -> io::Result<(Vec<Socket>, Times)> {
    let left = Rc::new(Cell::new(count));
    let times = Rc::new(RefCell::new(Times::with_capacity(count)));
    let mut clients = JoinSet::new();
    for socket in sockets {
        clients.spawn_local(client(socket, left.clone(), times.clone()));
    }
    let sockets = clients.join_all().await.into_iter().collect::<io::Result<_>>()?;
    Ok((sockets, times.take()))
}

async fn client(
    mut socket: Socket,
    left: Rc<Cell<usize>>,
    times: Rc<RefCell<Times>>,
) -> io::Result<Socket> {
    let mut scratch = vec![0; 64 * 1024];
    while let Some(after) = left.get().checked_sub(1) {
        left.set(after);
        let began = Instant::now();
        socket.ask("show", LIST.0).await?;
        let mut answered = None;
        while answered.is_none() {
            socket.readable().await?;
            let pings = socket.take(&mut scratch, |received| match received {
                Received::Compressed => answered = Some(Ok(())),
                Received::Text(text) => answered = Some(Err(io::Error::other(text))),
                _ => {}
            })?;
            socket.answer(pings).await?;
        }
        answered.transpose()?;
        times.borrow_mut().add(began.elapsed());
    }
    Ok(socket)
}
