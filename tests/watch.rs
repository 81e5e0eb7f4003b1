//! `pogo watch` against a scripted server: what it sends, what it prints and how it ends.

#![allow(clippy::unwrap_used, reason = "a test fails by its panics")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept_hdr};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that is told by the test what to do next.
struct Server(TcpListener);

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // `accept` gives up too, when the program never comes.
        socket2::SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).unwrap();
        Self(listener)
    }

    fn url(&self) -> String {
        format!("ws://{}/live", self.0.local_addr().unwrap())
    }

    fn accept(&self) -> TcpStream {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn socket(&self) -> Socket {
        let mut authorization = None;
        #[expect(clippy::result_large_err, reason = "tungstenite's callback decides the type")]
        let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            assert_eq!(request.uri().path(), "/live");
            let value = request.headers().get("authorization");
            authorization = value.map(|value| value.to_str().unwrap().to_owned());
            Ok(response)
        };
        let socket = accept_hdr(self.accept(), note).unwrap();
        Socket { socket, authorization }
    }

    /// Answers one handshake with a plain HTTP response.
    fn answer(&self, response: &str) {
        let mut stream = self.accept();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        stream.write_all(response.as_bytes()).unwrap();
    }
}

struct Socket {
    socket: WebSocket<TcpStream>,
    authorization: Option<String>,
}

impl Socket {
    #[track_caller]
    fn expect(&mut self, message: &Value) {
        let text = self.socket.read().unwrap().into_text().unwrap();
        assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), message);
    }

    fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.socket.close(Some(frame)).unwrap();
        while self.socket.read().is_ok() {}
    }
}

/// A running `pogo watch`, killed if the test gives up on it.
struct Watch {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Watch {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let url = server.url();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pogo"))
            .args(["watch", "/posts/1", "--url", &url])
            .args(arguments)
            .env_remove("POGO_TOKEN")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    #[track_caller]
    fn printed(&self, line: &str) {
        assert_eq!(self.out.recv_timeout(PATIENCE).unwrap(), line);
    }

    #[track_caller]
    fn complained(&self, of: &str) {
        let line = self.err.recv_timeout(PATIENCE).unwrap();
        assert!(line.contains(of), "{line:?} does not contain {of:?}");
    }

    /// It prints nothing more and ends.
    #[track_caller]
    fn ends_with(mut self, code: i32) {
        assert_eq!(self.out.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
        assert_eq!(self.child.wait().unwrap().code(), Some(code));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, received) = sync_channel(1024);
    let lines = BufReader::new(from).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
    received
}

fn bind(version: &Value) -> Value {
    json!({"id": 2, "event": "bind", "uri": "/posts/1", "version": version})
}

#[test]
fn every_event_is_one_line_as_it_came() {
    let server = Server::start();
    let watch = Watch::start(&server, &[]);
    let mut socket = server.socket();
    assert_eq!(socket.authorization, None);
    socket.expect(&bind(&Value::Null));
    let answer = r#"{"id":2,"status":"ok","version":"a","data":{"z":1,"a":1.50}}"#;
    socket.send(answer);
    watch.printed(answer);
    socket.send("{\n  \"event\": \"update\",\r\n  \"uri\": \"/posts/1\"\n}");
    watch.printed("{   \"event\": \"update\",    \"uri\": \"/posts/1\" }");
    socket.send(r#"{"event":"unbind","uri":"/posts/1","reason":"forbidden"}"#);
    watch.printed(r#"{"event":"unbind","uri":"/posts/1","reason":"forbidden"}"#);
    watch.complained("the binding ended: forbidden");
    watch.ends_with(1);
}

#[test]
fn a_lost_connection_resumes_with_the_last_version() {
    let server = Server::start();
    let watch = Watch::start(&server, &[]);
    let mut socket = server.socket();
    socket.expect(&bind(&Value::Null));
    socket.send(r#"{"id":2,"status":"ok","version":"a","data":1}"#);
    watch.printed(r#"{"id":2,"status":"ok","version":"a","data":1}"#);
    socket.send(r#"{"event":"update","uri":"/posts/1","version":"b","data":2}"#);
    watch.printed(r#"{"event":"update","uri":"/posts/1","version":"b","data":2}"#);
    drop(socket);
    watch.complained("the connection is lost");

    // What is unchanged is not printed again.
    let mut socket = server.socket();
    socket.expect(&bind(&json!("b")));
    socket.send(r#"{"id":2,"status":"ok","version":"b"}"#);
    socket.close(1001, "going away; retry_after=1");
    watch.complained("1001 going away; retry_after=1; again in 1.0 s");

    server.answer("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    watch.complained("the server answered 503");
    let mut socket = server.socket();
    socket.expect(&bind(&json!("b")));
    socket
        .send(r#"{"id":2,"status":"error","error":{"code":"upstream_timeout","message":"slow"}}"#);
    watch.complained("refused: upstream_timeout: slow; again in");
    let mut socket = server.socket();
    socket.send(r#"{"id":2,"status":"error","error":{"code":"forbidden","message":"not yours"}}"#);
    watch.complained("refused: forbidden: not yours");
    watch.ends_with(1);
}

#[test]
fn a_token_comes_before_the_bind() {
    let server = Server::start();
    let watch = Watch::start(&server, &["--token", "t0k3n"]);
    let mut socket = server.socket();
    assert_eq!(socket.authorization.as_deref(), Some("Bearer t0k3n"));
    socket.expect(&json!({"id": 1, "event": "auth", "data": {"token": "t0k3n"}}));
    socket.expect(&bind(&Value::Null));
    socket.send(r#"{"id":1,"status":"error","error":{"code":"unauthorized","message":"bad"}}"#);
    watch.complained("refused: unauthorized: bad");
    watch.ends_with(1);
}

#[test]
fn a_refused_handshake_ends_the_program() {
    let server = Server::start();
    let watch = Watch::start(&server, &[]);
    server.answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\nbanned");
    watch.complained("the server answered 403 Forbidden");
    watch.ends_with(1);
}

#[test]
fn a_close_that_would_come_again_ends_the_program() {
    let server = Server::start();
    let watch = Watch::start(&server, &[]);
    let mut socket = server.socket();
    socket.expect(&bind(&Value::Null));
    socket.close(4401, "token expired");
    watch.complained("4401 token expired");
    watch.ends_with(1);
}

#[test]
fn wrong_arguments_end_with_64() {
    for (arguments, message) in [
        (&["watch", "posts"][..], "URI: found \"posts\", expected a path such as /posts\n"),
        (
            &["watch", "/posts", "--url", "http://a"],
            "--url: found \"http://a\", expected a URL such as ws://127.0.0.1:8080/\n",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_pogo")).args(arguments).output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), message);
        assert_eq!(output.status.code(), Some(64));
    }
}
