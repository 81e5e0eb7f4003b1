//! The servers that are measured, each started as a process of its own.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::options::Options;

/// A server that does not listen by then has failed to start.
const START: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// The same frames written to the same number of sockets by a plain loop: what the kernel takes.
    Floor,
    Nginx,
    /// The least that a reverse proxy made of hyper does.
    PassThrough,
    Pogo,
}

impl Peer {
    pub(crate) fn is_installed(self) -> bool {
        self != Self::Nginx
            || Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok()
    }

    pub(crate) fn start(self, upstream: SocketAddr, options: &Options) -> io::Result<Server> {
        let workers = options.workers;
        match self {
            Self::Floor => Server::ourselves(&["floor"], workers),
            Self::PassThrough => {
                Server::ourselves(&["pass-through", &upstream.to_string()], workers)
            }
            Self::Nginx => Server::nginx(upstream, workers),
            Self::Pogo => Server::pogo(&options.pogo, upstream, workers),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Floor => "write() floor",
            Self::Nginx => "nginx",
            Self::PassThrough => "hyper pass-through",
            Self::Pogo => "Pogo",
        })
    }
}

/// The REST API that stands behind the others.
pub(crate) fn upstream() -> io::Result<Server> {
    Server::ourselves(&["upstream"], 1)
}

/// A running server; it ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    directory: Option<PathBuf>,
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// This program in another role. It says where it listens, and ends when its input does.
    fn ourselves(role: &[&str], workers: usize) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--workers", &workers.to_string()])
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, address, directory: None })
    }

    fn pogo(program: &Path, upstream: SocketAddr, workers: usize) -> io::Result<Self> {
        let address = free_address()?;
        let child = Command::new(program)
            .args(["--listen", &address.to_string()])
            .args(["--upstream", &format!("http://{upstream}")])
            .args(["--workers", &workers.to_string()])
            .stdout(Stdio::null())
            .spawn()?;
        Self { child, address, directory: None }.listening()
    }

    fn nginx(upstream: SocketAddr, workers: usize) -> io::Result<Self> {
        let address = free_address()?;
        let directory =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nginx-{}", address.port()));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("nginx.conf"), nginx_conf(address, upstream, workers))?;
        let child = nginx(&directory).stderr(Stdio::null()).spawn()?;
        Self { child, address, directory: Some(directory) }.listening()
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
}

impl Drop for Server {
    /// An error here means that the process or the directory is gone already.
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // Killing the master would leave nginx's workers behind.
            nginx(directory).args(["-s", "stop"]).stderr(Stdio::null()).status().ok();
        } else {
            self.child.kill().ok();
        }
        self.child.wait().ok();
        if let Some(directory) = &self.directory {
            fs::remove_dir_all(directory).ok();
        }
    }
}

/// For the servers that cannot say which port they were given.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn nginx(directory: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.arg("-p").arg(directory).args(["-c", "nginx.conf", "-e", "error.log"]);
    command
}

/// nginx as one would set it up to be fast: connections kept on both sides, no access log.
fn nginx_conf(address: SocketAddr, upstream: SocketAddr, workers: usize) -> String {
    format!(
        "daemon off;
worker_processes {workers};
pid nginx.pid;
error_log error.log crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 10000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream api {{ server {upstream}; keepalive 64; keepalive_requests 10000000; }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://api;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
}}
"
    )
}
