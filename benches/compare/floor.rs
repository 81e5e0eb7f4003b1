//! The floor of a fan-out: the frames that Pogo sends, to as many sockets, written one by one by a plain loop on one thread. Nothing
//! is proxied, nothing is parsed that need not be; what it takes is the kernel's.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::upstream::{announce, content_length, end_with_parent};

/// The generator leaves no handshake half done for so long, and its writer idle no longer while the sockets are opened.
const PATIENCE: Duration = Duration::from_secs(60);

/// By URI.
type Sockets = Arc<Mutex<HashMap<String, Vec<TcpStream>>>>;

pub(crate) fn run() -> io::Result<()> {
    end_with_parent();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    announce(listener.local_addr()?)?;
    let sockets = Sockets::default();
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let message = Message::read(&mut stream)?;
        if let Some(key) = &message.key {
            let uri = open(&mut stream, key)?;
            let mut sockets = sockets.lock().unwrap_or_else(PoisonError::into_inner);
            sockets.entry(uri).or_default().push(stream);
        } else {
            let sockets = sockets.clone();
            // It ends with the generator's connection.
            thread::spawn(move || write_events(stream, message, &sockets));
        }
    }
}

/// Answers the handshake and the bind that follows it, and says what was bound.
fn open(stream: &mut TcpStream, key: &str) -> io::Result<String> {
    let accept = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut bind = vec![0; 1024];
    let length = stream.read(&mut bind)?;
    bind.truncate(length);
    unmask(&mut bind);
    let bind = String::from_utf8_lossy(&bind);
    let uri = bind.split('"').find(|part| part.starts_with('/'));
    let uri = uri.ok_or_else(|| io::Error::other("expected a bind"))?;
    stream.write_all(&text("{\"id\":1,\"status\":\"ok\"}")?)?;
    Ok(uri.to_owned())
}

/// A short frame of a client: two bytes, the mask, the text.
fn unmask(frame: &mut Vec<u8>) {
    let mask: Vec<u8> = frame.iter().skip(2).take(4).copied().collect();
    frame.drain(..frame.len().min(6));
    frame.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// Sends each body that is PUT to every socket of its URI.
fn write_events(mut stream: TcpStream, first: Message, sockets: &Sockets) -> io::Result<()> {
    let mut message = first;
    loop {
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        let body = String::from_utf8_lossy(&message.body);
        let uri = &message.uri;
        let frame = text(&format!("{{\"event\":\"update\",\"uri\":\"{uri}\",\"data\":{body}}}"))?;
        let mut sockets = sockets.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in sockets.entry(uri.clone()).or_default() {
            socket.write_all(&frame)?;
        }
        drop(sockets);
        message = Message::read(&mut stream)?;
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
    fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut buffer = vec![0; 4096];
        let mut filled = 0;
        loop {
            let read = stream.read(&mut buffer[filled..])?;
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
