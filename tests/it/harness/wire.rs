use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;

/// One end of a TCP connection that speaks HTTP/1 by hand.
pub struct Wire {
    stream: TcpStream,
    /// Read from the socket and not yet by the test.
    ahead: Vec<u8>,
    /// The method of the request that is answered next, for the framing of its answer.
    answers_head: bool,
}

/// A message as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub start: String,
    /// Names as they were written.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Message {
    /// Every value of a field, whatever the case of its name.
    pub fn all(&self, name: &str) -> Vec<String> {
        let same = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        same.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The only value of a field.
    pub fn one(&self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        assert!(all.len() < 2, "{name} is there more than once: {all:?}");
        all.pop()
    }

    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// Asserts that this is a problem that Pogo itself reports, without internals.
    pub fn assert_problem(&self, status: u16) {
        assert_eq!(self.status(), status, "{self:?}");
        assert_eq!(self.one("content-type").as_deref(), Some("application/problem+json"));
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].is_string() && problem["code"].is_string());
        for internal in ["hyper", "Error(", "os error", "tokio"] {
            assert!(!self.text().contains(internal), "{}", self.text());
        }
    }
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, ahead: Vec::new(), answers_head: false }
    }

    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&address, PATIENCE).expect("a connection"))
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The bare connection, of which nothing was read.
    pub fn into_stream(self) -> TcpStream {
        assert!(self.ahead.is_empty());
        self.stream
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.answers_head = bytes.starts_with(b"HEAD ");
        self.stream.write_all(bytes).expect("the other side takes bytes");
    }

    /// Sends as far as the other side still listens.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// A complete small answer.
    pub fn respond(&mut self, body: &str) {
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    }

    /// No more from this side; the other may have left already.
    pub fn finish(&self) {
        if let Err(error) = self.stream.shutdown(Shutdown::Write) {
            assert_eq!(error.kind(), ErrorKind::NotConnected);
        }
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// Whether the head of an answer has come; does not wait.
    pub fn has_answer(&mut self) -> bool {
        let mut bytes = [0; 4096];
        self.stream.set_nonblocking(true).unwrap();
        if let Ok(count) = self.stream.read(&mut bytes) {
            assert_ne!(count, 0, "the connection ended without an answer");
            self.ahead.extend_from_slice(&bytes[..count]);
        }
        self.stream.set_nonblocking(false).unwrap();
        self.ahead.windows(4).any(|window| window == b"\r\n\r\n")
    }

    /// Whether there is something to read, or the other side has ended; does not wait.
    pub fn has_more(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !self.ahead.is_empty() || peeked.is_ok()
    }

    /// Whether an answer begins to come before the other side ends.
    pub fn is_answered(&mut self) -> bool {
        self.read_more()
    }

    /// The head of the next message.
    pub fn head(&mut self) -> Message {
        let head = self.until(b"\r\n\r\n");
        let head = String::from_utf8_lossy(&head[..head.len() - 4]).into_owned();
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap().to_owned();
        let headers = lines.map(field).collect();
        Message { start, headers, body: Vec::new(), trailers: Vec::new() }
    }

    /// The next message, whole.
    pub fn message(&mut self) -> Message {
        let mut message = self.head();
        let answer = message.start.starts_with("HTTP/");
        let bodiless =
            answer && (self.answers_head || matches!(message.status(), 100..=199 | 204 | 304));
        if bodiless {
            return message;
        }
        if let Some(coding) = message.one("transfer-encoding") {
            assert_eq!(coding, "chunked");
            while let Some(chunk) = self.chunk() {
                message.body.extend(chunk);
            }
            message.trailers = self.trailers();
        } else if let Some(length) = message.one("content-length") {
            message.body = self.exactly(length.parse().unwrap());
        } else if answer {
            message.body = self.rest();
        }
        message
    }

    /// The next chunk of a chunked body; none is the last, of no bytes.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.until(b"\r\n");
        let size = std::str::from_utf8(&size).unwrap().trim_end();
        let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
        if size == 0 {
            return None;
        }
        let chunk = self.exactly(size);
        assert_eq!(self.exactly(2), b"\r\n");
        Some(chunk)
    }

    pub fn trailers(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut trailers = Vec::new();
        loop {
            let line = self.until(b"\r\n");
            if line == b"\r\n" {
                return trailers;
            }
            trailers.push(field(&String::from_utf8_lossy(&line[..line.len() - 2])));
        }
    }

    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            assert!(self.read_more(), "ended before {count} bytes: {}", self.seen());
        }
        self.ahead.drain(..count).collect()
    }

    /// The next head as it stands, or all there is if the other side ends amid it.
    pub fn rest_or_head(&mut self) -> String {
        let ended = |ahead: &[u8]| ahead.windows(4).any(|window| window == b"\r\n\r\n");
        while !ended(&self.ahead) && self.read_more() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.ahead)).into_owned()
    }

    /// As many bytes, or fewer if the other side ends before.
    pub fn up_to(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count && self.read_more() {}
        let count = count.min(self.ahead.len());
        self.ahead.drain(..count).collect()
    }

    /// Everything up to and with `mark`.
    pub fn until(&mut self, mark: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.ahead.windows(mark.len()).position(|window| window == mark) {
                return self.ahead.drain(..at + mark.len()).collect();
            }
            assert!(self.read_more(), "ended too early: {:?}", self.seen());
        }
    }

    /// Everything until the other side ends, however it does.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.read_more() {}
        std::mem::take(&mut self.ahead)
    }

    /// Asserts that the other side ends the connection, having sent nothing more.
    pub fn assert_closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "not closed but sent {:?}", String::from_utf8_lossy(&rest));
    }

    /// Asserts that nothing has come so far and that the other side has not ended.
    pub fn assert_quiet(&mut self) {
        assert!(self.ahead.is_empty(), "{}", self.seen());
        self.stream.set_nonblocking(true).unwrap();
        let read = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        assert_eq!(read.expect_err("nothing to read").kind(), ErrorKind::WouldBlock);
    }

    /// Reads once; false at the end.
    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.ahead.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing more came within {PATIENCE:?}; so far: {}", self.seen())
            }
            Err(_) => false,
        }
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.ahead).into_owned()
    }
}

fn field(line: &str) -> (String, Vec<u8>) {
    let (name, value) = line.split_once(':').expect("a field");
    (name.to_owned(), value.trim().as_bytes().to_vec())
}
