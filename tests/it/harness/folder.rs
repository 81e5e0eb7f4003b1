use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of its own for each test, gone with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("program-{}-{count}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// How `pogo` ends in this folder: its exit code, what it printed and what it complained of.
    pub fn pogo(&self, arguments: &[&str]) -> (i32, String, String) {
        ended(&self.command(arguments).stdin(Stdio::null()).output().unwrap())
    }

    /// The same with a file of this folder as its input.
    pub fn pogo_reading(&self, name: &str, arguments: &[&str]) -> (i32, String, String) {
        let file = std::fs::File::open(self.0.join(name)).unwrap();
        ended(&self.command(arguments).stdin(file).output().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pogo"));
        command.args(arguments).current_dir(&self.0);
        for variable in ["POGO_CONFIG", "POGO_UPSTREAM", "POGO_LISTEN", "POGO_TOKEN"] {
            command.env_remove(variable);
        }
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn ended(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}
