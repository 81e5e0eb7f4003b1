//! Pogo in a program of one's own: handlers that are closures, what they may do wrong, and the example.

use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pogo::protocol::ErrorCode;
use pogo::server::Unannounced;
use pogo::{Event, HandlerError, Pogo};
use serde_json::{Value, json};

use crate::harness::{Api, Socket};

#[allow(dead_code, reason = "its main is not called here")]
#[path = "../../examples/embed.rs"]
mod example;

fn before(api: &Api) -> pogo::embed::Builder {
    Pogo::builder()
        .upstream(&format!("http://{}", api.address()))
        .listen("127.0.0.1:0")
        .configure(|options| options.workers = 2)
}

fn open(pogo: &Pogo, path: &str) -> Socket {
    let headers = [("authorization", "Bearer ann"), ("cookie", "a=b")];
    Socket::try_open(pogo.address(), path, &headers).expect("the handshake succeeds")
}

#[test]
fn the_example_counts_and_tells_everybody() {
    let api = Api::start();
    let pogo = example::start(&format!("http://{}", api.address()), "127.0.0.1:0").unwrap();
    let mut watcher = open(&pogo, "/analytics");
    watcher.must(json!({"event": "channel:subscribe", "channel": "views"}));
    let mut visitor = open(&pogo, "/");
    let track =
        |page: Value| json!({"event": "track", "namespace": "/analytics", "data": {"page": page}});
    assert_eq!(visitor.error(track(json!("/about"))), "conflict");
    visitor.must(json!({"event": "pogo:connect", "namespace": "/analytics"}));
    for views in [1, 2] {
        let data = json!({"page": "/about", "views": views});
        assert_eq!(visitor.must(track(json!("/about")))["data"], data);
        let viewed =
            json!({"event": "viewed", "channel": "views", "namespace": "/analytics", "data": data});
        assert_eq!(watcher.event(), viewed);
    }
    assert_eq!(visitor.error(track(json!(7))), "bad_request");
    assert_eq!(watcher.must(json!({"event": "report"}))["data"], json!({"/about": 2}));
    assert_eq!(visitor.error(json!({"event": "report"})), "unknown_event");
    pogo.drain().unwrap();
}

#[test]
fn a_handler_knows_who_asks_and_what() {
    let api = Api::start();
    let pogo = before(&api)
        .on("who", |event: Event| async move {
            let credential = |name| event.credential(name).map(|it| it.to_str().unwrap().to_owned());
            Ok(json!({
                "name": event.name,
                "namespace": event.namespace,
                "id": event.id.as_ref().map(|id| id.get()),
                "data": event.text(),
                "client": event.client.to_string(),
                "authenticated": event.authenticated,
                "credentials": [credential("Authorization"), credential("cookie"), credential("host")],
            }))
        })
        .on("nothing", |_| async { Ok(()) })
        .on("refused", |_| async {
            let refusal = HandlerError::new(ErrorCode::Forbidden, "not you");
            Err::<(), _>(refusal.with_data(&json!({"ask": "bob"})))
        })
        .start()
        .unwrap();
    let mut socket = open(&pogo, "/");
    let answer = socket.must(json!({"event": "who", "data": {"a": 1}}));
    let known = json!({
        "name": "who", "namespace": "/", "id": "1", "data": "{\"a\":1}", "client": "127.0.0.1",
        "authenticated": false, "credentials": ["Bearer ann", "a=b", null],
    });
    assert_eq!(answer["data"], known);
    assert_eq!(socket.must(json!({"event": "nothing"})).as_object().unwrap().len(), 2);
    let error = socket.ask(json!({"event": "refused"}))["error"].clone();
    let refused = json!({"code": "forbidden", "message": "not you", "data": {"ask": "bob"}});
    assert_eq!(error, refused);
    // It is no request to the API.
    assert!(api.seen("").is_empty());
}

#[test]
fn a_handler_that_panics_answers_an_error_and_the_next_is_served() {
    let pogo = before(&Api::start())
        .on("panic", |event: Event| async move {
            assert!(event.text() == "\"fine\"", "as the test wants it");
            Ok(())
        })
        .start()
        .unwrap();
    let mut socket = open(&pogo, "/");
    for _ in 0..2 {
        assert_eq!(socket.error(json!({"event": "panic"})), "upstream_error");
    }
    socket.must(json!({"event": "panic", "data": "fine"}));
    pogo.drain().unwrap();
}

#[test]
fn a_handler_that_blocks_or_hangs_answers_an_error_and_holds_up_no_worker() {
    let api = Api::start();
    api.put("/posts/1", json!(1));
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let pogo = before(&api)
        .configure(|options| options.workers = 1)
        .handler_timeout(Duration::from_millis(50))
        .on("hang", |_| std::future::pending::<Result<(), HandlerError>>())
        .on("block", move |_| {
            let held = Arc::clone(&held);
            async move {
                let _ended = held.lock().unwrap().recv();
                Ok(())
            }
        })
        .start()
        .unwrap();
    let mut socket = open(&pogo, "/");
    assert_eq!(socket.error(json!({"event": "hang"})), "upstream_timeout");
    // One that blocks its thread keeps the others from it, and no worker.
    socket.send(&json!({"id": 100, "event": "block"}));
    let mut other = open(&pogo, "/");
    other.bind("/posts/1");
    assert_eq!(socket.answer(100)["error"]["code"], "upstream_timeout");
    // Even the end of it all does not wait for it.
    pogo.drain().unwrap();
    drop(release);
}

