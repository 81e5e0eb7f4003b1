//! The files that are followed as they change: the deny list, and the certificate with its key.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use super::Options;
use crate::deny_file::DenyFile;
use crate::gate::Gate;
use crate::tls::{self, Identity};
use crate::watched::LOOK;
use crate::worker::settings::invalid;

type Certificate = (tls::Pair, tls::Follower);
/// The file, and the gate that its list is for.
type Deny = (DenyFile, Arc<Gate>);

/// What is to be followed from now on.
#[derive(Debug)]
pub(super) enum Next<T> {
    /// What is followed now.
    Same,
    Other(Option<T>),
}

impl<T> Next<T> {
    fn take_place_of(self, present: &mut Option<T>) {
        if let Self::Other(next) = self {
            *present = next;
        }
    }
}

/// What is followed at one time.
#[derive(Debug, Default)]
struct Files {
    deny: Option<Deny>,
    certificate: Option<Certificate>,
}

impl Files {
    fn look(&mut self) {
        if let Some((file, gate)) = &mut self.deny {
            file.look(gate);
        }
        if let Some((_, certificate)) = &mut self.certificate {
            certificate.look();
        }
    }
}

/// Follows files on a thread of its own, where a slow disk holds up no client. There is a thread
/// once there is a file.
#[derive(Debug)]
pub(super) struct Following {
    files: Arc<Mutex<Files>>,
    thread: Mutex<Option<JoinHandle<io::Result<()>>>>,
    stop: CancellationToken,
}

impl Following {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { files: Arc::default(), thread: Mutex::default(), stop }
    }

    /// The certificate that `options` name, read, unless it is the one that is followed already;
    /// and what clients are shown of it. Blocks.
    pub(super) fn certificate(
        &self,
        options: &Options,
    ) -> io::Result<(Next<Certificate>, Option<Arc<Identity>>)> {
        let Some(pair) = &options.tls else { return Ok((Next::Other(None), None)) };
        if let Some((known, follower)) = &lock(&self.files).certificate
            && known == pair
        {
            return Ok((Next::Same, Some(follower.identity())));
        }
        let follower = tls::Follower::open(pair.clone()).map_err(invalid)?;
        let identity = follower.identity();
        Ok((Next::Other(Some((pair.clone(), follower))), Some(identity)))
    }

    /// The deny file that `options` name, read into the gate, unless it is the gate whose list is
    /// followed already. Blocks.
    pub(super) fn deny_file(&self, options: &Options, gate: &Arc<Gate>) -> io::Result<Next<Deny>> {
        let Some(path) = &options.gate.deny_file else { return Ok(Next::Other(None)) };
        if lock(&self.files).deny.as_ref().is_some_and(|(_, known)| Arc::ptr_eq(known, gate)) {
            return Ok(Next::Same);
        }
        let told = |error| invalid(format!("{}: {error}", path.display()));
        let file = DenyFile::open(path.clone(), gate).map_err(told)?;
        Ok(Next::Other(Some((file, Arc::clone(gate)))))
    }

    /// Follows these from now on.
    pub(super) fn take(&self, deny: Next<Deny>, certificate: Next<Certificate>) -> io::Result<()> {
        let mut files = lock(&self.files);
        deny.take_place_of(&mut files.deny);
        certificate.take_place_of(&mut files.certificate);
        let is_empty = files.deny.is_none() && files.certificate.is_none();
        drop(files);
        let mut thread = lock(&self.thread);
        if thread.is_none() && !is_empty {
            let (files, stop) = (Arc::clone(&self.files), self.stop.clone());
            let builder = std::thread::Builder::new().name("files".into());
            *thread = Some(builder.spawn(move || follow(&files, &stop))?);
        }
        Ok(())
    }

    /// Waits until nothing is followed any more, after everything was told to stop.
    pub(super) fn end(&self) -> io::Result<()> {
        let Some(thread) = lock(&self.thread).take() else { return Ok(()) };
        let failed = |_| Err(io::Error::other("the follower of files panicked"));
        thread.join().unwrap_or_else(failed)
    }
}

/// A panic leaves whole entries.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn follow(files: &Mutex<Files>, stop: &CancellationToken) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        while tokio::time::timeout(LOOK, stop.cancelled()).await.is_err() {
            lock(files).look();
        }
    });
    Ok(())
}
