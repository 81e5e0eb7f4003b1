//! Which cores the measured server has, and which are left to the load and the API: so that nobody pays for the other's caches.

use std::fs;
use std::io;
use std::process::{self, Command, Stdio};

/// One core for each worker of the server, the rest for everybody else.
#[derive(Debug, Clone)]
pub(crate) struct Cores {
    server: String,
    rest: String,
    all: String,
}

impl Cores {
    /// Begins with this process off the server's cores. `None` where there is no core for each, or no `taskset`: then nothing is pinned.
    pub(crate) fn divide(workers: usize) -> io::Result<Option<Self>> {
        let all = allowed()?;
        let Some((server, rest)) = all.split_at_checked(workers) else { return Ok(None) };
        if rest.is_empty() {
            return Ok(None);
        }
        let cores = Self { server: list(server), rest: list(rest), all: list(&all) };
        Ok(cores.leave().then_some(cores))
    }

    /// Takes this process, and with it all that it starts, off the server's cores.
    pub(crate) fn leave(&self) -> bool {
        move_to(&self.rest)
    }

    /// Lets this process, and all that it starts, run anywhere.
    pub(crate) fn share(&self) -> bool {
        move_to(&self.all)
    }

    /// A command that runs `program` on the server's cores.
    pub(crate) fn command(cores: Option<&Self>, program: &str) -> Command {
        let Some(cores) = cores else { return Command::new(program) };
        let mut command = Command::new("taskset");
        command.args(["-c", &cores.server, program]);
        command
    }
}

fn move_to(cores: &str) -> bool {
    let mut ours = Command::new("taskset");
    ours.args(["-a", "-p", "-c", cores, &process::id().to_string()]);
    ours.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The cores that this process may run on; the kernel writes them as `0-3,8`.
fn allowed() -> io::Result<Vec<usize>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut cores = Vec::new();
    for range in line.unwrap_or_default().trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().map_err(io::Error::other);
        cores.extend(number(first)?..=number(last)?);
    }
    Ok(cores)
}
