use std::net::{SocketAddr, TcpListener};

use super::{Message, PATIENCE, Wire};

/// An address at which nobody listens, and which nobody else is given.
pub struct Nowhere(socket2::Socket);

impl Nowhere {
    pub fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }

    /// From now on, until it is dropped, somebody does.
    pub fn listen(self) -> TcpListener {
        self.0.listen(16).unwrap();
        self.0.into()
    }
}

/// An API that does what the test says, byte by byte.
pub struct Upstream {
    listener: TcpListener,
}

impl Upstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).unwrap();
        Self { listener }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection that Pogo opens.
    pub fn accept(&self) -> Wire {
        let (stream, _) = self.listener.accept().expect("Pogo opens a connection");
        Wire::new(stream)
    }

    /// The first request of the next connection.
    pub fn request(&self) -> (Wire, Message) {
        let mut wire = self.accept();
        let request = wire.message();
        (wire, request)
    }

    /// Asserts that no connection was opened that has not been accepted yet.
    pub fn assert_untouched(&self) {
        self.listener.set_nonblocking(true).unwrap();
        let accepted = self.listener.accept();
        self.listener.set_nonblocking(false).unwrap();
        assert!(accepted.is_err(), "Pogo opened a connection");
    }
}
