use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};

use pogo::protocol::Format;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::{PATIENCE, Pogo, format};

/// A WebSocket client that keeps the events it was sent while it waited for something else.
pub struct Socket {
    socket: WebSocket<TcpStream>,
    format: Format,
    next_id: u64,
    events: Vec<Value>,
    /// Every message as it came, for what may stand in none.
    pub texts: Vec<String>,
}

impl Socket {
    pub fn open(pogo: &Pogo) -> Self {
        Self::open_with(pogo, &[])
    }

    pub fn open_as(pogo: &Pogo, token: &str) -> Self {
        Self::open_with(pogo, &[("authorization", &format!("Bearer {token}"))])
    }

    pub fn open_in(pogo: &Pogo, format: Format, token: &str) -> Self {
        let credential = format!("Bearer {token}");
        let subprotocol = ("sec-websocket-protocol", format.subprotocol());
        Self::open_with(pogo, &[subprotocol, ("authorization", &credential)])
    }

    pub fn open_with(pogo: &Pogo, headers: &[(&str, &str)]) -> Self {
        Self::try_open(pogo.address(), "/", headers).expect("the handshake succeeds")
    }

    /// The status that the handshake was answered with, when it was not 101.
    pub fn try_open(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, u16> {
        Self::try_open_on(TcpStream::connect(address).unwrap(), path, headers)
    }

    /// The same, on a connection on which something may have been sent already.
    pub fn try_open_on(
        stream: TcpStream,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, u16> {
        let address = stream.peer_addr().unwrap();
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        if let Some(format) = format::spoken() {
            let fields = request.headers_mut().entry("sec-websocket-protocol");
            fields.or_insert(format.subprotocol().parse().unwrap());
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        match tungstenite::client(request, stream) {
            Ok((socket, answer)) => {
                let chosen = answer.headers().get("sec-websocket-protocol");
                let is_chosen = |format: &Format| {
                    chosen.is_some_and(|name| name.as_bytes() == format.subprotocol().as_bytes())
                };
                let format = Format::ALL.into_iter().find(is_chosen).unwrap_or_default();
                Ok(Self { socket, format, next_id: 0, events: Vec::new(), texts: Vec::new() })
            }
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                Err(answer.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A socket of `client`, behind a proxy that sends a PROXY header.
    pub fn open_for(pogo: &Pogo, client: &str) -> Self {
        Self::try_open_on(pogo.connect_for(client).into_stream(), "/", &[]).expect("a socket")
    }

    /// Where the client is connected from.
    pub fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    /// Has the kernel keep little of what is not read; less still, and it would wait for its timers.
    pub fn listen_little(&self) {
        socket2::SockRef::from(self.stream()).set_recv_buffer_size(256 << 10).unwrap();
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn send(&mut self, message: &Value) {
        self.socket.send(format::encode(message, self.format)).unwrap();
    }

    /// The text as it stands, if the socket speaks JSON with keys in full; what is not JSON is
    /// sent as a string by those that cannot say it otherwise.
    pub fn send_text(&mut self, text: &str) {
        match serde_json::from_str(text) {
            Ok(message) if self.format != Format::Json => self.send(&message),
            Err(_) if self.format.is_binary() => self.send(&json!(text)),
            _ => self.send_raw(Message::text(text)),
        }
    }

    pub fn send_raw(&mut self, message: Message) {
        self.socket.send(message).unwrap();
    }

    /// Bytes as they stand, in whatever framing.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).unwrap();
    }

    /// Sends as far as the other side still reads.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.socket.get_mut().write_all(bytes).is_ok()
    }

    /// Starts to close, as a client that has had enough.
    pub fn close(&mut self) {
        self.socket.close(None).unwrap();
    }

    /// One frame: its first byte (FIN and opcode) and its payload, masked.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.send_bytes(&frame(first, payload));
    }

    /// The next message of any kind.
    pub fn receive(&mut self) -> Value {
        self.try_receive().expect("a message comes")
    }

    fn try_receive(&mut self) -> Result<Value, tungstenite::Error> {
        loop {
            match self.socket.read()? {
                Message::Ping(_) | Message::Pong(_) => {}
                message => {
                    let (value, text) = format::decode(&message, self.format);
                    self.texts.push(text);
                    return Ok(value);
                }
            }
        }
    }

    /// Sends a request and gives its answer; events that come before are kept.
    pub fn ask(&mut self, mut message: Value) -> Value {
        self.next_id += 1;
        message["id"] = json!(self.next_id);
        self.send(&message);
        self.answer(self.next_id)
    }

    pub fn answer(&mut self, id: u64) -> Value {
        loop {
            let message = self.receive();
            if message["id"] == json!(id) {
                return message;
            }
            self.events.push(message);
        }
    }

    /// Asserts that a request is answered `ok`.
    pub fn must(&mut self, message: Value) -> Value {
        let answer = self.ask(message);
        assert_eq!(answer["status"], "ok", "{answer}");
        answer
    }

    /// The `code` of the error that a request is answered with.
    pub fn error(&mut self, message: Value) -> String {
        let answer = self.ask(message);
        assert_eq!(answer["status"], "error", "{answer}");
        answer["error"]["code"].as_str().expect("a code").to_owned()
    }

    /// Waits until everything that was written before has reached the views: a change of a view
    /// of its own has, and changes keep their order on a worker.
    pub fn see_through(&mut self, pogo: &Pogo) {
        self.next_id += 1;
        let uri = format!("/barrier/{}", self.next_id);
        self.bind(&uri);
        assert_eq!(pogo.write("PUT", &uri, &json!(self.next_id)), 200);
        let through = json!({"event": "update", "uri": uri, "data": self.next_id});
        let events = self.until(&through);
        self.events = events;
        self.must(json!({"event": "unbind", "uri": uri}));
    }

    pub fn bind(&mut self, uri: &str) {
        self.must(json!({"event": "bind", "uri": uri}));
    }

    /// The next event.
    pub fn event(&mut self) -> Value {
        if self.events.is_empty() { self.receive() } else { self.events.remove(0) }
    }

    /// The events that came while something else was waited for.
    pub fn take_events(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.events)
    }

    /// Reads events until one is `wanted`; gives those before it.
    pub fn until(&mut self, wanted: &Value) -> Vec<Value> {
        let mut before = Vec::new();
        loop {
            let event = self.event();
            if event == *wanted {
                return before;
            }
            before.push(event);
        }
    }

    /// Asserts that nothing was sent: a round trip through the same outbox brings no event.
    pub fn assert_silent(&mut self) {
        self.must(json!({"event": "ping"}));
        assert_eq!(self.events, Vec::<Value>::new());
    }

    /// The next frame, whatever it is.
    pub fn frame(&mut self) -> Message {
        self.socket.read().expect("a frame comes")
    }

    /// As [`Socket::close_frame`]; and then the connection ends.
    pub fn closed(&mut self) -> (u16, String) {
        let close = self.close_frame();
        self.assert_ended();
        close
    }

    /// Asserts that nothing but a close frame comes before the connection ends.
    pub fn assert_ended(&mut self) {
        match self.socket.read() {
            Ok(Message::Close(_)) => self.assert_ended(),
            Err(tungstenite::Error::Io(error)) => {
                let waits = [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind());
                assert!(!waits, "the connection stays open");
            }
            Err(_) => {}
            Ok(message) => panic!("not closed but sent {message:?}"),
        }
    }

    /// The code and reason of the close frame that comes after any number of messages.
    pub fn close_frame(&mut self) -> (u16, String) {
        loop {
            match self.socket.read() {
                Ok(Message::Close(Some(frame))) => {
                    return (CloseCode::into(frame.code), frame.reason.to_string());
                }
                Ok(Message::Close(None)) => panic!("closed without a code"),
                Ok(_) => {}
                Err(error) => panic!("ended without a close frame: {error}"),
            }
        }
    }
}

/// A client's frame (RFC 6455 §5.2).
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x1f, 0x2e, 0x3d, 0x4c];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
