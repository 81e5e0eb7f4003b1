//! Pogo under a tool that counts: system calls (`strace`) or the instructions of its own code (`valgrind`). Counts do not depend on
//! how busy the machine is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::conf::Front;
use crate::peer::{Server, free_address};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Strace,
    Callgrind,
}

/// What was counted over a whole run, from start to end.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) instructions: f64,
    pub(crate) receives: f64,
    pub(crate) sends: f64,
    /// Waits for something to happen.
    pub(crate) waits: f64,
    pub(crate) other_calls: f64,
}

/// A Pogo that is being counted.
pub(crate) struct Counted {
    server: Server,
    tool: Tool,
    output: PathBuf,
}

/// Views are fetched as soon as they may have changed, or waiting would be most of the run. Nobody is pinged: how often a socket would be
/// depends on how long the run takes, which under a tool that counts can be longer than the 30 seconds after which the first ping is due.
const CONFIGURATION: &str =
    "[views]\nmin_interval = \"0ms\"\n[websocket]\nping_interval = \"1h\"\n";

impl Counted {
    pub(crate) fn start(tool: Tool, pogo: &Path, upstream: &Server) -> io::Result<Self> {
        let address = free_address()?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let output = folder.join(format!("count-{}", address.port()));
        let mut command = match tool {
            Tool::Strace => {
                let mut strace = Command::new("strace");
                strace.args(["-f", "-c", "-U", "calls,name", "-o"]).arg(&output);
                strace
            }
            Tool::Callgrind => {
                let mut valgrind = Command::new("valgrind");
                let file = format!("--callgrind-out-file={}", output.display());
                valgrind.args(["--quiet", "--tool=callgrind", &file]);
                valgrind
            }
        };
        command.arg(pogo);
        let front = Front { address, upstream: upstream.address(), workers: 1, http2: false };
        Ok(Self { server: Server::pogo(command, &front, CONFIGURATION)?, tool, output })
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Ends Pogo, and with it the run.
    pub(crate) fn end(mut self) -> io::Result<Counts> {
        self.server.end()?;
        let text = fs::read_to_string(&self.output)?;
        fs::remove_file(&self.output)?;
        match self.tool {
            Tool::Strace => calls(&text),
            Tool::Callgrind => instructions(&text),
        }
    }
}

/// The lines of `strace -c`: a number and a name.
fn calls(text: &str) -> io::Result<Counts> {
    let mut counts = Counts::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(number), Some(name)) = (words.next(), words.next()) else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        let counter = match name {
            "total" => continue,
            "read" | "readv" | "recvfrom" | "recvmsg" => &mut counts.receives,
            "write" | "writev" | "sendto" | "sendmsg" => &mut counts.sends,
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => &mut counts.waits,
            _ => &mut counts.other_calls,
        };
        *counter += f64::from(number);
    }
    if counts == Counts::default() {
        return Err(io::Error::other("strace counted nothing; may it trace processes here?"));
    }
    Ok(counts)
}

fn instructions(text: &str) -> io::Result<Counts> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals:"));
    let total = line.and_then(|line| line.trim().parse::<f64>().ok());
    let instructions = total.ok_or_else(|| io::Error::other("callgrind counted nothing"))?;
    Ok(Counts { instructions, ..Counts::default() })
}

impl Counts {
    /// What each of `count` things took more.
    pub(crate) fn each(self, without: Self, count: usize) -> Self {
        let each = |more: f64, less: f64| (more - less) / count as f64;
        Self {
            instructions: each(self.instructions, without.instructions),
            receives: each(self.receives, without.receives),
            sends: each(self.sends, without.sends),
            waits: each(self.waits, without.waits),
            other_calls: each(self.other_calls, without.other_calls),
        }
    }
}
