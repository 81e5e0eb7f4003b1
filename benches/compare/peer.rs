//! The servers that are measured, each started as a process of its own.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::conf::{self, Front};
use crate::cores::Cores;
use crate::cpu;
use crate::row::{Load, Requests, Row};
use crate::socket::Dialect;

/// A server that does not listen by then has failed to start; under a tool that counts, starting takes seconds.
const START: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Peer {
    Pogo,
    /// Pogo with two workers.
    PogoTwo,
    /// The same frames written to the same number of sockets by a plain loop: what the kernel takes.
    Floor,
    Nginx,
    Haproxy,
    Nchan,
    /// The least that a reverse proxy made of hyper does.
    PassThrough,
}

/// Where and how the servers are started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) upstream: SocketAddr,
    pub(crate) workers: usize,
    pub(crate) cores: Option<&'a Cores>,
    pub(crate) pogo: &'a Path,
}

impl Peer {
    pub(crate) const ALL: [Self; 7] = [
        Self::Pogo,
        Self::PogoTwo,
        Self::Floor,
        Self::Nginx,
        Self::Haproxy,
        Self::Nchan,
        Self::PassThrough,
    ];

    pub(crate) fn is_installed(self) -> bool {
        let runs = |program: &str| {
            let mut version = Command::new(program);
            version.arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        };
        match self {
            Self::Nginx => runs("nginx"),
            Self::Haproxy => runs("haproxy"),
            Self::Nchan => runs("nginx") && Path::new(conf::NCHAN).exists(),
            Self::Floor | Self::PassThrough | Self::Pogo | Self::PogoTwo => true,
        }
    }

    /// How a socket is bound to a URI.
    pub(crate) fn dialect(self) -> Dialect {
        if self == Self::Nchan { Dialect::Path } else { Dialect::Bind }
    }

    /// Asks the API for what was written; the others are told by the writer.
    pub(crate) fn fetches(self) -> bool {
        matches!(self, Self::Pogo | Self::PogoTwo)
    }

    pub(crate) fn start(self, row: Row, stage: &Stage<'_>) -> io::Result<Server> {
        let http2 = row.load == Load::Requests(Requests::Http2);
        let Stage { upstream, workers, cores, pogo } = *stage;
        let front = Front { address: free_address()?, upstream, workers, http2 };
        match self {
            Self::Floor => Server::ourselves(cores, &["floor"]),
            Self::PassThrough => {
                let workers = workers.to_string();
                let upstream = upstream.to_string();
                let mut role = vec!["pass-through", &upstream, "--workers", &workers];
                role.extend(http2.then_some("--http2"));
                Server::ourselves(cores, &role)
            }
            Self::Nginx => Server::nginx(cores, &front, &conf::nginx(&front)),
            Self::Nchan => Server::nginx(cores, &front, &conf::nchan(&front)),
            Self::Haproxy => Server::haproxy(cores, &front),
            Self::Pogo | Self::PogoTwo => {
                let workers = if self == Self::PogoTwo { 2 } else { workers };
                let program = Cores::command(cores, &pogo.to_string_lossy());
                Server::pogo(program, &Front { workers, ..front }, &configuration(row.load))
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Floor => "write() floor",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Nchan => "nchan",
            Self::PassThrough => "hyper pass-through",
            Self::Pogo => "Pogo",
            Self::PogoTwo => "Pogo, 2 workers",
        })
    }
}

/// The REST API that stands behind the others.
pub(crate) fn upstream() -> io::Result<Server> {
    Server::ourselves(None, &["upstream"])
}

/// A running server; it ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    directory: Option<PathBuf>,
    /// Its master leaves the workers behind when it is killed.
    has_master: bool,
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// This program in another role. It says where it listens, and ends when its input does.
    fn ourselves(cores: Option<&Cores>, role: &[&str]) -> io::Result<Self> {
        let mut child = Cores::command(cores, &std::env::current_exe()?.to_string_lossy())
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, address, directory: None, has_master: false })
    }

    /// Pogo, which `program` is, or runs, at its defaults but for what `configuration` says.
    pub(crate) fn pogo(
        mut program: Command,
        front: &Front,
        configuration: &str,
    ) -> io::Result<Self> {
        let directory = directory("pogo", front.address)?;
        let file = directory.join("pogo.toml");
        fs::write(&file, format!("{configuration}\n[log]\nlevel = \"warn\"\n"))?;
        let child = program
            .arg("--config")
            .arg(file)
            .args(["--listen", &front.address.to_string()])
            .args(["--upstream", &format!("http://{}", front.upstream)])
            .args(["--workers", &front.workers.to_string()])
            .stdout(Stdio::null())
            .spawn()?;
        let address = front.address;
        Self { child, address, directory: Some(directory), has_master: false }.listening()
    }

    fn nginx(cores: Option<&Cores>, front: &Front, configuration: &str) -> io::Result<Self> {
        let directory = directory("nginx", front.address)?;
        fs::write(directory.join("nginx.conf"), configuration)?;
        let child = nginx(cores, &directory).stderr(Stdio::null()).spawn()?;
        let address = front.address;
        Self { child, address, directory: Some(directory), has_master: true }.listening()
    }

    fn haproxy(cores: Option<&Cores>, front: &Front) -> io::Result<Self> {
        let directory = directory("haproxy", front.address)?;
        let file = directory.join("haproxy.cfg");
        fs::write(&file, conf::haproxy(front))?;
        let mut command = Cores::command(cores, "haproxy");
        command.args(["-db", "-q", "-f"]).arg(file);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let address = front.address;
        Self { child, address, directory: Some(directory), has_master: false }.listening()
    }

    fn listening(mut self) -> io::Result<Self> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the server ended at once: {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("the server does not listen"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(self)
    }

    /// Asks it to end, and waits until it has, for as long as it may take to start.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        // A tracer is not the one to be told; what pins it has become the server.
        let pids = cpu::tree(self.pid())?;
        let server = pids.last().map(ToString::to_string).unwrap_or_default();
        Command::new("kill").args(["-TERM", &server]).status()?;
        let deadline = Instant::now() + START;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(io::Error::other("the server does not end"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Server {
    /// An error here means that the process or the directory is gone already.
    fn drop(&mut self) {
        match &self.directory {
            Some(directory) if self.has_master => {
                let mut stop = nginx(None, directory);
                stop.args(["-s", "stop"]).stderr(Stdio::null()).status().ok();
            }
            _ => {
                self.child.kill().ok();
            }
        }
        self.child.wait().ok();
        if let Some(directory) = &self.directory {
            fs::remove_dir_all(directory).ok();
        }
    }
}

/// What Pogo is told beside its defaults.
fn configuration(load: Load) -> String {
    match load {
        // As many as there are descriptors for, and a few that come and go.
        Load::Idle(count) => format!("[limits]\nconnections = {}\n", count + 100),
        Load::Answers => "[websocket]\ncompression = true\n".to_owned(),
        Load::Requests(_) | Load::Kept(_) | Load::Events(_) => String::new(),
    }
}

/// For the servers that cannot say which port they were given.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A folder for a server's files, its own as long as its port is.
fn directory(name: &str, address: SocketAddr) -> io::Result<PathBuf> {
    let folder = format!("{name}-{}", address.port());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn nginx(cores: Option<&Cores>, directory: &Path) -> Command {
    let mut command = Cores::command(cores, "nginx");
    command.arg("-p").arg(directory).args(["-c", "nginx.conf", "-e", "error.log"]);
    command
}
