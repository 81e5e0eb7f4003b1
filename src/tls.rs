//! Certificates and keys in files: read at the start, and what clients are shown again when the
//! files change.
//!
//! A pair that cannot be read, or whose key is another's, changes nothing: the last one is shown
//! on. Connections that are open keep what they agreed on.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::watched::Watched;

/// The largest file: thousands of certificates.
const MOST_BYTES: u64 = 4 << 20;
/// What may be spoken, the best first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate and its key, each in a file (PEM).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, and those that lead from it to one that is trusted.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why a file, or what it holds, was not taken.
#[derive(Debug)]
pub struct Unusable {
    /// The file that it is about.
    pub path: PathBuf,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Unread(io::Error),
    TooLarge,
    NoCertificate,
    BadCertificate(pem::Error),
    BadKey(pem::Error),
    Refused(rustls::Error),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} ", self.path.display().to_string())?;
        match &self.reason {
            Reason::Unread(error) => write!(f, "cannot be read: {error}"),
            Reason::TooLarge => write!(f, "has more than {MOST_BYTES} bytes"),
            Reason::NoCertificate => f.write_str("has no certificate in PEM"),
            Reason::BadCertificate(error) => write!(f, "has no certificate in PEM: {error}"),
            Reason::BadKey(pem::Error::NoItemsFound) => {
                f.write_str("has no private key in PEM (an encrypted one is none)")
            }
            Reason::BadKey(error) => write!(f, "has no private key in PEM: {error}"),
            Reason::Refused(rustls::Error::InconsistentKeys(_)) => {
                f.write_str("is not the key of the certificate")
            }
            Reason::Refused(error) => write!(f, "cannot be used: {error}"),
        }
    }
}

impl std::error::Error for Unusable {}

impl Unusable {
    /// What rustls says of what `path` holds.
    pub(crate) fn refused(path: &Path, error: rustls::Error) -> Self {
        Self { path: path.to_owned(), reason: Reason::Refused(error) }
    }
}

/// The cryptography that is used everywhere.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// All certificates of a file. Blocks.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let told = |reason| Unusable { path: path.to_owned(), reason };
    let text = read(path).map_err(told)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| told(Reason::BadCertificate(error)))?;
    if certificates.is_empty() { Err(told(Reason::NoCertificate)) } else { Ok(certificates) }
}

impl Pair {
    /// The certificate and its chain, and the key. Blocks.
    pub(crate) fn read(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Unusable> {
        let chain = certificates(&self.certificate)?;
        let told = |reason| Unusable { path: self.key.clone(), reason };
        let text = read(&self.key).map_err(told)?;
        let key = PrivateKeyDer::from_pem_slice(&text);
        Ok((chain, key.map_err(|error| told(Reason::BadKey(error)))?))
    }

    /// What rustls says of the two together.
    pub(crate) fn refused(&self, error: rustls::Error) -> Unusable {
        let path = match error {
            rustls::Error::InvalidCertificate(_) => &self.certificate,
            _ => &self.key,
        };
        Unusable::refused(path, error)
    }

    /// How clients are spoken to with this certificate: TLS 1.2 and 1.3, with the suites that
    /// rustls takes for safe, all of which have forward secrecy.
    fn server(&self) -> Result<ServerConfig, Unusable> {
        let (chain, key) = self.read()?;
        let refused = |error| self.refused(error);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(refused)?;
        // All that is offered is strong; which is best is not for the client's list to say.
        config.ignore_client_order = true;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        // Clients keep what it takes to come back; no memory is needed here for any of them.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(refused)?;
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Reason> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Reason::Unread)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(Reason::Unread)?;
    if bytes.len() as u64 > MOST_BYTES { Err(Reason::TooLarge) } else { Ok(bytes) }
}

/// What clients are shown now.
#[derive(Debug)]
pub struct Identity(ArcSwap<ServerConfig>);

impl Identity {
    /// Blocks.
    pub fn new(pair: &Pair) -> Result<Self, Unusable> {
        Ok(Self(ArcSwap::from_pointee(pair.server()?)))
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

/// Keeps an identity as its files say.
#[derive(Debug)]
pub struct Follower {
    identity: Arc<Identity>,
    pair: Pair,
    watched: Watched,
}

impl Follower {
    /// Reads the pair. Blocks.
    pub fn open(pair: Pair) -> Result<Self, Unusable> {
        let watched = Watched::new(vec![pair.certificate.clone(), pair.key.clone()]);
        let identity = Arc::new(Identity::new(&pair)?);
        Ok(Self { identity, pair, watched })
    }

    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity)
    }

    /// Looks whether the files have changed, and if so, has new clients be shown what they hold.
    /// Blocks.
    pub fn look(&mut self) {
        if !self.watched.have_changed() {
            return;
        }
        match self.pair.server() {
            Ok(_) if !self.watched.are_still_so() => return,
            Ok(config) => {
                self.identity.0.store(Arc::new(config));
                let certificate = self.pair.certificate.display();
                tracing::info!(%certificate, "the certificate changed");
            }
            Err(error) => {
                tracing::error!(%error, "the certificate was not taken; the last one holds");
            }
        }
        self.watched.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes with the test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("pogo-tls-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn pair(&self) -> Pair {
            Pair { certificate: self.0.join("c.pem"), key: self.0.join("k.pem") }
        }

        fn write(&self, certificate: &str, key: &str) {
            std::fs::write(self.pair().certificate, certificate).unwrap();
            std::fs::write(self.pair().key, key).unwrap();
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_file() {
        let place = Place::new("told");
        let (certificate, key) = made();
        let (_, other) = made();
        for (certificate, key, about, reason) in [
            (&*certificate, &*other, "k.pem", "is not the key of the certificate"),
            ("", &key, "c.pem", "has no certificate in PEM"),
            ("-----BEGIN CERTIFICATE-----\nAA", &key, "c.pem", "has no certificate in PEM: "),
            (&certificate, &certificate, "k.pem", "has no private key in PEM"),
        ] {
            place.write(certificate, key);
            let error = Identity::new(&place.pair()).unwrap_err();
            assert!(error.path.ends_with(about), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
        std::fs::remove_file(place.pair().key).unwrap();
        let error = Identity::new(&place.pair()).unwrap_err().to_string();
        assert!(error.contains("k.pem\" cannot be read: "), "{error}");
    }

    #[test]
    fn a_pair_is_taken_once_both_files_have_settled_and_fit() {
        let place = Place::new("settles");
        let (certificate, key) = made();
        place.write(&certificate, &key);
        let mut follower = Follower::open(place.pair()).unwrap();
        let identity = follower.identity();
        let first = identity.config();
        let is_first = || Arc::ptr_eq(&first, &identity.config());
        follower.look();
        assert!(is_first(), "nothing changed");
        let (certificate, key) = made();
        std::fs::write(place.pair().certificate, &certificate).unwrap();
        (0..3).for_each(|_| follower.look());
        assert!(is_first(), "the key is still the old one");
        std::fs::write(place.pair().key, &key).unwrap();
        follower.look();
        assert!(is_first(), "it may still be written");
        follower.look();
        assert!(!is_first());
    }
}
