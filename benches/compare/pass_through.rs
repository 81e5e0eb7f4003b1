//! The least that a reverse proxy made of hyper does: no rules, no limits, no header but `Connection` looked at. What Pogo costs
//! above it is what Pogo's own work costs.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::thread;

use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::http2_load::Local;

/// More than the generator's connections never wait here.
const IDLE: usize = 256;
const BACKLOG: i32 = 1024;

pub(crate) fn run(upstream: SocketAddr, workers: usize, http2: bool) -> io::Result<()> {
    crate::upstream::end_with_parent();
    let first = listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(listener(address)?);
    }
    crate::upstream::announce(address)?;
    let threads =
        listeners.into_iter().map(|own| thread::spawn(move || worker(own, upstream, http2)));
    for thread in threads.collect::<Vec<_>>() {
        thread.join().map_err(|_| io::Error::other("a worker panicked"))??;
    }
    Ok(())
}

fn listener(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn worker(listener: std::net::TcpListener, upstream: SocketAddr, http2: bool) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::from_std(listener)?;
        let pool = Rc::new(Pool { upstream, idle: RefCell::default() });
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let pool = pool.clone();
            let service = service_fn(move |request| forward(pool.clone(), request));
            tokio::task::spawn_local(async move {
                let stream = TokioIo::new(stream);
                // The client closed its connection, which it may at any time.
                if http2 {
                    http2::Builder::new(Local).serve_connection(stream, service).await.ok();
                } else {
                    http1::Builder::new().serve_connection(stream, service).await.ok();
                }
            });
        }
    })
}

struct Pool {
    upstream: SocketAddr,
    idle: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Pool {
    async fn connection(&self) -> io::Result<SendRequest<Incoming>> {
        if let Some(idle) = self.take() {
            return Ok(idle);
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }

    /// The last used connection whose answer has been read to its end.
    fn take(&self) -> Option<SendRequest<Incoming>> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|sender| !sender.is_closed());
        let ready = idle.iter().rposition(SendRequest::is_ready)?;
        Some(idle.remove(ready))
    }

    fn put(&self, sender: SendRequest<Incoming>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE {
            idle.push(sender);
        }
    }
}

async fn forward(pool: Rc<Pool>, mut request: Request<Incoming>) -> io::Result<Response<Incoming>> {
    request.headers_mut().remove(CONNECTION);
    *request.version_mut() = Version::HTTP_11;
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(io::Error::other)?;
        request.headers_mut().insert(HOST, host);
        let path = request.uri().path().parse().map_err(io::Error::other)?;
        *request.uri_mut() = path;
    }
    let mut sender = pool.connection().await?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    pool.put(sender);
    Ok(response)
}
