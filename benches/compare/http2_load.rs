//! The client side of HTTP/2 without TLS: a few connections, many streams at once.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::http::connect;
use crate::times::Times;

const CONNECTIONS: usize = 4;

pub(crate) struct Load {
    address: SocketAddr,
    connections: Vec<SendRequest<Empty<Bytes>>>,
}

impl Load {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TokioIo::new(connect(address).await?);
            let (sender, connection) = handshake(Local, stream).await.map_err(io::Error::other)?;
            tokio::task::spawn_local(connection);
            connections.push(sender);
        }
        Ok(Self { address, connections })
    }

    /// Sends `requests`, so many `streams` of them at once over all connections.
    pub(crate) async fn run(&self, streams: usize, requests: usize) -> io::Result<Times> {
        let left = Rc::new(Cell::new(requests));
        let times = Rc::new(RefCell::new(Times::with_capacity(requests)));
        let mut clients = JoinSet::new();
        for sender in self.connections.iter().cycle().take(streams) {
            clients.spawn_local(client(
                sender.clone(),
                format!("http://{}/items/1", self.address),
                left.clone(),
                times.clone(),
            ));
        }
        while let Some(client) = clients.join_next().await {
            client.map_err(io::Error::other)??;
        }
        Ok(times.take())
    }
}

async fn client(
    mut sender: SendRequest<Empty<Bytes>>,
    uri: String,
    left: Rc<Cell<usize>>,
    times: Rc<RefCell<Times>>,
) -> io::Result<()> {
    while let Some(after) = left.get().checked_sub(1) {
        left.set(after);
        let began = Instant::now();
        let request = Request::get(uri.as_str())
            .header("user-agent", "bench")
            .header("accept", "application/json")
            .body(Empty::new())
            .map_err(io::Error::other)?;
        sender.ready().await.map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        if !response.status().is_success() {
            return Err(io::Error::other(format!("answered {}", response.status())));
        }
        response.into_body().collect().await.map_err(io::Error::other)?;
        times.borrow_mut().add(began.elapsed());
    }
    Ok(())
}

/// Runs what hyper starts on this thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