#[test]
fn the_program_publishes_and_says_what_has_changed() {
    let api = Api::start();
    api.put("/posts/1", json!(1));
    let pogo = before(&api).namespace("/a", |ns| ns).start().unwrap();
    let mut sockets: Vec<_> = (0..6).map(|_| open(&pogo, "/")).collect();
    for socket in &mut sockets {
        socket.bind("/posts/1");
        socket.must(json!({"event": "pogo:connect", "namespace": "/a"}));
        for space in ["/", "/a"] {
            socket.must(json!({"event": "channel:subscribe", "channel": "c", "namespace": space}));
        }
    }
    api.put("/posts/1", json!(2));
    pogo.changed(["/posts/1"]).unwrap();
    for socket in &mut sockets {
        assert_eq!(socket.event(), json!({"event": "update", "uri": "/posts/1", "data": 2}));
    }
    pogo.publish("c", "hello", &json!([1])).unwrap();
    let handle = pogo.handle();
    std::thread::spawn(move || handle.publish_in("/a", "c", "hello", &json!([2])))
        .join()
        .unwrap()
        .unwrap();
    for socket in &mut sockets {
        assert_eq!(socket.event(), json!({"event": "hello", "channel": "c", "data": [1]}));
        let other = json!({"event": "hello", "channel": "c", "namespace": "/a", "data": [2]});
        assert_eq!(socket.event(), other);
        socket.assert_silent();
    }
    let handle = pogo.handle();
    api.put("/posts/1", json!(3));
    handle.changed_in("/a", ["/posts/1"]).unwrap();
    for socket in &mut sockets {
        assert_eq!(socket.event()["data"], 3);
    }
    let unknown = Unannounced::NoNamespace("/b".into());
    assert_eq!(handle.changed_in("/b", ["/posts/1"]), Err(unknown));
    let bad_uri = Unannounced::BadUri("x".into());
    assert_eq!(handle.changed(["/a", "x"]), Err(bad_uri));
    assert_eq!(handle.changed(vec!["/a"; 1001]), Err(Unannounced::TooMany));
    for (space, channel, event, why) in [
        ("/b", "c", "e", Unannounced::NoNamespace("/b".into())),
        ("/", "", "e", Unannounced::BadChannel),
        ("/", "\0/a\0c", "e", Unannounced::BadChannel),
        ("/", "c", "pogo:connect", Unannounced::BadEvent),
        ("/", "c", "ping", Unannounced::BadEvent),
        ("/", "c", "", Unannounced::BadEvent),
    ] {
        assert_eq!(handle.publish_in(space, channel, event, &1), Err(why));
    }
    pogo.drain().unwrap();
    assert_eq!(handle.publish("c", "e", &1), Err(Unannounced::NotRunning));
}

#[test]
fn handlers_run_on_the_programs_own_runtime_and_a_drain_waits_for_them() {
    let api = Api::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let here = std::thread::current().id();
        let (begun, mut begins) = tokio::sync::mpsc::channel(1);
        let go_on = Arc::new(tokio::sync::Notify::new());
        let goes_on = Arc::clone(&go_on);
        let builder = before(&api).on("slow", move |_| {
            let (begun, goes_on) = (begun.clone(), Arc::clone(&goes_on));
            async move {
                begun.send(std::thread::current().id() == here).await.unwrap();
                goes_on.notified().await;
                Ok("done")
            }
        });
        let pogo = builder.start().unwrap();
        let address = pogo.address();
        let client = std::thread::spawn(move || {
            let stream = TcpStream::connect(address).unwrap();
            let mut socket = Socket::try_open_on(stream, "/", &[]).unwrap();
            let answer = socket.must(json!({"event": "slow"}));
            (answer["data"].clone(), socket.closed().0)
        });
        assert_eq!(begins.recv().await, Some(true));
        let mut drained = std::pin::pin!(pogo.drained());
        tokio::select! {
            biased;
            _ = &mut drained => panic!("it did not wait"),
            () = tokio::task::yield_now() => go_on.notify_one(),
        }
        drained.await.unwrap();
        assert_eq!(client.join().unwrap(), (json!("done"), 1001));
    });
}

#[test]
fn a_reload_keeps_the_handlers() {
    let api = Api::start();
    let pogo = before(&api).on("count", |_| async { Ok(1) }).start().unwrap();
    let mut socket = open(&pogo, "/");
    assert_eq!(socket.must(json!({"event": "count"}))["data"], 1);
    let mut options = pogo::server::Options { workers: 2, ..Default::default() };
    options.upstream.origin = api.address().to_string().parse().unwrap();
    options.listen.set_port(0);
    options.session.bindings = 0;
    pogo.reload(options).unwrap();
    assert_eq!(socket.must(json!({"event": "count"}))["data"], 1);
    assert_eq!(socket.error(json!({"event": "bind", "uri": "/posts/1"})), "limit_exceeded");
    assert!(api.seen("GET").is_empty());
}
