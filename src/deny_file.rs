//! The deny list in a file: read at the start, and again when it changes.
//!
//! A change is taken when the file has been the same at two looks, so that one that is still being
//! written is not taken for less than it will be. A file that cannot be read, or has a line that
//! is no address, changes nothing: what was denied before stays denied.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::gate::address::{AddressSet, BadLine, parse_list};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(250);
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

/// What tells one content of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// A file that was put in its place is another.
    #[cfg(unix)]
    inode: u64,
}

impl Stamp {
    /// None when there is no file.
    fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::new(&metadata))
    }

    fn new(metadata: &Metadata) -> Self {
        Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(metadata),
        }
    }
}

/// A deny file, and what was seen of it.
#[derive(Debug)]
pub struct DenyFile {
    path: PathBuf,
    /// What was read, or was refused.
    taken: Option<Stamp>,
    seen: Option<Stamp>,
}

impl DenyFile {
    /// Reads the list into the gate. Blocks.
    pub fn open(path: PathBuf, gate: &Gate) -> Result<Self, Unusable> {
        let stamp = Stamp::of(&path);
        gate.deny_also(read(&path)?);
        Ok(Self { path, taken: stamp.clone(), seen: stamp })
    }

    /// Keeps the gate's list as the file says, until `stop`. Blocks its thread while it reads.
    pub async fn follow(mut self, gate: Arc<Gate>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => self.look(&gate),
            }
        }
    }

    fn look(&mut self, gate: &Gate) {
        let now = Stamp::of(&self.path);
        let settled = now == self.seen;
        self.seen = now.clone();
        if !settled || now == self.taken {
            return;
        }
        let path = self.path.display();
        match read(&self.path) {
            // Changed while it was read: the next look will tell.
            Ok(_) if Stamp::of(&self.path) != now => return,
            Ok(networks) => {
                gate.deny_also(networks);
                tracing::info!(%path, "the deny list changed");
            }
            Err(error) => {
                tracing::error!(%path, %error, "the deny list was not taken; the last one holds");
            }
        }
        self.taken = now;
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
