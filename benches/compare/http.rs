//! What proxied requests of HTTP/1.1 cost, and how long they take.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cpu;
use crate::options::Options;
use crate::peer::Server;
use crate::row::{Requests, What};
use crate::times::Times;
use crate::upstream::{LARGE, content_length, item};
use crate::{Measured, http2_load};

/// Requests of each connection before counting begins.
const WARM_UP: usize = 20;
const BROWSER: &str = "\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r
Accept: application/json\r
Accept-Language: en-GB,en;q=0.7,de;q=0.3\r
Accept-Encoding: gzip, deflate, br, zstd\r
Referer: http://localhost/items\r
Authorization: Bearer 0123456789abcdef0123456789abcdef\r
Cookie: session=0123456789abcdef; theme=dark\r
Connection: keep-alive\r
Sec-Fetch-Dest: empty\r
Sec-Fetch-Mode: cors\r
Sec-Fetch-Site: same-origin\r
Cache-Control: no-cache\r
";

pub(crate) async fn measure(
    options: &Options,
    requests: Requests,
    server: &Server,
) -> io::Result<Measured> {
    let (connections, count) = match requests {
        Requests::Alone => (1, options.requests / 2),
        Requests::Large => (1, options.bodies),
        _ => (options.connections, options.requests),
    };
    let (used, took, times) = if requests == Requests::Http2 {
        let load = http2_load::Load::connect(server.address()).await?;
        load.run(connections, connections * WARM_UP).await?;
        counted(server, load.run(connections, count)).await?
    } else {
        let load = Load::new(requests, server.address());
        let warm_up = if requests == Requests::Large { 2 } else { connections * WARM_UP };
        load.clone().run(connections, warm_up).await?;
        counted(server, load.run(connections, count)).await?
    };
    let each = used / count as f64;
    let mut figures = vec![match requests {
        Requests::Large => (What::CpuOfBody, each / 1e3),
        _ => (What::Cpu, each),
    }];
    if requests != Requests::Large {
        figures.extend(latencies(times));
        figures.push((What::Rate, count as f64 / took));
    }
    Ok((figures, Vec::new()))
}

pub(crate) fn latencies(mut times: Times) -> Vec<(What, f64)> {
    let shares = [(What::Median, 0.5), (What::P99, 0.99), (What::P999, 0.999)];
    let latency = |(what, share)| times.quantile(share).map(|time| (what, time));
    shares.into_iter().filter_map(latency).collect()
}

/// Microseconds of the server's CPU time, and seconds of wall-clock time.
pub(crate) async fn counted(
    server: &Server,
    load: impl Future<Output = io::Result<Times>>,
) -> io::Result<(f64, f64, Times)> {
    let (before, began) = (cpu::nanoseconds(server.pid())?, Instant::now());
    let times = load.await?;
    let used = cpu::nanoseconds(server.pid())? - before;
    Ok((used as f64 / 1e3, began.elapsed().as_secs_f64(), times))
}

fn request(requests: Requests, host: SocketAddr) -> String {
    let common = format!("Host: {host}\r\nUser-Agent: bench\r\nAccept: application/json\r\n");
    match requests {
        Requests::Post => {
            let body = item(0);
            let length = body.len();
            format!(
                "POST /orders HTTP/1.1\r\n{common}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        }
        Requests::Connect => format!("GET /items/1 HTTP/1.1\r\n{common}Connection: close\r\n\r\n"),
        Requests::Large => format!("GET {} HTTP/1.1\r\n{common}\r\n", LARGE.0),
        Requests::Get | Requests::Alone | Requests::Http2 => {
            format!("GET /items/1 HTTP/1.1\r\n{common}\r\n")
        }
    }
}

/// One request, again and again.
#[derive(Clone)]
pub(crate) struct Load {
    address: SocketAddr,
    request: Rc<[u8]>,
    /// A connection for each request instead of one for all.
    fresh: bool,
}

impl Load {
    pub(crate) fn new(requests: Requests, address: SocketAddr) -> Self {
        let request = request(requests, address).into_bytes().into();
        Self { address, request, fresh: requests == Requests::Connect }
    }

    /// A GET with as many fields as browsers send, so that what is done for each field is seen.
    pub(crate) fn of_browser(address: SocketAddr) -> Self {
        let request = format!("GET /items/1 HTTP/1.1\r\nHost: {address}\r\n{BROWSER}\r\n");
        Self { address, request: request.into_bytes().into(), fresh: false }
    }

    /// Sends `requests` over `connections` at once, one outstanding on each.
    pub(crate) async fn run(self, connections: usize, requests: usize) -> io::Result<Times> {
        let left = Rc::new(Cell::new(requests));
        let times = Rc::new(RefCell::new(Times::with_capacity(requests)));
        let mut clients = JoinSet::new();
        for _ in 0..connections {
            clients.spawn_local(self.clone().client(left.clone(), times.clone()));
        }
        while let Some(client) = clients.join_next().await {
            client.map_err(io::Error::other)??;
        }
        Ok(times.take())
    }

    async fn client(self, left: Rc<Cell<usize>>, times: Rc<RefCell<Times>>) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let mut kept = None;
        while let Some(after) = left.get().checked_sub(1) {
            left.set(after);
            let began = Instant::now();
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => connect(self.address).await?,
            };
            ask(&mut stream, &self.request, &mut buffer).await?;
            times.borrow_mut().add(began.elapsed());
            kept = (!self.fresh).then_some(stream);
        }
        Ok(())
    }
}

/// Sends a request and reads its answer, which must be a good one.
pub(crate) async fn ask(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut [u8],
) -> io::Result<()> {
    stream.write_all(request).await?;
    match response(stream, buffer).await? {
        200..300 => Ok(()),
        status => Err(io::Error::other(format!("answered {status}"))),
    }
}

pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one response to its end and says its status. The buffer must hold the whole of its head.
pub(crate) async fn response(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<u16> {
    let mut filled = 0;
    loop {
        filled += read(stream, &mut buffer[filled..]).await?;
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut fields);
        let parsed = head.parse(&buffer[..filled]).map_err(io::Error::other)?;
        let httparse::Status::Complete(length) = parsed else { continue };
        let (status, end) = (head.code.unwrap_or(0), length + content_length(head.headers)?);
        while filled < end {
            filled += read(stream, buffer).await?;
        }
        return Ok(status);
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    match stream.read(buffer).await? {
        0 => Err(io::Error::other("the server closed in the midst of a response")),
        read => Ok(read),
    }
}
