//! Files that are looked at again and again, and taken once they have changed and settled.
//!
//! A change counts when the files were the same at two looks, so that one that is still being
//! written is not taken for less than it will be.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often files are looked at.
pub const LOOK: Duration = Duration::from_millis(250);

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

/// Files that belong together, and what was seen of them.
#[derive(Debug)]
pub struct Watched {
    paths: Vec<PathBuf>,
    /// What was read, or was refused.
    taken: Vec<Option<Stamp>>,
    seen: Vec<Option<Stamp>>,
}

impl Watched {
    /// As they are now; to be read after this.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let stamps = stamps(&paths);
        Self { paths, taken: stamps.clone(), seen: stamps }
    }

    /// Follows these from now on. Those that were followed are what they were seen as; the others
    /// are as they are now, to be read after this.
    pub fn follow(&mut self, paths: Vec<PathBuf>) {
        if paths == self.paths {
            return;
        }
        let known = |stamps: &[Option<Stamp>], path: &PathBuf| {
            let at = self.paths.iter().position(|known| known == path)?;
            stamps.get(at).cloned()
        };
        let mut taken = Vec::with_capacity(paths.len());
        let mut seen = Vec::with_capacity(paths.len());
        for path in &paths {
            let now = Stamp::of(path);
            taken.push(known(&self.taken, path).unwrap_or_else(|| now.clone()));
            seen.push(known(&self.seen, path).unwrap_or(now));
        }
        *self = Self { paths, taken, seen };
    }

    /// Looks at the files: whether they have changed since they were taken, and not since the last
    /// look.
    pub fn have_changed(&mut self) -> bool {
        let now = stamps(&self.paths);
        let settled = now == self.seen;
        self.seen = now;
        settled && self.seen != self.taken
    }

    /// Whether they are still what the last look saw. If not, what was read since may be half of
    /// one and half of another, and the next looks will tell.
    pub fn are_still_so(&self) -> bool {
        stamps(&self.paths) == self.seen
    }

    /// What the last look saw was read, or was refused.
    pub fn take(&mut self) {
        self.taken = self.seen.clone();
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths.iter().map(|path| Stamp::of(path)).collect()
}
