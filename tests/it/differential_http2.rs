//! Whatever streams a client of HTTP/2 sends, the upstream sees, in HTTP/1.1, requests that the
//! client has sent, each once and whole; and no stream is given another's answer. What the client
//! has sent is what a reading of RFC 9113 that shares nothing with Pogo makes of it
//! (`harness/streams.rs`).

use std::cell::RefCell;
use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PADDED, PRIORITY,
    RST_STREAM, block, frame,
};
use crate::harness::reference::Request;
use crate::harness::streams::{Field, Stream};
use crate::harness::{Pogo, Recorder};

/// A stream, how it is cut into frames, and what is done to it.
#[derive(Debug, Clone)]
struct Plan {
    stream: Stream,
    /// Bytes of one frame of its body.
    piece: usize,
    /// Its head goes on in a second frame after so many bytes.
    cut: Option<u16>,
    padding: Option<u8>,
    priority: bool,
    damage: Vec<Damage>,
}

#[derive(Debug, Clone)]
enum Damage {
    /// Bytes, somewhere in the name of a field, or in its value.
    Insert(usize, bool, u8, &'static [u8]),
    Replace(usize, bool, u8, u8),
    Add(usize, &'static str, &'static str),
    Remove(usize),
    Repeat(usize),
    AddTrailer(&'static str, &'static str),
    Reset,
    Leave,
}

fn pair(name: &str, value: &str) -> Field {
    (name.into(), value.into())
}

/// One stream, lawful as it stands, whose target begins with `/CASE-NUMBER`.
fn plan(number: usize) -> impl Strategy<Value = Plan> {
    let method =
        prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "X"]);
    let target = prop::sample::select(vec!["/a?b", "/%2F//../c", "/d#e", "?", "", "/;x=\"y"]);
    let fields = prop::collection::vec(
        prop::sample::select(vec![
            ("x-a", "1"),
            ("x-a", "2"),
            ("x-b", "b, c"),
            ("x-empty", ""),
            ("cookie", "a=1"),
            ("cookie", "b=2; c=3"),
            ("te", "trailers"),
            ("content_length", "7"),
            ("x-forwarded-for", "1.2.3.4"),
            ("authorization", "b"),
            ("host", "a"),
            ("trailer", "x-t"),
            ("x-latin", "caf\u{e9}"),
        ]),
        0..5,
    );
    let body = (prop::collection::vec(b'a'..=b'z', 0..40), 1..20_usize, any::<(bool, bool)>());
    let cut = prop::option::of(any::<u16>());
    let shape = (cut, prop::option::of(any::<u8>()), any::<bool>());
    let damage = prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(damage(), 1..3)];
    (method, target, fields, body, shape, damage).prop_map(
        move |(method, target, mut fields, body, (cut, padding, priority), damage)| {
            let (body, piece, (says_length, trails)) = body;
            let mut hosts = 0;
            fields.retain(|(name, _)| *name != "host" || std::mem::replace(&mut hosts, 1) == 0);
            let path = format!("/{number}{target}");
            let pseudo =
                [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", &path)];
            let mut fields: Vec<Field> =
                pseudo.iter().chain(&fields).map(|(name, value)| pair(name, value)).collect();
            if says_length {
                fields.push(pair("content-length", &body.len().to_string()));
            }
            let trailers = if trails { vec![pair("x-t", "1")] } else { Vec::new() };
            let stream = Stream { fields, body, trailers, ended: true };
            Plan { stream, piece, cut, padding, priority, damage }
        },
    )
}

fn damage() -> impl Strategy<Value = Damage> {
    const BITS: [&[u8]; 14] = [
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"A",
        b"\xff",
        b"\x0b",
        b" HTTP/1.1\r\nHost: evil\r\n\r\n",
        b"\r\n\r\nGET /in HTTP/1.1\r\nHost: in\r\n\r\n",
        b"\r\ntransfer-encoding: chunked",
        b"#",
    ];
    const LINES: [(&str, &str); 22] = [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("content-length", "0"),
        ("content-length", "5"),
        ("content-length", "+5"),
        ("content-length", "5, 5"),
        ("content-length", "99999999999999999999"),
        ("connection", "x-a"),
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ("te", "gzip"),
        ("host", "b"),
        ("host", "a"),
        (":path", "/late"),
        (":authority", "b"),
        (":status", "200"),
        ("x\r\nhost", "evil"),
        ("Content-Length", "3"),
        ("", "x"),
    ];
    let at = any::<prop::sample::Index>().prop_map(|at| at.index(1 << 16));
    let at = || at.clone();
    let line = || prop::sample::select(LINES.to_vec());
    prop_oneof![
        3 => (at(), any::<bool>(), any::<u8>(), prop::sample::select(BITS.to_vec()))
            .prop_map(|(field, value, at, bits)| Damage::Insert(field, value, at, bits)),
        2 => (at(), any::<bool>(), any::<u8>(), any::<u8>())
            .prop_map(|(field, value, at, byte)| Damage::Replace(field, value, at, byte)),
        3 => (at(), line()).prop_map(|(at, (name, value))| Damage::Add(at, name, value)),
        1 => at().prop_map(Damage::Remove),
        1 => at().prop_map(Damage::Repeat),
        1 => line().prop_map(|(name, value)| Damage::AddTrailer(name, value)),
        1 => Just(Damage::Reset),
        1 => Just(Damage::Leave),
    ]
}

