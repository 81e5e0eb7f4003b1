use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use super::Wire;

/// A process may take longer to start and to end than a step of a conversation takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the program is to be started.
pub struct Launch<'a> {
    /// Sections of its configuration, besides `[log]`.
    pub configuration: &'a str,
    pub workers: usize,
    /// Files in its folder: names and texts.
    pub files: &'a [(&'a str, &'a str)],
    /// Most files that it may have open.
    pub descriptors: Option<u32>,
    /// A listener that the test has opened, passed in as systemd does.
    pub listener: Option<&'a TcpListener>,
    pub variables: &'a [(&'a str, &'a Path)],
    pub access_log: bool,
}

/// Pogo as a process of its own, in a folder of its own, whose log is JSON.
pub struct Process {
    child: Child,
    folder: PathBuf,
    log: Receiver<Value>,
    address: SocketAddr,
}

impl Default for Launch<'_> {
    fn default() -> Self {
        Self {
            configuration: "",
            workers: 2,
            files: &[],
            descriptors: None,
            listener: None,
            variables: &[],
            access_log: false,
        }
    }
}

impl Launch<'_> {
    /// The program before the API at this address, in the clear.
    pub fn before(&self, upstream: SocketAddr) -> Process {
        self.before_url(&format!("http://{upstream}"))
    }

    pub fn before_url(&self, upstream: &str) -> Process {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("process-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "listen = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\nworkers = {}\n\
             [log]\nformat = \"json\"\naccess = {}\n{}",
            self.workers, self.access_log, self.configuration
        );
        for (name, text) in self.files.iter().chain([&("pogo.toml", &*text)]) {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let mut child = self.command(&folder).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (send, log) = channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| {
                send.send(serde_json::from_str(&line).unwrap_or(Value::String(line)))
            })
        });
        let unbound = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Process { child, folder, log, address: unbound };
        process.address = process.address_of("listening");
        process
    }

    /// The shell knows the number that its process will keep, and where descriptors go.
    fn command(&self, folder: &Path) -> Command {
        let limit =
            self.descriptors.map_or(String::new(), |count| format!("ulimit -n {count} && "));
        let (passed, begin) = match self.listener {
            Some(listener) => (
                Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())),
                "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" 3<&0 </dev/null",
            ),
            None => (Stdio::null(), "exec \"$0\""),
        };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limit}{begin}"), env!("CARGO_BIN_EXE_pogo")]);
        command.current_dir(folder).stdin(passed);
        for variable in ["POGO_CONFIG", "POGO_UPSTREAM", "POGO_LISTEN", "NOTIFY_SOCKET"] {
            command.env_remove(variable);
        }
        command.envs(self.variables.iter().copied());
        command
    }
}

impl Process {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// Sends a request with a body, which may be empty.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Wire {
        let mut wire = self.connect();
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: api\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        wire
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What a line with this message says under "address".
    pub fn address_of(&self, message: &str) -> SocketAddr {
        let line = self.line(message);
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// The next line of the log; one that is no JSON is a text.
    #[track_caller]
    pub fn next_line(&self) -> Value {
        self.log.recv_timeout(PATIENCE).expect("a line comes")
    }

    /// The next line of the log with this message; those before are passed over.
    #[track_caller]
    pub fn line(&self, message: &str) -> Value {
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no line says {message:?}"));
            if line["message"] == message {
                return line;
            }
        }
    }

    /// What the kernel says of the process in this file.
    pub fn kernel(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }

    /// The processor time that it has used, in user and system, in clock ticks.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(self.kernel("stat")).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Sends it a signal, such as `-TERM`.
    pub fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Waits for the end; gives what was still logged, and the exit code.
    pub fn ended(&mut self) -> (Vec<Value>, Option<i32>) {
        let mut rest = Vec::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            rest.push(line);
        }
        (rest, self.wait().code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
