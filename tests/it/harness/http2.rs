use std::net::SocketAddr;
use std::thread::JoinHandle;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::PATIENCE;

/// A client that speaks HTTP/2 with prior knowledge. Its connection is driven by a thread of its
/// own, and ends when the client is dropped.
pub struct Http2 {
    sender: SendRequest<Full<Bytes>>,
}

/// An answer and the trailers after it.
pub type Answer = (Response<Bytes>, Option<HeaderMap>);

impl Http2 {
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_after(address, b"")
    }

    /// The same, after other bytes.
    pub fn connect_after(address: SocketAddr, before: &[u8]) -> Self {
        let before = before.to_vec();
        let (ready, connected) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            runtime().block_on(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(&before).await.unwrap();
                let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
                let (sender, connection) = handshake.await.unwrap();
                ready.send(sender).unwrap();
                connection.await
            })
        });
        Self { sender: connected.recv_timeout(PATIENCE).expect("a connection") }
    }

    /// Sends a request; the answer comes to whoever joins.
    pub fn ask(&self, request: Request<Full<Bytes>>) -> JoinHandle<hyper::Result<Answer>> {
        let mut sender = self.sender.clone();
        std::thread::spawn(move || {
            let answering = async {
                let (head, body) = sender.send_request(request).await?.into_parts();
                let body = body.collect().await?;
                let trailers = body.trailers().cloned();
                Ok((Response::from_parts(head, body.to_bytes()), trailers))
            };
            let patiently = async { tokio::time::timeout(PATIENCE, answering).await };
            runtime().block_on(patiently).expect("an answer in time")
        })
    }

    /// Sends a request and gives it up when the returned sender is dropped.
    pub fn ask_in_vain(&self, request: Request<Full<Bytes>>) -> oneshot::Sender<()> {
        let mut sender = self.sender.clone();
        let (give_up, given_up) = oneshot::channel();
        std::thread::spawn(move || {
            runtime().block_on(async move {
                tokio::select! {
                    _ = sender.send_request(request) => (),
                    _ = given_up => (),
                }
            });
        });
        give_up
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