/// The stream as it is sent; whether it is reset at its end.
fn damaged(mut stream: Stream, damage: &[Damage]) -> (Stream, bool) {
    let mut reset = false;
    for damage in damage {
        let count = stream.fields.len();
        match *damage {
            Damage::Insert(field, value, at, bits) if count > 0 => {
                let text = text_of(&mut stream.fields[field % count], value);
                let at = usize::from(at) * text.len() / 255;
                text.splice(at..at, bits.iter().copied());
            }
            Damage::Replace(field, value, at, byte) if count > 0 => {
                let text = text_of(&mut stream.fields[field % count], value);
                let at = usize::from(at) * text.len() / 256;
                if let Some(place) = text.get_mut(at) {
                    *place = byte;
                }
            }
            Damage::Add(at, name, value) => {
                stream.fields.insert(at % (count + 1), pair(name, value))
            }
            Damage::Remove(at) if count > 0 => drop(stream.fields.remove(at % count)),
            Damage::Repeat(at) if count > 0 => {
                let field = stream.fields[at % count].clone();
                stream.fields.insert(at % count, field);
            }
            Damage::AddTrailer(name, value) => stream.trailers.push(pair(name, value)),
            Damage::Reset => (stream.ended, reset) = (false, true),
            Damage::Leave => stream.ended = false,
            Damage::Insert(..) | Damage::Replace(..) | Damage::Remove(_) | Damage::Repeat(_) => {}
        }
    }
    (stream, reset)
}

fn text_of(field: &mut Field, value: bool) -> &mut Vec<u8> {
    if value { &mut field.1 } else { &mut field.0 }
}

