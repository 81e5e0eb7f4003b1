//! Why a connection ended otherwise than by agreement.

use std::{fmt, io};

#[derive(Debug)]
pub(super) enum Ended {
    Io(io::Error),
    Http(hyper::Error),
    /// The handshake of TLS failed.
    Handshake(io::Error),
    /// Spoke HTTP where TLS is spoken.
    InTheClear,
    /// Was gone before it said anything.
    Left,
    /// Nothing came that would tell what the client speaks.
    Silent,
    /// Whom the proxy forwards for has enough connections.
    Crowded,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
            Self::Handshake(error) => write!(f, "the TLS handshake failed: {error}"),
            Self::InTheClear => f.write_str("the client did not speak TLS"),
            Self::Left => f.write_str("the client left before it said anything"),
            Self::Silent => f.write_str("the client said nothing"),
            Self::Crowded => f.write_str("too many connections of the address"),
        }
    }
}
