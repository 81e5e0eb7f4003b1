//! `pogo.toml`, strictly.
//!
//! A file is read in three steps, and each refuses in its own words: the text into [`Config`] (unknown
//! keys, values out of their notation), the whole against itself (contradictions), and the whole
//! into the modules' options (files it names). Nothing is ever ignored or replaced by a default:
//! a server that starts does what its file says.
//!
//! An option on the command line beats one in the environment, which beats the file.

mod check;
mod document;
mod fault;
mod options;
mod sections;
mod words;

use std::path::{Path, PathBuf};

use crate::units::{Malformed, Notation};

use self::document::Document;
pub use self::fault::Fault;
pub use self::options::{
    Auth, Channel, Gate, Gateway, Hub, Jwt, Options, Secret, Session, Upstream,
};
pub use self::sections::{Config, Log, LogFormat, LogLevel, Who};
use self::words::{Listen, UpstreamUrl};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "pogo.toml";

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A file that must be there; without one, `./pogo.toml` is read if it is there.
    pub file: Option<PathBuf>,
    pub upstream: Option<Given>,
    pub listen: Option<Given>,
    pub workers: Option<Given>,
}

/// A value from outside the file.
#[derive(Debug, Clone)]
pub struct Given {
    pub value: String,
    /// `--upstream` or `POGO_UPSTREAM`: what a message about it names.
    pub by: String,
}

/// A configuration without contradictions, and where each of its keys stands.
#[derive(Debug, Clone)]
pub struct Loaded {
    config: Config,
    document: Document,
}

/// Reads and checks everything but the files that the configuration names:
/// [`Loaded::into_options`] does that.
pub fn load(sources: &Sources) -> Result<Loaded, Fault> {
    let document = match &sources.file {
        Some(file) => Document::open(file)?,
        None if Path::new(DEFAULT_FILE).exists() => Document::open(Path::new(DEFAULT_FILE))?,
        None => Document::absent(),
    };
    let mut config: Config = document.read()?;
    if let Some(given) = &sources.upstream {
        config.upstream = Some(given.read::<UpstreamUrl>()?);
    }
    if let Some(given) = &sources.listen {
        config.listen = given.read::<Listen>()?;
    }
    if let Some(given) = &sources.workers {
        let workers = given.value.parse();
        config.workers = workers.map_err(|_| given.refuse("a whole number"))?;
    }
    check::check(&config, &document)?;
    Ok(Loaded { config, document })
}

impl Loaded {
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The configuration in effect, as TOML that reads back as the same. Secrets are not in it: only
    /// the names of the files and variables that hold them.
    pub fn effective(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&self.config)
    }
}

impl Given {
    fn read<T: Notation>(&self) -> Result<T, Fault> {
        self.value.parse().map_err(|malformed| match malformed {
            Malformed::Shape => self.refuse(T::EXPECTED),
            Malformed::Refused(reason) => Fault::of_source(&self.by, reason),
        })
    }

    fn refuse(&self, expected: &str) -> Fault {
        Fault::of_source(&self.by, format!("found {:?}, expected {expected}", self.value))
    }
}
