//! A connection's bytes, plain or under TLS, for hyper, for tunnels and for sessions alike.
//!
//! Sessions neither wait nor keep what they could not write; they ask whether the socket is ready,
//! try, and are told that it would block. Under TLS the socket alone does not tell: bytes may be
//! decrypted already when nothing arrives any more, and bytes that were taken may not have been
//! sent. So here everything is made of what does not wait, and what waits is made of that.

use std::io::{self, BufRead, IoSlice, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Encrypted bytes that a connection holds while its socket takes none.
const UNSENT: usize = 64 * 1024;

#[derive(Debug)]
pub enum Transport {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

impl From<TcpStream> for Transport {
    fn from(tcp: TcpStream) -> Self {
        Self::Plain(tcp)
    }
}

impl Transport {
    /// Agrees on keys with a client, of which `ahead` has been read already.
    pub async fn accept(
        tcp: TcpStream,
        ahead: &[u8],
        config: Arc<ServerConfig>,
    ) -> io::Result<Self> {
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        Tls::new(tcp, session.into()).shake_hands(ahead).await
    }

    /// Agrees on keys with a server that proves to be `name`.
    pub async fn connect(
        tcp: TcpStream,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Tls::new(tcp, session.into()).shake_hands(&[]).await
    }

    /// Whether a read would find something, or the end.
    #[inline]
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_read_ready(cx),
            // What is decrypted waits for nobody.
            Self::Tls(tls) if !tls.session.wants_read() => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.tcp.poll_read_ready(cx),
        }
    }

    #[inline]
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => tcp.poll_write_ready(cx),
            Self::Tls(tls) => tls.tcp.poll_write_ready(cx),
        }
    }

    #[inline]
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_read(buf),
            Self::Tls(tls) => {
                let mut buf = ReadBuf::new(buf);
                tls.try_read(&mut buf)?;
                Ok(buf.filled().len())
            }
        }
    }

    #[inline]
    pub fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write(buf),
            Self::Tls(tls) => tls.try_write(|writer| writer.write(buf)),
        }
    }

    #[inline]
    pub fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write_vectored(bufs),
            Self::Tls(tls) => tls.try_write(|writer| writer.write_vectored(bufs)),
        }
    }

    /// Whether all that was written has been sent.
    #[inline]
    pub fn try_flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(tls) => unless_blocked(tls.push()).map(|sent| sent.is_some()),
        }
    }

    /// Whether some of what was written has not been sent.
    #[inline]
    pub fn holds_back(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.session.wants_write(),
        }
    }

    /// Tells the other side that nothing follows, as far as it takes that now.
    pub fn say_goodbye(&mut self) {
        if let Self::Tls(tls) = self {
            tls.session.send_close_notify();
            if let Err(error) = tls.push() {
                tracing::trace!(%error, "the end of a connection was not told");
            }
        }
    }

    /// Nothing more will be written, as far as that can be told without waiting.
    pub fn finish(&mut self) {
        let cx = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(Err(error)) = Pin::new(self).poll_shutdown(cx) {
            tracing::trace!(%error, "the end of a connection was not told");
        }
    }

    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// A number that grows when the other side takes something of what was held back.
    pub fn taken(&self) -> u64 {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(tls) => tls.taken,
        }
    }
}

/// A socket and the TLS session on it. Its functions stay out of those that a plain connection
/// goes through.
#[derive(Debug)]
pub struct Tls {
    tcp: TcpStream,
    session: Connection,
    /// Encrypted bytes that the socket has taken.
    taken: u64,
}

impl Tls {
    fn new(tcp: TcpStream, mut session: Connection) -> Box<Self> {
        session.set_buffer_limit(Some(UNSENT));
        Box::new(Self { tcp, session, taken: 0 })
    }

