use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use pogo::tls::Pair;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::PATIENCE;

/// Somebody who issues certificates, and a folder for them that goes with the test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("authority-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Issues a certificate for `name` into the files `file.pem` and `file.key`, as tools that renew
    /// them do: new files in the place of the old ones.
    pub fn issue(&self, file: &str, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let place = |end: &str, text: String| {
            let path = self.folder.join(format!("{file}.{end}"));
            let beside = path.with_extension("new");
            std::fs::write(&beside, text).unwrap();
            std::fs::rename(beside, &path).unwrap();
            path
        };
        Pair {
            certificate: place("pem", certificate.pem()),
            key: place("key", key.serialize_pem()),
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// A client that trusts this authority and speaks these protocols.
    pub fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A server with a certificate for `name`, before the plain one at `behind`; it asks for a
    /// certificate of the authority `clients`, if there is one.
    pub fn serve(&self, name: &str, behind: SocketAddr, clients: Option<&Authority>) -> SocketAddr {
        let acceptor = self.acceptor(name, clients);
        bridge(behind, move |client, server| {
            let acceptor = acceptor.clone();
            async move { Some((acceptor.accept(client).await.ok()?, server)) }
        })
    }

    /// The same for "localhost", but that the end of a connection is not told under TLS.
    pub fn serve_bluntly(&self, behind: SocketAddr) -> SocketAddr {
        let acceptor = self.acceptor("localhost", None);
        bridge(behind, move |client, server| {
            let acceptor = acceptor.clone();
            async move { Some((Blunt(acceptor.accept(client).await.ok()?), server)) }
        })
    }

    fn acceptor(&self, name: &str, clients: Option<&Authority>) -> TlsAcceptor {
        let (chain, key) = load(&self.issue("server", name));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let roots = clients.roots();
                let asks = WebPkiClientVerifier::builder_with_provider(roots, provider());
                builder.with_client_cert_verifier(asks.build().unwrap())
            }
        };
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn load(pair: &Pair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(&pair.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    (chain.map(Result::unwrap).collect(), key)
}

/// Where plain clients reach the TLS server at `address`.
pub fn reach(address: SocketAddr, config: &Arc<ClientConfig>) -> SocketAddr {
    let connector = TlsConnector::from(Arc::clone(config));
    bridge(address, move |client, server| {
        let (connector, name) = (connector.clone(), ServerName::try_from("localhost").unwrap());
        async move { Some((client, connector.connect(name, server).await.ok()?)) }
    })
}

/// Listens, and carries bytes between each connection and one of its own to `address`, once both
/// have been made into what bytes are to be carried between.
fn bridge<A, B, F>(
    address: SocketAddr,
    wrap: impl Fn(tokio::net::TcpStream, tokio::net::TcpStream) -> F + Send + 'static,
) -> SocketAddr
where
    A: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Option<(A, B)>> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let here = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = tokio::net::TcpStream::connect(address).await else { continue };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let wrapping = wrap(client, server);
                tokio::spawn(async move {
                    if let Some((mut client, mut server)) = wrapping.await {
                        // However it ends, both ends see it.
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
    });
    here
}

/// Ends without a word.
struct Blunt<T>(T);

impl<T: AsyncRead + Unpin> AsyncRead for Blunt<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Blunt<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Err(ErrorKind::ConnectionReset.into()))
    }
}

/// A TLS client whose every read the test makes itself.
pub struct Private {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Private {
    pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self::connect_after("", address, config)
    }

    /// The same, after other bytes.
    pub fn connect_after(before: &str, address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut tcp = TcpStream::connect(address).unwrap();
        tcp.write_all(before.as_bytes()).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(session, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        Self { stream }
    }

    /// The protocol that was agreed on.
    pub fn protocol(&self) -> Option<&str> {
        self.stream.conn.alpn_protocol().map(|name| std::str::from_utf8(name).unwrap())
    }

    /// The certificate that was shown, as it stands in a file.
    pub fn was_shown(&self, pair: &Pair) -> bool {
        let shown = self.stream.conn.peer_certificates().unwrap();
        shown[0] == load(pair).0[0]
    }

    pub fn version(&self) -> rustls::ProtocolVersion {
        self.stream.conn.protocol_version().unwrap()
    }

    /// Has the kernel keep little of what is not read.
    pub fn listen_little(&self) {
        socket2::SockRef::from(&self.stream.sock).set_recv_buffer_size(256 << 10).unwrap();
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Sends each in a record of its own, and all of them at once.
    pub fn send_together(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.stream.conn.writer().write_all(part).unwrap();
        }
        let written = self.stream.conn.write_tls(&mut self.stream.sock).unwrap();
        assert!(written > parts.iter().map(|part| part.len()).sum());
        assert!(!self.stream.conn.wants_write(), "in one system call");
    }

    /// Everything up to and with `mark`.
    pub fn until(&mut self, mark: &str) -> String {
        let mut seen = Vec::new();
        while !seen.ends_with(mark.as_bytes()) {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(1) => seen.push(byte[0]),
                ended => panic!("{ended:?} after {:?}", String::from_utf8_lossy(&seen)),
            }
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    pub fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(bytes)
    }

    /// Asserts that the other side ends the connection, and says so under TLS.
    pub fn assert_closed(&mut self) {
        match self.stream.read(&mut [0]) {
            Ok(0) => (),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (),
            other => panic!("not closed: {other:?}"),
        }
    }
}
