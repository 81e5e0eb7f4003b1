//! The floor of a fan-out: the frames that Pogo sends, to as many sockets, written one by one by a plain loop on one thread. Nothing
//! is proxied, nothing is parsed that need not be; what it takes is the kernel's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{self, Ipv4Addr};
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::upstream::{announce, content_length, end_with_parent};

/// By URI. They block: a thread that does nothing else sends to each at once.
type Sockets = Rc<RefCell<HashMap<String, Vec<net::TcpStream>>>>;

pub(crate) fn run() -> io::Result<()> {
    end_with_parent();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        announce(listener.local_addr()?)?;
        let sockets = Sockets::default();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // It ends with the generator's connection.
            tokio::task::spawn_local(connection(stream, sockets.clone()));
        }
    })
}

async fn connection(mut stream: TcpStream, sockets: Sockets) -> io::Result<()> {
    let message = Message::read(&mut stream).await?;
    let Some(key) = &message.key else { return write_events(stream, message, &sockets).await };
    let uri = open(&mut stream, key).await?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    sockets.borrow_mut().entry(uri).or_default().push(stream);
    Ok(())
}

/// Answers the handshake and the bind that follows it, and says what was bound.
async fn open(stream: &mut TcpStream, key: &str) -> io::Result<String> {
    let accept = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut bind = vec![0; 1024];
    let length = stream.read(&mut bind).await?;
    bind.truncate(length);
    unmask(&mut bind);
    let bind = String::from_utf8_lossy(&bind);
    let uri = bind.split('"').find(|part| part.starts_with('/'));
    let uri = uri.ok_or_else(|| io::Error::other("expected a bind"))?.to_owned();
    stream.write_all(&text("{\"id\":1,\"status\":\"ok\"}")?).await?;
    Ok(uri)
}

/// A short frame of a client: two bytes, the mask, the text.
fn unmask(frame: &mut Vec<u8>) {
    let mask: Vec<u8> = frame.iter().skip(2).take(4).copied().collect();
    frame.drain(..frame.len().min(6));
    frame.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// Sends each body that is PUT to every socket of its URI.
async fn write_events(mut stream: TcpStream, first: Message, sockets: &Sockets) -> io::Result<()> {
    let mut message = first;
    loop {
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
        let body = String::from_utf8_lossy(&message.body);
        let uri = &message.uri;
        let frame = text(&format!("{{\"event\":\"update\",\"uri\":\"{uri}\",\"data\":{body}}}"))?;
        if let Some(sockets) = sockets.borrow_mut().get_mut(uri) {
            sockets.iter_mut().try_for_each(|socket| socket.write_all(&frame))?;
        }
        message = Message::read(&mut stream).await?;
    }
}

fn text(text: &str) -> io::Result<Vec<u8>> {
    let mut frame = Vec::new();
    let message = Frame::message(text.to_owned(), OpCode::Data(Data::Text), true);
    message.format(&mut frame).map_err(io::Error::other)?;
    Ok(frame)
}

/// A request; the generator sends none before the last was answered.
struct Message {
    uri: String,
    key: Option<String>,
    body: Vec<u8>,
}

impl Message {
    async fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut buffer = vec![0; 4096];
        let mut filled = 0;
        loop {
            let read = stream.read(&mut buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            let mut fields = [httparse::EMPTY_HEADER; 32];
            let mut head = httparse::Request::new(&mut fields);
            let parsed = head.parse(&buffer[..filled]).map_err(io::Error::other)?;
            let httparse::Status::Complete(length) = parsed else { continue };
            if filled < length + content_length(head.headers)? {
                continue;
            }
            let is_key = |name: &str| name.eq_ignore_ascii_case("sec-websocket-key");
            let key = head.headers.iter().find(|field| is_key(field.name));
            let key = key.map(|key| String::from_utf8_lossy(key.value).into_owned());
            let uri = head.path.unwrap_or_default().to_owned();
            return Ok(Self { uri, key, body: buffer[length..filled].to_vec() });
        }
    }
}