    async fn shake_hands(mut self: Box<Self>, mut ahead: &[u8]) -> io::Result<Transport> {
        while !ahead.is_empty() {
            self.session.read_tls(&mut ahead)?;
            self.process()?;
        }
        loop {
            std::future::poll_fn(|cx| self.poll_push(cx)).await?;
            if !self.session.is_handshaking() {
                return Ok(Transport::Tls(self));
            }
            self.tcp.readable().await?;
            if unless_blocked(self.pull())? == Some(0) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Puts decrypted bytes into `buf`; none at the end.
    #[inline(never)]
    fn try_read(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let of_client = matches!(self.session, Connection::Server(_));
        loop {
            let mut reader = self.session.reader();
            match reader.fill_buf() {
                Ok(bytes) => {
                    let count = bytes.len().min(buf.remaining());
                    buf.put_slice(&bytes[..count]);
                    reader.consume(count);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.pull()?,
                // Many clients just leave, and no request ends by the end of its connection. Of an
                // answer, though, the end may have been cut off by somebody else.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && of_client => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
        }
    }

    /// Takes what has arrived; how many bytes that was.
    fn pull(&mut self) -> io::Result<usize> {
        let count = self.session.read_tls(&mut Socket(&self.tcp))?;
        self.process()?;
        Ok(count)
    }

    fn process(&mut self) -> io::Result<()> {
        let processed = self.session.process_new_packets();
        // What the session has to say to it: an alert before the end, at worst.
        let told = unless_blocked(self.push());
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        told.map(|_| ())
    }

    /// Sends what is encrypted.
    #[inline(never)]
    fn push(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Socket(&self.tcp))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.taken += count as u64,
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while unless_blocked(self.push())?.is_none() {
            ready!(self.tcp.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes nothing while there is something that was taken before and is not sent.
    #[inline(never)]
    fn try_write(
        &mut self,
        write: impl FnOnce(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.push()?;
        let count = write(&mut self.session.writer())?;
        unless_blocked(self.push())?;
        Ok(count)
    }

    #[inline(never)]
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while unless_blocked(self.try_read(buf))?.is_none() {
            ready!(self.tcp.poll_read_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_push(cx))?;
        Poll::Ready(self.try_write(write))
    }
}

/// None when it would block.
fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// A socket as rustls wants one.
struct Socket<'a>(&'a TcpStream);

impl io::Read for Socket<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Transport {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => tls.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => tls.poll_write(cx, |writer| writer.write(buf)),
        }
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => tls.poll_write(cx, |writer| writer.write_vectored(bufs)),
        }
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_push(cx),
        }
    }

    #[inline]
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => {
                tls.session.send_close_notify();
                ready!(tls.poll_push(cx))?;
                Pin::new(&mut tls.tcp).poll_shutdown(cx)
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rustls::RootCertStore;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Two ends of a connection under TLS: the client's and the server's.
    pub(crate) async fn pair() -> (Transport, Transport) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connected, accepted) =
            tokio::join!(TcpStream::connect(address), async { listener.accept().await });
        let name = ServerName::try_from("localhost").unwrap();
        let (client, server) = tokio::join!(
            Transport::connect(connected.unwrap(), name, Arc::new(client)),
            Transport::accept(accepted.unwrap().0, &[], Arc::new(server)),
        );
        (client.unwrap(), server.unwrap())
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn what_was_taken_and_not_sent_is_known_and_sent_later() {
        run(async {
            let (mut client, mut server) = pair().await;
            let part = [7; 10_000];
            let mut written = 0;
            let parts = [IoSlice::new(&part); 3];
            while let Some(count) = unless_blocked(server.try_write_vectored(&parts)).unwrap() {
                written += count;
            }
            assert!(server.holds_back());
            assert!(!server.try_flush().unwrap(), "the socket is full");
            let sent = server.taken();
            let reading = async {
                let mut bytes = vec![0; written];
                client.read_exact(&mut bytes).await.unwrap();
                assert!(bytes.iter().all(|byte| *byte == 7));
            };
            let flushing = async {
                while !server.try_flush().unwrap() {
                    std::future::poll_fn(|cx| server.poll_write_ready(cx)).await.unwrap();
                }
            };
            tokio::join!(reading, flushing);
            assert!(server.taken() > sent && !server.holds_back());
        });
    }

    #[test]
    fn what_is_decrypted_is_there_to_be_read() {
        run(async {
            let (mut client, mut server) = pair().await;
            client.write_all(b"0123456789").await.unwrap();
            client.flush().await.unwrap();
            let mut heard = Vec::new();
            while heard.len() < 10 {
                std::future::poll_fn(|cx| server.poll_read_ready(cx)).await.unwrap();
                let mut bytes = [0; 3];
                if let Some(count) = unless_blocked(server.try_read(&mut bytes)).unwrap() {
                    heard.extend_from_slice(&bytes[..count]);
                }
            }
            assert_eq!(heard, b"0123456789");
            client.say_goodbye();
            let mut rest = Vec::new();
            assert_eq!(server.read_to_end(&mut rest).await.unwrap(), 0);
        });
    }
}
