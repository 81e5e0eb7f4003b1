//! The deny list in a file: read at the start, and again when it changes.
//!
//! A file that cannot be read, or has a line that is no address, changes nothing: what was denied
//! before stays denied.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::gate::Gate;
use crate::gate::address::{AddressSet, BadLine, parse_list};
use crate::watched::Watched;

/// The largest file: a million addresses with a comment each.
const MOST_BYTES: u64 = 64 << 20;

/// Why a list was not taken.
#[derive(Debug)]
pub enum Unusable {
    Unread(io::Error),
    TooLarge,
    BadLine(BadLine),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unread(error) => write!(f, "cannot be read: {error}"),
            Self::TooLarge => write!(f, "has more than {MOST_BYTES} bytes"),
            Self::BadLine(bad) => bad.fmt(f),
        }
    }
}

impl std::error::Error for Unusable {}

/// Reads the list. Blocks.
pub fn read(path: &Path) -> Result<AddressSet, Unusable> {
    let mut text = String::new();
    let file = File::open(path).map_err(Unusable::Unread)?;
    file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(Unusable::Unread)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(Unusable::TooLarge);
    }
    parse_list(&text).map_err(Unusable::BadLine)
}

/// A deny file, and what was seen of it.
#[derive(Debug)]
pub struct DenyFile {
    path: PathBuf,
    watched: Watched,
}

impl DenyFile {
    /// Reads the list into the gate. Blocks.
    pub fn open(path: PathBuf, gate: &Gate) -> Result<Self, Unusable> {
        let watched = Watched::new(vec![path.clone()]);
        gate.deny_also(read(&path)?);
        Ok(Self { path, watched })
    }

    /// Looks whether the file has changed, and if so, has the gate's list be as it says. Blocks.
    pub fn look(&mut self, gate: &Gate) {
        if !self.watched.have_changed() {
            return;
        }
        let path = self.path.display();
        match read(&self.path) {
            Ok(_) if !self.watched.are_still_so() => return,
            Ok(networks) => {
                gate.deny_also(networks);
                tracing::info!(%path, "the deny list changed");
            }
            Err(error) => {
                tracing::error!(%path, %error, "the deny list was not taken; the last one holds");
            }
        }
        self.watched.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Options, Refusal};

    /// A file that goes with the test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str, text: &str) -> Self {
            let file = format!("pogo-deny-{name}-{}", std::process::id());
            let place = Self(std::env::temp_dir().join(file));
            place.write(text);
            place
        }

        /// As an editor does: a new file in the place of the old one.
        fn write(&self, text: &str) {
            let beside = self.0.with_extension("new");
            std::fs::write(&beside, text).unwrap();
            std::fs::rename(beside, &self.0).unwrap();
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn denies(gate: &Gate, address: &str) -> bool {
        gate.admit(address.parse().unwrap()) == Err(Refusal::Denied)
    }

    #[test]
    fn a_change_is_taken_once_it_has_settled() {
        let place = Place::new("settles", "192.0.2.1\n");
        let gate = Gate::new(&Options::default()).unwrap();
        let mut file = DenyFile::open(place.0.clone(), &gate).unwrap();
        assert!(denies(&gate, "192.0.2.1"));
        let before = gate.shutouts();
        file.look(&gate);
        assert_eq!(gate.shutouts(), before, "nothing changed");
        place.write("192.0.2.2");
        file.look(&gate);
        assert!(!denies(&gate, "192.0.2.2"), "it may still be written");
        file.look(&gate);
        assert!(denies(&gate, "192.0.2.2") && !denies(&gate, "192.0.2.1"));
    }

    #[test]
    fn a_bad_or_missing_file_changes_nothing_until_it_is_mended() {
        let place = Place::new("bad", "192.0.2.1\n");
        let gate = Gate::new(&Options::default()).unwrap();
        let mut file = DenyFile::open(place.0.clone(), &gate).unwrap();
        let look_twice = |file: &mut DenyFile| (0..2).for_each(|_| file.look(&gate));
        place.write("192.0.2.2\nnonsense\n");
        look_twice(&mut file);
        assert!(denies(&gate, "192.0.2.1") && !denies(&gate, "192.0.2.2"));
        std::fs::remove_file(&place.0).unwrap();
        look_twice(&mut file);
        assert!(denies(&gate, "192.0.2.1"));
        place.write("192.0.2.2\n");
        look_twice(&mut file);
        assert!(denies(&gate, "192.0.2.2") && !denies(&gate, "192.0.2.1"));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line() {
        let place = Place::new("told", "192.0.2.1\n10.0.0.1/8\n");
        let error = read(&place.0).unwrap_err().to_string();
        assert_eq!(error, "line 2: \"10.0.0.1/8\" is an address inside a range, not a range");
        let gone = read(Path::new("/nonexistent/deny")).unwrap_err().to_string();
        assert!(gone.starts_with("cannot be read: "), "{gone}");
    }
}
