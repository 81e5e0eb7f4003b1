//! A listener that outlives its process: restarts that refuse nobody.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Api, Launch, PATIENCE, Wire};

/// Clients that open a connection for each request, one after the other, and take no refusal.
struct Load {
    answered: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(address: SocketAddr) -> Self {
        let (answered, enough) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let clients = (0..4).map(|_| {
            let (answered, enough) = (Arc::clone(&answered), Arc::clone(&enough));
            std::thread::spawn(move || {
                while !enough.load(Ordering::SeqCst) {
                    let mut wire = Wire::connect(address);
                    wire.send("GET /posts/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                    assert_eq!(wire.message().status(), 200);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        let clients = clients.collect();
        Self { answered, enough, clients }
    }

    /// Waits for so many more answers.
    fn go_on(&self, count: usize) {
        let (end, goal) = (Instant::now() + PATIENCE, self.answered.load(Ordering::SeqCst) + count);
        while self.answered.load(Ordering::SeqCst) < goal {
            assert!(Instant::now() < end, "no more answers come");
            std::thread::yield_now();
        }
    }

    fn end(self) {
        self.enough.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("every request is answered");
        }
    }
}

#[test]
fn no_connection_is_refused_while_the_program_is_restarted_on_an_inherited_listener() {
    let api = Api::start();
    api.put("/posts/1", json!({"n": 1}));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let launch = Launch { listener: Some(&listener), ..Launch::default() };
    let mut present = launch.before(api.address());
    assert_eq!(present.address(), address);
    let load = Load::on(address);
    for _ in 0..3 {
        load.go_on(50);
        present.signal("-TERM");
        let (log, code) = present.ended();
        assert_eq!(code, Some(0), "{log:?}");
        // Whoever connects now waits in the kernel's queue for the next one.
        present = launch.before(api.address());
    }
    load.go_on(50);
    load.end();
}

#[test]
fn the_service_manager_is_told_when_the_program_is_ready_and_when_it_stops() {
    let api = Api::start();
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("notify-{}", std::process::id()));
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let variables = [("NOTIFY_SOCKET", &*path)];
    let launch = Launch { listener: Some(&listener), variables: &variables, ..Launch::default() };
    let program = launch.before(api.address());
    let told = || {
        let mut bytes = [0; 256];
        let count = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).trim().to_owned()
    };
    assert_eq!(told(), "READY=1");
    program.signal("-TERM");
    assert_eq!(told(), "STOPPING=1");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_passed_in_socket_that_is_no_listener_is_refused() {
    let place = UnixDatagram::unbound().unwrap();
    let script = "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" --upstream http://127.0.0.1:1 3<&0";
    let output = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_pogo")])
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdin(std::os::fd::OwnedFd::from(place))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("a socket that was passed in is no TCP listener"), "{text}");
}
