//! TLS to the API: whom to believe that it is the API, and what it is shown.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::{self, Digest};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

use super::Options;
use crate::tls::{self, Pair, Unusable};
use crate::transport::Transport;

/// How the API is spoken to over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Certificates that are trusted (PEM), instead of those that this machine trusts.
    pub ca_file: Option<PathBuf>,
    /// What the API is shown when it asks who this is.
    pub client: Option<Pair>,
    /// The name in the API's certificate, if it is not the host of its URL.
    pub server_name: Option<String>,
}

/// Why TLS to the API is not possible.
#[derive(Debug)]
pub enum Insecure {
    Ca(Unusable),
    Client(Unusable),
    Name(String),
    /// This machine trusts nobody.
    NoRoots(String),
    Refused(rustls::Error),
}

impl std::fmt::Display for Insecure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ca(unusable) | Self::Client(unusable) => unusable.fmt(f),
            Self::Name(name) => write!(f, "{name:?} is no host name and no IP address"),
            Self::NoRoots(why) => {
                write!(f, "this machine has no root certificates; name some in ca_file{why}")
            }
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Insecure {}

/// Makes connections to the API private; the workers share it.
#[derive(Debug, Clone)]
pub struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// Of all that was read, so that a file whose content changed is told from one as it was.
    read: Digest,
}

/// Equal ones believe and show the same.
impl PartialEq for Secure {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.read.as_ref() == other.read.as_ref()
    }
}

impl Secure {
    /// None for an API that is spoken to in the clear. Blocks.
    pub fn new(options: &Options) -> Result<Option<Self>, Insecure> {
        let Some(tls) = &options.tls else { return Ok(None) };
        let host = super::address_of(options).0;
        let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name.clone()).map_err(|_| Insecure::Name(name))?.to_owned();
        let mut read = digest::Context::new(&digest::SHA256);
        let roots = match &tls.ca_file {
            Some(path) => {
                let trusted = tls::certificates(path).map_err(Insecure::Ca)?;
                trusted.iter().for_each(|one| read.update(one));
                let refused = |error| Insecure::Ca(Unusable::refused(path, error));
                let mut roots = RootCertStore::empty();
                trusted.into_iter().try_for_each(|one| roots.add(one)).map_err(refused)?;
                roots
            }
            None => system_roots(&mut read)?,
        };
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(Insecure::Refused)?
            .with_root_certificates(roots);
        let mut config = match &tls.client {
            Some(pair) => {
                let (chain, key) = pair.read().map_err(Insecure::Client)?;
                chain.iter().for_each(|one| read.update(one));
                read.update(key.secret_der());
                let refused = |error| Insecure::Client(pair.refused(error));
                builder.with_client_auth_cert(chain, key).map_err(refused)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Self { config: Arc::new(config), name, read: read.finish() }))
    }

    pub(super) async fn agree(&self, tcp: TcpStream) -> io::Result<Transport> {
        Transport::connect(tcp, self.name.clone(), Arc::clone(&self.config)).await
    }
}

/// Those that this machine trusts. Some that cannot be read are no reason not to start.
fn system_roots(read: &mut digest::Context) -> Result<RootCertStore, Insecure> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let certificates: Vec<CertificateDer<'static>> = found.certs;
    certificates.iter().for_each(|one| read.update(one));
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})"));
        return Err(Insecure::NoRoots(why.unwrap_or_default()));
    }
    Ok(roots)
}
