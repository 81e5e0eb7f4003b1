//! The life of one client's connection.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Worker;
use super::ended::Ended;
use super::speech::{service, service_of_streams};
use crate::callers::Listed;
use crate::connections::Slot;
use crate::downstream::{Downstream, Patience, Silence, Silent, Speaks};
use crate::gateway::Peer;
use crate::proxy_protocol::{self, Source};
use crate::streams::Streams;
use crate::tls::Identity;
use crate::transport::Transport;

/// How long a connection that was just accepted may take to say something once a drain begins:
/// what its client has sent is on its way, and is not to be thrown back at it.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How TLS begins: with the type of its first record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// What a client is told that does not begin so. hyper has no part in it: that no request is
/// acted on here is plain to see.
const SPEAK_TLS: &str = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
    Content-Type: application/problem+json\r\nContent-Length: 99\r\n\r\n\
    {\"type\":\"about:blank\",\"status\":400,\"code\":\"bad_request\",\"detail\":\"this port speaks TLS: use https\"}";
/// How much of it is read: a usual request, of 4 KiB each time.
const MOST_READS_IN_THE_CLEAR: usize = 16;
/// A usual PROXY header and a small request, so that they cost one read.
const PROXY_READ: usize = 1024;

/// A client with whom nothing stands before HTTP any more.
pub(super) struct Met {
    stream: Downstream,
    peer: Rc<Peer>,
    _listed: Listed,
}

impl Worker {
    /// Hears from a trusted proxy for whom it forwards, and puts what it sent after that in `ahead`.
    async fn introduce(
        &self,
        stream: &mut TcpStream,
        ahead: &mut BytesMut,
        slot: &mut Slot,
        proxy: Peer,
        listed: &Listed,
    ) -> Result<Peer, Ended> {
        ahead.reserve(PROXY_READ);
        match proxy_protocol::read(stream, ahead).await? {
            Source::Client(client) => {
                let front = self.front();
                let gate = &front.settings.gate;
                let peer = Peer::new(client, gate);
                slot.move_to(peer.ip(), peer.is_trusted_by(gate)).map_err(|_| Ended::Crowded)?;
                listed.move_to(peer.ip());
                Ok(peer)
            }
            // Whose headers these are nobody can tell.
            Source::Unknown => Ok(proxy.untrusted()),
        }
    }

    /// How long a new connection may take for what, whether it begins with a PROXY header, and what
    /// its client is shown. What holds now is not kept for as long as the connection lasts.
    fn receives(&self, peer: &Peer) -> (Patience, bool, Option<Arc<Identity>>) {
        let settings = &self.front().settings;
        let options = &settings.options.gateway;
        let patience = Patience {
            head: options.header_read,
            rest: options.rest_after,
            untaken: options.request_idle,
        };
        let proxied = settings.options.gate.proxy_protocol && peer.is_trusted_by(&settings.gate);
        (patience, proxied, settings.identity.clone())
    }

    /// All that comes before HTTP. None when it will not come to that.
    pub(super) async fn meet(
        self: Rc<Self>,
        mut stream: TcpStream,
        mut slot: Slot,
        mut peer: Peer,
        listed: Listed,
    ) -> Result<Option<Met>, Ended> {
        let (patience, introduced, identity) = self.receives(&peer);
        let mut ahead = BytesMut::new();
        if introduced {
            let words = self.introduce(&mut stream, &mut ahead, &mut slot, peer, &listed);
            let mut words = Box::pin(tokio::time::timeout(patience.head, words));
            peer = match self.until_drain(words.as_mut()).await {
                Some(heard) => heard.map_err(|_| Ended::Silent)??,
                None => return Ok(None),
            };
        }
        let (transport, ahead) = match identity {
            None => (stream.into(), ahead.freeze()),
            Some(identity) => {
                let agreeing = secure(stream, &ahead, &identity);
                let mut agreeing = Box::pin(tokio::time::timeout(patience.head, agreeing));
                peer = peer.over_tls();
                match self.until_last_word(agreeing.as_mut()).await {
                    Some(agreed) => (agreed.map_err(|_| Ended::Silent)??, Bytes::new()),
                    None => return Ok(None),
                }
            }
        };
        let stream = Downstream::new(transport, ahead, slot, patience);
        let peer = Rc::new(peer.on(&stream));
        Ok(Some(Met { stream, peer, _listed: listed }))
    }

    /// `met` is in a box, so that nothing of how it began is kept for as long as the connection
    /// lasts.
    pub(super) async fn converse(
        &self,
        met: Pin<Box<impl Future<Output = Result<Option<Met>, Ended>>>>,
    ) -> Result<(), Ended> {
        let Some(Met { mut stream, peer, _listed }) = met.await? else { return Ok(()) };
        let mut begun = false;
        loop {
            let heard = {
                let head = stream.patience().head;
                let first_bytes = tokio::time::timeout(head, stream.listen());
                let mut first_bytes = std::pin::pin!(first_bytes);
                match begun {
                    true => self.until_drain(first_bytes.as_mut()).await,
                    false => self.until_last_word(first_bytes.as_mut()).await,
                }
            };
            let Some(Ok(heard)) = heard else {
                stream.say_goodbye();
                return heard.map_or(Ok(()), |_| Err(Ended::Silent));
            };
            match heard? {
                None => return Ok(()),
                Some(Speaks::Http2) if !begun => {
                    return Box::pin(self.speak_http2(stream, peer)).await;
                }
                Some(Speaks::Http1 | Speaks::Http2) => begun = true,
            }
            // In a box of its own, so that an idle connection does not keep the room for it.
            match Box::pin(self.speak_http1(stream, Rc::clone(&peer))).await? {
                Some(idle) => stream = idle,
                None => return Ok(()),
            }
        }
    }

    /// Carries on until the end, or until the drain: then what a client has sent so far has been
    /// read, so that a request that lay in the socket is one that is under way.
    async fn until_drain<F: Future>(&self, mut work: Pin<&mut F>) -> Option<F::Output> {
        tokio::select! {
            biased;
            ended = work.as_mut() => return Some(ended),
            () = self.drain.cancelled() => (),
        }
        tokio::select! {
            biased;
            ended = work => Some(ended),
            // Comes back after the runtime has looked at its sockets.
            () = tokio::task::yield_now() => None,
        }
    }

    /// The same for what a client says first: it has a moment more to say it.
    async fn until_last_word<F: Future>(&self, mut work: Pin<&mut F>) -> Option<F::Output> {
        match self.until_drain(work.as_mut()).await {
            Some(heard) => Some(heard),
            None => tokio::time::timeout(LAST_WORD, work).await.ok(),
        }
    }

    /// Returns the stream when nothing has been asked for a while.
    async fn speak_http1(
        &self,
        stream: Downstream,
        peer: Rc<Peer>,
    ) -> Result<Option<Downstream>, Ended> {
        let (rest, heads, mut silence) = (stream.rest(), stream.heads(), Silence::new(&stream));
        let service = service(Rc::clone(&self.gateway), peer);
        let connection = self.front().http1.serve_connection(stream, service);
        let mut connection = connection.with_upgrades();
        let mut drain = std::pin::pin!(self.drain.cancelled());
        let mut looked = std::pin::pin!(tokio::task::yield_now());
        let (mut registered, mut resting, mut draining, mut last) = (false, false, false, false);
        std::future::poll_fn(|cx| {
            // Asking a token takes a lock, so it is asked only when it has been cancelled.
            if !draining && (!registered || self.draining.get()) {
                registered = true;
                draining = drain.as_mut().poll(cx).is_ready();
            }
            let mut polled = heads.turn(|| Pin::new(&mut connection).poll(cx));
            // As in `until_drain`: a request that lies in the socket is under way. One that has been
            // read is told at once that it is the last.
            if draining
                && !last
                && polled.is_pending()
                && (rest.is_answering() || looked.as_mut().poll(cx).is_ready())
            {
                last = true;
                rest.keep_open(false);
                Pin::new(&mut connection).graceful_shutdown();
                polled = Pin::new(&mut connection).poll(cx);
            }
            if polled.is_ready() {
                return polled.map_err(Ended::Http);
            }
            if let Silent::TooLong = ready!(silence.judge(draining || resting, cx)) {
                return Poll::Ready(Err(Ended::Silent));
            }
            // An idle connection ends at once. Were it not idle, it would end after its answer.
            resting = true;
            rest.keep_open(true);
            Pin::new(&mut connection).graceful_shutdown();
            Pin::new(&mut connection).poll(cx).map_err(Ended::Http)
        })
        .await?;
        if !resting || draining {
            return Ok(None);
        }
        Ok(connection.into_parts().map(|parts| parts.io.begin_again(&parts.read_buf)))
    }

    async fn speak_http2(&self, stream: Downstream, peer: Rc<Peer>) -> Result<(), Ended> {
        let (header_read, request_idle) = {
            let options = &self.front().settings.options.gateway;
            (options.header_read, options.request_idle)
        };
        let streams = Streams::new();
        let service = service_of_streams(Rc::clone(&self.gateway), peer, Rc::clone(&streams));
        let connection = self.front().http2.serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            ended = self.until_drain(connection.as_mut()) => if let Some(ended) = ended {
                return ended.map_err(Ended::Http);
            },
            () = streams.idle_for(header_read) => (),
        }
        connection.as_mut().graceful_shutdown();
        streams.wait_again();
        tokio::select! {
            biased;
            ended = connection.as_mut() => ended.map_err(Ended::Http),
            // What it has asked for it has been given; it need not say goodbye as well.
            () = streams.idle_for(request_idle) => Err(Ended::Silent),
        }
    }
}

/// Agrees on keys with a client that has sent `ahead` so far, or tells it to.
async fn secure(
    mut stream: TcpStream,
    ahead: &[u8],
    identity: &Identity,
) -> Result<Transport, Ended> {
    let mut first = [0];
    let count = match ahead.first() {
        Some(byte) => {
            first = [*byte];
            1
        }
        None => stream.peek(&mut first).await?,
    };
    if count == 0 {
        return Err(Ended::Left);
    }
    if first == [HANDSHAKE] {
        return Transport::accept(stream, ahead, identity.config()).await.map_err(Ended::Handshake);
    }
    // Unread, what it sent would have the answer thrown away with it.
    let mut sent = [0; 4096];
    for _ in 0..MOST_READS_IN_THE_CLEAR {
        if !stream.try_read(&mut sent).is_ok_and(|count| count == sent.len()) {
            break;
        }
    }
    stream.write_all(SPEAK_TLS.as_bytes()).await?;
    stream.shutdown().await?;
    Err(Ended::InTheClear)
}

#[cfg(test)]
mod tests {
    use super::SPEAK_TLS;

    #[test]
    fn what_is_said_in_the_clear_has_the_length_that_it_says() {
        let (head, body) = SPEAK_TLS.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{}", body.len());
    }
}