/// Its frames: those of its head, and the others.
fn frames_of(id: u32, plan: &Plan, stream: &Stream, reset: bool) -> (Vec<u8>, Vec<Vec<u8>>) {
    let Stream { fields, body, trailers, ended } = stream;
    let block_of = block(fields);
    let (mut flags, mut head) = (0, Vec::new());
    if let Some(padding) = plan.padding {
        flags |= PADDED;
        head.push(padding);
    }
    if plan.priority {
        flags |= PRIORITY;
        head.extend([0, 0, 0, 0, 9]);
    }
    if *ended && body.is_empty() && trailers.is_empty() {
        flags |= END_STREAM;
    }
    let cut = plan.cut.map(|cut| usize::from(cut) * block_of.len() / 65_536);
    let (first, second) = block_of.split_at(cut.unwrap_or(block_of.len()));
    head.extend(first);
    head.extend(vec![0; usize::from(plan.padding.unwrap_or(0))]);
    let head = match cut {
        None => frame(HEADERS, flags | END_HEADERS, id, &head),
        Some(_) => {
            let more = frame(CONTINUATION, END_HEADERS, id, second);
            [frame(HEADERS, flags, id, &head), more].concat()
        }
    };
    let mut rest = Vec::new();
    let pieces: Vec<&[u8]> = body.chunks(plan.piece).collect();
    for (at, piece) in pieces.iter().enumerate() {
        let last = *ended && trailers.is_empty() && at + 1 == pieces.len();
        rest.push(frame(DATA, if last { END_STREAM } else { 0 }, id, piece));
    }
    if *ended && !trailers.is_empty() {
        rest.push(frame(HEADERS, END_HEADERS | END_STREAM, id, &block(trailers)));
    }
    if reset {
        rest.push(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    (head, rest)
}

/// Heads in their order, then what follows them in turns.
fn interleaved(streams: Vec<(Vec<u8>, Vec<Vec<u8>>)>) -> Vec<u8> {
    let (heads, rests): (Vec<_>, Vec<_>) = streams.into_iter().unzip();
    let mut bytes = heads.concat();
    let most = rests.iter().map(Vec::len).max().unwrap_or(0);
    for turn in 0..most {
        bytes.extend(rests.iter().filter_map(|rest| rest.get(turn)).flatten());
    }
    bytes
}

/// The bodies of the answers of `streams`, once each has ended or the connection has.
fn answers(client: &mut Frames, mut streams: Vec<u32>) -> HashMap<u32, Vec<u8>> {
    let mut bodies = HashMap::<u32, Vec<u8>>::new();
    while !streams.is_empty() {
        let Some(frame) = client.frame() else { break };
        let ends = match frame.kind {
            DATA => {
                bodies.entry(frame.stream).or_default().extend(&frame.payload);
                frame.flags & END_STREAM != 0
            }
            HEADERS => frame.flags & END_STREAM != 0,
            RST_STREAM => true,
            GOAWAY if frame.payload[4..8] != [0; 4] => break,
            _ => false,
        };
        streams.retain(|stream| !(ends && *stream == frame.stream));
    }
    bodies
}

fn name_of(method: &str, target: &str) -> Vec<u8> {
    format!("{method} {target}").into_bytes()
}

/// Each request that was seen is one that was sent and not seen before.
fn judge(
    seen: Vec<Request>,
    sent: &mut Vec<Request>,
    streams: &[Stream],
) -> Result<(), TestCaseError> {
    for request in seen {
        let found = sent.iter().position(|other| *other == request);
        prop_assert!(found.is_some(), "the upstream saw {:?} of {:#?}", request, streams);
        found.map(|at| sent.swap_remove(at));
    }
    Ok(())
}

#[test]
fn the_upstream_sees_what_streams_were_and_none_gets_anothers_answer() {
    let api = Recorder::start();
    let pogo = Pogo::at(&api.address().to_string(), |_| ());
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config =
        Config { cases: cases.unwrap_or(200), failure_persistence: None, ..Config::default() };
    let plans = (plan(0), plan(1), plan(2)).prop_map(|(one, two, three)| [one, two, three]);
    let count = std::cell::Cell::new(0);
    // Of all cases, for what was given up may be seen late.
    let sent = RefCell::new(Vec::new());
    let outcome = TestRunner::new(config).run(&plans, |mut plans| {
        count.set(count.get() + 1);
        let (mut sent_now, mut frames, mut awaited, mut expected) =
            (Vec::new(), Vec::new(), Vec::new(), HashMap::new());
        for (id, plan) in [1, 3, 5].into_iter().zip(&mut plans) {
            // No two cases have a target in common.
            let path = &mut plan.stream.fields[3].1;
            path.splice(0..1, format!("/{}-", count.get()).into_bytes());
            let (stream, reset) = damaged(plan.stream.clone(), &plan.damage);
            frames.push(frames_of(id, plan, &stream, reset));
            if stream.ended {
                awaited.push(id);
            }
            let mut request = stream.request();
            if request.is_none() && plan.cut.is_some() {
                request = stream.without_forbidden().request();
            }
            if plan.damage.is_empty() {
                prop_assert!(request.is_some(), "{:?}", stream);
            }
            if let Some(request) = request {
                expected.insert(id, name_of(&request.method, &request.target));
                sent.borrow_mut().push(request);
            }
            sent_now.push(stream);
        }
        let mut client = Frames::connect(pogo.address());
        // Refused amid what is being sent is refused.
        client.try_send(&interleaved(frames));
        let bodies = answers(&mut client, awaited);
        for (id, body) in &bodies {
            let own = expected.get(id);
            let of_pogo = body.is_empty() || body.starts_with(b"{");
            prop_assert!(of_pogo || own == Some(body), "{:?} answered {:?}", own, body);
        }
        let seen = api.take();
        prop_assert_eq!(&seen.nonsense, &Vec::<String>::new());
        judge(seen.requests, &mut sent.borrow_mut(), &sent_now)?;
        if plans.iter().all(|plan| plan.damage.is_empty()) {
            for (id, name) in expected.iter().filter(|(_, name)| !name.starts_with(b"HEAD ")) {
                prop_assert_eq!(bodies.get(id), Some(name));
            }
        }
        // Nothing of it is left on a connection to the upstream.
        let probe = format!("/probe/{}", count.get());
        let mut client = Frames::connect(pogo.address());
        client.get(1, &probe);
        prop_assert_eq!(&answers(&mut client, vec![1])[&1], &name_of("GET", &probe));
        let mut seen = api.take();
        seen.requests.retain(|request| request.target != probe);
        judge(seen.requests, &mut sent.borrow_mut(), &sent_now)
    });
    if let Err(failed) = outcome {
        panic!("{failed}");
    }
}
