use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::Value;

/// A process may take longer to start and to end than a step of a conversation takes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// The program itself, with a configuration of its own, whose log is JSON.
pub struct Process {
    child: Child,
    directory: PathBuf,
    log: Receiver<Value>,
    address: SocketAddr,
}

impl Process {
    /// `configuration` has the sections besides `[log]`.
    pub fn start(upstream: SocketAddr, configuration: &str) -> Self {
        Self::begin(upstream, configuration, None, &[])
    }

    /// On a listener that the test has opened, as systemd passes one in.
    pub fn start_on(
        listener: &TcpListener,
        upstream: SocketAddr,
        variables: &[(&str, &str)],
    ) -> Self {
        let passed = listener.try_clone().unwrap();
        Self::begin(upstream, "", Some(passed.into()), variables)
    }

    fn begin(
        upstream: SocketAddr,
        configuration: &str,
        passed: Option<OwnedFd>,
        variables: &[(&str, &str)],
    ) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("process-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let text = format!(
            "listen = \"127.0.0.1:0\"\nupstream = \"http://{upstream}\"\nworkers = 2\n\
             [log]\nformat = \"json\"\naccess = true\n{configuration}"
        );
        std::fs::write(directory.join("pogo.toml"), text).unwrap();
        // The shell knows the number that its process will keep, and where descriptors go.
        let script = match passed {
            Some(_) => "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" 3<&0 </dev/null",
            None => "exec \"$0\"",
        };
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_pogo")]).current_dir(&directory);
        for variable in ["POGO_CONFIG", "POGO_UPSTREAM", "POGO_LISTEN", "NOTIFY_SOCKET"] {
            command.env_remove(variable);
        }
        command.envs(variables.iter().copied());
        command.stdin(passed.map_or(Stdio::null(), Stdio::from));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (send, log) = sync_channel(1 << 16);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                send.send(line)
            })
        });
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut this = Self { child, directory, log, address };
        this.address = this.address_of("listening");
        this
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a line with this message says under "address".
    pub fn address_of(&self, message: &str) -> SocketAddr {
        let line = self.line(message);
        line["address"].as_str().unwrap().parse().unwrap()
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

    pub fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Waits for the end; gives what was still logged, and the exit code.
    pub fn ended(&mut self) -> (Vec<Value>, Option<i32>) {
        let mut rest = Vec::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            rest.push(line);
        }
        (rest, self.child.wait().unwrap().code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
