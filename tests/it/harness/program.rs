use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use super::{PATIENCE, Wire};

/// Pogo as a process of its own, in a folder of its own.
pub struct Program {
    child: Child,
    address: SocketAddr,
    log: Receiver<String>,
    folder: PathBuf,
}

impl Program {
    /// Runs `pogo` with these lines in its configuration, beside the files that are given, and with
    /// at most so many open files.
    pub fn start(config: &str, files: &[(&str, &str)], descriptors: Option<u32>) -> Self {
        Self::start_with(config, files, descriptors, &[])
    }

    /// The same, with these variables in its environment.
    pub fn start_with(
        config: &str,
        files: &[(&str, &str)],
        descriptors: Option<u32>,
        variables: &[(&str, &Path)],
    ) -> Self {
        let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let name = format!("pogo-program-{}-{}", std::process::id(), unique.as_nanos());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in files.iter().chain([&("pogo.toml", config)]) {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let limit = descriptors.map_or(String::new(), |count| format!("ulimit -n {count} && "));
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$0\" --listen 127.0.0.1:0")])
            .arg(env!("CARGO_BIN_EXE_pogo"))
            .current_dir(&folder)
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let unbound = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut program = Self { child, address: unbound, log, folder };
        let started = program.logged("listening");
        program.address = started["address"].as_str().unwrap().parse().unwrap();
        program
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.address)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The next line of the log, which must be JSON, with this message; waits for it.
    pub fn logged(&self, message: &str) -> Value {
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("{message:?} is not logged: {error}"));
            let line: Value = serde_json::from_str(&line).expect(&line);
            if line["message"] == message {
                return line;
            }
        }
    }

    /// The processor time that it has used, in user and system, in clock ticks.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}
