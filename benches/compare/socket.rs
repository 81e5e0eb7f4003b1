//! The client side of a bound socket: the handshake, the bind, and the events it is sent. It keeps no buffer while no frame is
//! split, so that ten thousand of them cost the machine little beside the server.

use std::io::{self, Cursor};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::crowd::uri;
use crate::http::response;

/// Sockets with one source address: the range of ports of an address is finite, and servers limit what one address may open.
const PER_ADDRESS: usize = 400;
/// Larger than any message of a server here.
const LONGEST: u64 = 64 * 1024;

/// What one frame from the server means to a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// An update of an item, and the number in its data.
    Update(usize, u64),
    /// Any other text, such as the answer to a bind.
    Text(String),
    Ping(Vec<u8>),
    Compressed,
    Other,
}

/// The payloads of pings not yet answered.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Pings(Vec<Vec<u8>>);

pub(crate) struct Socket {
    stream: TcpStream,
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
}

/// How a server is told what a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A `bind` for each URI.
    Bind,
    /// The path of the handshake.
    Path,
}

impl Socket {
    /// Connects client number `index` and binds it to the items.
    pub(crate) async fn bind(
        server: SocketAddr,
        index: usize,
        items: Range<usize>,
        dialect: Dialect,
    ) -> io::Result<Self> {
        let path = match dialect {
            Dialect::Bind => "/".to_owned(),
            Dialect::Path => uri(items.start),
        };
        let mut socket = Self::open(server, index, &path, "").await?;
        if dialect == Dialect::Bind {
            for item in items {
                socket.call("bind", &uri(item)).await?;
            }
        }
        Ok(socket)
    }

    /// Connects client number `index` and opens a socket, with more `fields` in the handshake.
    pub(crate) async fn open(
        server: SocketAddr,
        index: usize,
        path: &str,
        fields: &str,
    ) -> io::Result<Self> {
        let mut stream = connect(server, index).await?;
        let key = generate_key();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{fields}\r\n"
        );
        write(&stream, head.as_bytes()).await?;
        match response(&mut stream, &mut [0; 1024]).await? {
            101 => Ok(Self { stream, partial: Vec::new() }),
            status => Err(io::Error::other(format!("the handshake was answered {status}"))),
        }
    }

    /// Sends a request of the protocol.
    pub(crate) async fn ask(&self, event: &str, uri: &str) -> io::Result<()> {
        let request = format!("{{\"id\":1,\"event\":\"{event}\",\"uri\":\"{uri}\"}}");
        self.send(Frame::message(request, OpCode::Data(Data::Text), true)).await
    }

    /// The same, and waits until it is answered `ok`; events before the answer are lost.
    pub(crate) async fn call(&mut self, event: &str, uri: &str) -> io::Result<()> {
        self.ask(event, uri).await?;
        let mut answer = None;
        while answer.is_none() {
            self.readable().await?;
            let pings = self.take(&mut [0; 4096], |received| {
                if let Received::Text(text) = received {
                    answer = Some(text);
                }
            })?;
            self.answer(pings).await?;
        }
        match answer {
            Some(text) if text == "{\"id\":1,\"status\":\"ok\"}" => Ok(()),
            other => Err(io::Error::other(format!("{event} was answered {other:?}"))),
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Reads what is there and hands on the whole frames it makes. What it returns must be given to `answer`.
    pub(crate) fn take(
        &mut self,
        scratch: &mut [u8],
        mut each: impl FnMut(Received),
    ) -> io::Result<Pings> {
        let mut pings = Pings::default();
        let length = match self.stream.try_read(scratch) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(pings),
            Err(error) => return Err(error),
        };
        let mut hand_on = |received| match received {
            Received::Ping(payload) => pings.0.push(payload),
            other => each(other),
        };
        if self.partial.is_empty() {
            let used = frames(&scratch[..length], &mut hand_on)?;
            self.partial = scratch[used..length].to_vec();
        } else {
            self.partial.extend_from_slice(&scratch[..length]);
            let used = frames(&self.partial, &mut hand_on)?;
            self.partial = self.partial[used..].to_vec();
        }
        Ok(pings)
    }

    pub(crate) async fn answer(&self, pings: Pings) -> io::Result<()> {
        for payload in pings.0 {
            self.send(Frame::pong(payload)).await?;
        }
        Ok(())
    }

    async fn send(&self, mut frame: Frame) -> io::Result<()> {
        frame.header_mut().mask = Some(*b"mask");
        let mut bytes = Vec::new();
        frame.format(&mut bytes).map_err(io::Error::other)?;
        write(&self.stream, &bytes).await
    }
}

/// One end of a loopback connection whose source address depends on the number of the client.
pub(crate) async fn connect(server: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let host = u8::try_from(1 + index / PER_ADDRESS % 250).map_err(io::Error::other)?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), 0)))?;
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Hands on every whole frame and says how many bytes they took.
fn frames(bytes: &[u8], each: &mut impl FnMut(Received)) -> io::Result<usize> {
    let mut used = 0;
    loop {
        let mut cursor = Cursor::new(&bytes[used..]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(io::Error::other)?;
        let Some((header, length)) = parsed else { return Ok(used) };
        if length > LONGEST {
            return Err(io::Error::other("a frame is longer than any should be"));
        }
        let begin = used + usize::try_from(cursor.position()).map_err(io::Error::other)?;
        let end = begin + usize::try_from(length).map_err(io::Error::other)?;
        let Some(payload) = bytes.get(begin..end) else { return Ok(used) };
        each(meaning(&header, payload));
        used = end;
    }
}

fn meaning(header: &FrameHeader, payload: &[u8]) -> Received {
    match header.opcode {
        OpCode::Control(Control::Ping) => Received::Ping(payload.to_vec()),
        OpCode::Data(_) if header.rsv1 => Received::Compressed,
        OpCode::Data(Data::Text) => match (after(b"/items/", payload), after(b"\"seq\":", payload))
        {
            (Some(item), Some(number)) => Received::Update(item as usize, number),
            _ => Received::Text(String::from_utf8_lossy(payload).into_owned()),
        },
        _ => Received::Other,
    }
}

/// The number behind a word near the beginning of an update; parsing all of its JSON would slow the generator, not the server.
fn after(word: &[u8], payload: &[u8]) -> Option<u64> {
    let head = &payload[..payload.len().min(200)];
    let begin = head.windows(word.len()).position(|window| window == word)? + word.len();
    let digits = head[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&head[begin..begin + digits]).ok()?.parse().ok()
}
