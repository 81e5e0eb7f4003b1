//! Keeps the running server as its configuration file says: when the file, or one that it names,
//! has changed and settled, and when somebody asks for it (SIGHUP). On a thread of its own, where a
//! slow disk holds up no signal.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use pogo::config::{self, Fault, Log, Sources};
use pogo::server::{Options, Refused, Reloader};
use pogo::watched::Watched;
use sd_notify::NotifyState;

use crate::logs::Logs;
use crate::tell;

/// How often the files are looked at: a change is taken at the second look that finds the same.
const LOOK: Duration = Duration::from_secs(2);

/// A configuration as it was read for the first time, its file and those that it names.
pub(crate) struct Followed {
    sources: Sources,
    watched: Watched,
}

/// Asks for a reload.
pub(crate) struct Asked(SyncSender<()>);

impl Asked {
    /// One that was asked for while another is under way follows it.
    pub(crate) fn reload(&self) {
        // Full means that one is yet to begin; without a follower there is nothing to reload.
        self.0.try_send(()).unwrap_or(());
    }
}

impl Followed {
    /// Reads a configuration. If it comes from a file, that must be there from now on.
    pub(crate) fn read(mut sources: Sources) -> Result<(Self, Options, Log), Fault> {
        if sources.file.is_none() && Path::new(config::DEFAULT_FILE).try_exists().unwrap_or(true) {
            sources.file = Some(config::DEFAULT_FILE.into());
        }
        // Before the file is read, so that no change of it is missed.
        let watched = Watched::new(sources.file.iter().cloned().collect());
        let mut followed = Self { sources, watched };
        let (options, log) = followed.again()?;
        Ok((followed, options, log))
    }

    /// Reads it, and follows the files that it names now. A file that does not say which these are
    /// leaves it at the last ones.
    fn again(&mut self) -> Result<(Options, Log), Fault> {
        let loaded = config::load(&self.sources)?;
        let named: Vec<_> = self.sources.file.iter().cloned().chain(loaded.files()).collect();
        let others = loaded.followed_files();
        // Before they are read, so that no change of them is missed.
        self.watched.follow([&*named, &*others].concat());
        let read = loaded.into_options();
        if read.is_ok() {
            self.watched.follow(named);
        }
        read
    }

    /// Follows it for as long as the process lives.
    pub(crate) fn follow(self, reloader: Reloader, logs: Logs) -> io::Result<Asked> {
        let (asked, wanted) = sync_channel(1);
        let follower = Follower { followed: self, reloader, logs };
        let thread = std::thread::Builder::new().name("configuration".into());
        thread.spawn(move || follower.run(&wanted))?;
        Ok(Asked(asked))
    }
}

struct Follower {
    followed: Followed,
    reloader: Reloader,
    logs: Logs,
}

impl Follower {
    fn run(mut self, wanted: &Receiver<()>) {
        loop {
            let asked = match wanted.recv_timeout(LOOK) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let changed = self.followed.watched.have_changed();
            if asked || changed {
                self.reload(asked);
            }
        }
    }

    fn reload(&mut self, asked: bool) {
        if self.reloader.is_draining() {
            return tracing::info!("draining; the configuration is not reloaded");
        }
        let read = self.followed.again();
        let settled = self.followed.watched.are_still_so();
        if !settled && !asked {
            // Half of one and half of another, maybe: the next looks will tell.
            return;
        }
        if settled {
            self.followed.watched.take();
        }
        tell_reloading();
        let result = match read {
            Ok((options, log)) => self.reloader.reload_with(options, || self.logs.set(log)),
            Err(fault) => {
                self.reloader.note_failure();
                Err(Refused::Bad(io::Error::other(fault.to_string())))
            }
        };
        let status = match &result {
            Ok(_) => "the configuration was reloaded",
            Err(_) => "the configuration was not taken; the last one holds",
        };
        match result {
            Ok(reloaded) => {
                tracing::info!("{status}");
                for option in reloaded.restart_for {
                    tracing::warn!(option, "this option changes with a restart only");
                }
            }
            Err(Refused::Draining) => tracing::info!("draining; the configuration is not reloaded"),
            Err(Refused::Bad(error)) => {
                let file = self.followed.sources.file.as_deref();
                let check = file.map(|file| format!("pogo check --config {}", file.display()));
                tracing::error!(%error, check, "{status}");
            }
        }
        if !self.reloader.is_draining() {
            tell(&[NotifyState::Ready, NotifyState::Status(status)]);
        }
    }
}

/// A service manager that has asked for it waits until it is told that this is ready again.
fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager cannot be told"),
    }
}
