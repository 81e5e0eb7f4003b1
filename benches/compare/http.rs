//! What one proxied request costs.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cpu;
use crate::options::{Options, Row};
use crate::peer::Server;
use crate::upstream::{content_length, item};

/// Requests of each connection before counting begins.
const WARM_UP: usize = 20;

/// Microseconds of the server's CPU time for each request.
pub(crate) async fn measure(options: &Options, row: Row, server: &Server) -> io::Result<f64> {
    let request: Rc<[u8]> = request(row, server.address()).into_bytes().into();
    let load = Load { address: server.address(), request, fresh: row == Row::Connect };
    load.clone().run(options.connections, options.connections * WARM_UP).await?;
    let before = cpu::nanoseconds(server.pid())?;
    load.run(options.connections, options.requests).await?;
    let used = cpu::nanoseconds(server.pid())? - before;
    Ok(used as f64 / 1e3 / options.requests as f64)
}

fn request(row: Row, host: SocketAddr) -> String {
    let common = format!("Host: {host}\r\nUser-Agent: bench\r\nAccept: application/json\r\n");
    match row {
        Row::Post => {
            let body = item(0);
            let length = body.len();
            format!(
                "POST /orders HTTP/1.1\r\n{common}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        }
        Row::Connect => format!("GET /items/1 HTTP/1.1\r\n{common}Connection: close\r\n\r\n"),
        Row::Get | Row::Events(_) => format!("GET /items/1 HTTP/1.1\r\n{common}\r\n"),
    }
}

#[derive(Clone)]
struct Load {
    address: SocketAddr,
    request: Rc<[u8]>,
    /// A connection for each request instead of one for all.
    fresh: bool,
}

impl Load {
    /// Sends `requests` over `connections` at once, one outstanding on each.
    async fn run(self, connections: usize, requests: usize) -> io::Result<()> {
        let left = Rc::new(Cell::new(requests));
        let mut clients = JoinSet::new();
        for _ in 0..connections {
            clients.spawn_local(self.clone().client(left.clone()));
        }
        while let Some(client) = clients.join_next().await {
            client.map_err(io::Error::other)??;
        }
        Ok(())
    }

    async fn client(self, left: Rc<Cell<usize>>) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        let mut kept = None;
        while let Some(after) = left.get().checked_sub(1) {
            left.set(after);
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => connect(self.address).await?,
            };
            stream.write_all(&self.request).await?;
            let status = response(&mut stream, &mut buffer).await?;
            if !(200..300).contains(&status) {
                return Err(io::Error::other(format!("answered {status}")));
            }
            kept = (!self.fresh).then_some(stream);
        }
        Ok(())
    }
}

pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one response to its end and says its status. The buffer must hold the whole of it.
pub(crate) async fn response(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<u16> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err(io::Error::other("the server closed in the midst of a response"));
        }
        filled += read;
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut fields);
        let parsed = head.parse(&buffer[..filled]).map_err(io::Error::other)?;
        if let httparse::Status::Complete(length) = parsed
            && filled >= length + content_length(head.headers)?
        {
            return Ok(head.code.unwrap_or(0));
        }
    }
}
