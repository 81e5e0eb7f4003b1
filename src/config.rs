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
mod gate;
mod options;
mod sections;
mod tls;
mod words;

use std::path::{Path, PathBuf};

use crate::units::{Malformed, Notation};

use self::document::Document;
pub use self::fault::Fault;
pub use self::sections::{Config, Log, LogFormat, LogLevel};
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
        None => Document::open_existing(Path::new(DEFAULT_FILE))?.unwrap_or_else(Document::absent),
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

/// As [`load`], from the text of a file.
pub fn parse(text: &str) -> Result<Loaded, Fault> {
    let document = Document::parse(Path::new(DEFAULT_FILE), text.to_owned())?;
    let config: Config = document.read()?;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::fault::Kind;
    use super::sections::{Admin, Jwt, Route};
    use super::*;

    const SHIPPED: &str = include_str!("../pogo.toml");

    fn read(text: &str) -> Result<Config, Fault> {
        Document::parse(Path::new("pogo.toml"), text.into())?.read()
    }

    /// The shipped file with its options set; `examples` are those whose default is none.
    fn uncommented(examples: bool) -> String {
        let set = |line: &'static str| match line.strip_prefix('#') {
            Some(option) if is_option(line) && (examples || !option.ends_with("# example")) => {
                option
            }
            Some(_) => "",
            None => line,
        };
        SHIPPED.lines().map(set).collect::<Vec<_>>().join("\n")
    }

    fn is_option(line: &str) -> bool {
        line.strip_prefix('#').is_some_and(|rest| !rest.is_empty() && !rest.starts_with(' '))
    }

    /// Every key there is, as paths: found by asking each section for a key that it has not.
    fn known_keys(section: &str, found: &mut BTreeSet<String>) {
        const STRANGER: &str = "no_such_key = 1";
        let asked = match section {
            "" => vec![STRANGER.to_owned()],
            _ => vec![format!("[{section}]\n{STRANGER}"), format!("[[{section}]]\n{STRANGER}")],
        };
        for text in asked {
            let fault = read(&text).unwrap_err();
            let Kind::UnknownKey { key, known } = fault.kind() else { continue };
            assert_eq!(key, "no_such_key");
            for key in *known {
                let path =
                    if section.is_empty() { (*key).to_owned() } else { format!("{section}.{key}") };
                known_keys(&path, found);
                found.insert(path);
            }
        }
    }

    #[test]
    fn the_shipped_file_is_the_defaults() {
        let mut shipped = read(&uncommented(false)).unwrap();
        assert_eq!(shipped.upstream.take().unwrap().to_string(), "http://127.0.0.1:3000");
        assert_eq!(shipped.auth.jwt.take(), Some(Jwt::default()));
        assert_eq!(shipped.tls.take(), Some(tls::Tls::default()));
        assert_eq!(shipped.admin.take(), Some(Admin::default()));
        let route: Route = shipped.routes.pop().unwrap();
        assert_eq!(shipped, Config::default());
        assert_eq!(options::rule(route), crate::route::Rule::default());
    }

    #[test]
    fn the_shipped_file_has_every_option_and_no_other() {
        let everything = uncommented(true);
        read(&everything).unwrap();
        let shown: toml::Table = everything.parse().unwrap();
        let mut known = BTreeSet::new();
        known_keys("", &mut known);
        for some in
            ["upstream", "auth.jwt.leeway", "gate.rate.http", "route.rate", "channel.publish"]
        {
            assert!(known.contains(some), "{some} was not found among {known:?}");
        }
        for path in known {
            let mut value = toml::Value::Table(shown.clone());
            for key in path.split('.') {
                let inside = value.get(0).unwrap_or(&value).get(key).cloned();
                value = inside.unwrap_or_else(|| panic!("pogo.toml does not show {path}"));
            }
        }
    }

    #[test]
    fn the_shipped_file_explains_every_option() {
        let lines: Vec<_> = SHIPPED.lines().collect();
        for pair in lines.windows(2) {
            if is_option(pair[1]) && !pair[1].starts_with("#[") {
                assert!(pair[0].starts_with("# "), "nothing explains {}", pair[1]);
            }
        }
    }

    #[test]
    fn what_is_in_effect_reads_back_as_the_same() {
        let file = Document::parse(Path::new("pogo.toml"), uncommented(true)).unwrap();
        let loaded = Loaded { config: file.read().unwrap(), document: file };
        assert_eq!(&read(&loaded.effective().unwrap()).unwrap(), loaded.config());
        let loaded = Loaded { config: Config::default(), document: Document::absent() };
        assert_eq!(read(&loaded.effective().unwrap()).unwrap(), Config::default());
    }

    #[test]
    fn the_file_and_the_library_have_the_same_defaults() {
        let upstream = Some("http://127.0.0.1:3000".parse().unwrap());
        let config = Config { upstream, ..Config::default() };
        let loaded = Loaded { config, document: Document::absent() };
        let (options, log) = loaded.into_options().unwrap();
        assert_eq!(options, crate::server::Options::default());
        let admin = options::admin(&Admin::default(), &Document::absent()).unwrap();
        assert_eq!(admin, crate::admin::Options::default());
        assert_eq!(log, Log::default());
    }

    #[test]
    fn every_credential_header_tells_viewers_apart() {
        let text = "upstream = \"http://a\"\n[auth]\nheader = \"X-Api-Key\"\n\
                    [views]\ncredential_headers = [\"cookie\", \"x-tenant\"]";
        let document = Document::parse(Path::new("pogo.toml"), text.into()).unwrap();
        let loaded = Loaded { config: document.read().unwrap(), document };
        let headers = loaded.into_options().unwrap().0.hub.credential_headers;
        assert_eq!(headers, ["x-tenant", "x-api-key"]);
    }
}
