use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::reference::{Read, Reading, Request, read};

/// An API that answers each request with what it was, and writes down all of them.
pub struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
pub struct Seen {
    pub requests: Vec<Request>,
    /// What was no request, with the bytes.
    pub nonsense: Vec<String>,
}

impl Recorder {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let recording = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&recording);
                std::thread::spawn(move || record(stream, &seen));
            }
        });
        Self { address, seen }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn record(mut stream: TcpStream, seen: &Mutex<Seen>) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match read(&bytes, Reading::Strict) {
            Read::Whole { request, length } => {
                let name = format!("{} {}", request.method, request.target);
                bytes.drain(..length);
                let bodiless = request.method == "HEAD";
                seen.lock().unwrap().requests.push(request);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Name: {name}\r\n\r\n",
                    name.len()
                );
                let answer = if bodiless { head } else { head + &name };
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Read::No(why) => {
                let shown = String::from_utf8_lossy(&bytes).into_owned();
                seen.lock().unwrap().nonsense.push(format!("{why}: {shown:?}"));
                return;
            }
            Read::Part => match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            },
        }
    }
}
