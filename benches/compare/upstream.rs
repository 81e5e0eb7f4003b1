//! The REST API behind the servers, as light as it can be: it keeps what was PUT and answers GET with it, 1 KB at first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// No load names more items.
const ITEMS: usize = 20_000;
/// A GET of a path that begins so is answered with a body of this size.
pub(crate) const LARGE: (&str, usize) = ("/large", 10_000_000);
/// A GET of this path is answered with a list of so many items.
pub(crate) const LIST: (&str, usize) = ("/list", 1000);

/// Whole answers, by path.
type Answers = Rc<RefCell<HashMap<String, Bytes>>>;

pub(crate) fn run() -> io::Result<()> {
    end_with_parent();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        announce(listener.local_addr()?)?;
        let answers = Answers::default();
        let large = ok(&vec![b'x'; LARGE.1]);
        answers.borrow_mut().insert(LARGE.0.to_owned(), large);
        answers.borrow_mut().insert(LIST.0.to_owned(), ok(list(LIST.1).as_bytes()));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answers = answers.clone();
            tokio::task::spawn_local(async move {
                // The proxy closed its connection, which it may at any time.
                connection(stream, &answers).await.ok();
            });
        }
    })
}

/// Tells the parent where this child listens.
pub(crate) fn announce(address: SocketAddr) -> io::Result<()> {
    writeln!(io::stdout(), "{address}")
}

/// Ends this child when its parent is gone, however that ended.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        io::copy(&mut io::stdin(), &mut io::sink()).ok();
        std::process::exit(0);
    });
}

/// A JSON object of 1 KB that carries its number first.
pub(crate) fn item(number: u64) -> String {
    let head = format!("{{\"seq\":{number},\"text\":\"");
    format!("{head}{}\"}}", "x".repeat(1024 - head.len() - 2))
}

/// A JSON array of items of 170 bytes, no two of them alike.
fn list(count: usize) -> String {
    let items = (0..count).map(|number| {
        let price = number * 7919 % 10_007;
        format!(
            "{{\"id\":{number},\"title\":\"Item number {number}\",\"done\":{},\"price\":{price}.5,\"owner\":\"user-{}\",\"tags\":[\"red\",\"large\"],\"changed\":\"2026-11-{:02}T10:{:02}:00Z\",\"links\":[\"/items/{number}\"]}}",
            number % 3 == 0,
            price % 97,
            price % 28 + 1,
            price % 60,
        )
    });
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

async fn connection(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(8192);
    loop {
        while let Some(request) = Request::take(&mut buffer)? {
            stream.write_all(&answer(&request, answers)).await?;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

struct Request {
    method: String,
    path: String,
    body: Bytes,
}

impl Request {
    /// The first request of the buffer, once all of it is there.
    fn take(buffer: &mut BytesMut) -> io::Result<Option<Self>> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Request::new(&mut fields);
        let httparse::Status::Complete(length) = head.parse(buffer).map_err(io::Error::other)?
        else {
            return Ok(None);
        };
        let body = content_length(head.headers)?;
        let method = head.method.unwrap_or_default().to_owned();
        let path = head.path.unwrap_or_default().to_owned();
        if buffer.len() < length + body {
            return Ok(None);
        }
        let body = buffer.split_to(length + body).freeze().slice(length..);
        Ok(Some(Self { method, path, body }))
    }
}

/// The length of a message; none of ours has chunks.
pub(crate) fn content_length(fields: &[httparse::Header<'_>]) -> io::Result<usize> {
    let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let Some(field) = field else { return Ok(0) };
    let text = str::from_utf8(field.value).map_err(io::Error::other)?;
    text.parse().map_err(io::Error::other)
}

fn answer(request: &Request, answers: &Answers) -> Bytes {
    match request.method.as_str() {
        "PUT" => {
            let mut answers = answers.borrow_mut();
            if answers.len() < ITEMS {
                answers.insert(request.path.clone(), ok(&request.body));
            }
            Bytes::from_static(b"HTTP/1.1 204 No Content\r\n\r\n")
        }
        "POST" => Bytes::from_static(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"),
        _ => {
            let kept = answers.borrow().get(&request.path).cloned();
            kept.unwrap_or_else(|| {
                let fresh = ok(item(0).as_bytes());
                answers.borrow_mut().insert(request.path.clone(), fresh.clone());
                fresh
            })
        }
    }
}

fn ok(body: &[u8]) -> Bytes {
    let mut answer = BytesMut::from(
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .as_bytes(),
    );
    answer.extend_from_slice(body);
    answer.freeze()
}
