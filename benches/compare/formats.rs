//! What a message weighs in each format, and compressed, and what it costs to write and to read it: `cargo bench -- formats`. In this
//! process and on this thread; no socket, no API.

use std::io::{self, Write};
use std::process;
use std::time::Duration;

use bytes::Bytes;
use pogo::protocol::deflate::{Dialect, Window};
use pogo::protocol::{Format, Outgoing, codec};
use pogo::session::inflate::Inflater;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cpu;

/// How long one measurement goes on; the processor's clock ticks far more often.
const LONG: Duration = Duration::from_millis(100);
/// Messages between two looks at the clock.
const BATCH: u32 = 32;

/// What is sent: its name, and its `data`.
type Sample = (&'static str, Box<RawValue>);

pub(crate) fn run(rounds: usize) -> io::Result<()> {
    let samples = samples()?;
    let mut out = io::stdout().lock();
    writeln!(out, "| `data` | format | bytes | ÷ JSON | to write | ÷ JSON | to read | ÷ JSON |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    for (name, data) in &samples {
        let (mut write, mut read) = (vec![Vec::new(); 4], vec![Vec::new(); 4]);
        for _ in 0..rounds {
            for (at, format) in Format::ALL.into_iter().enumerate() {
                write[at].push(cost(|| encoded(data, format).len())?);
                let message = payload(&encoded(data, format));
                read[at].push(cost(|| decoded(&message, format))?);
            }
        }
        let write: Vec<f64> = write.into_iter().map(median).collect();
        let read: Vec<f64> = read.into_iter().map(median).collect();
        let size = |format| payload(&encoded(data, format)).len();
        for (at, format) in Format::ALL.into_iter().enumerate() {
            writeln!(
                out,
                "| {} | `{}` | {} | {:.2} | {:.2} µs | {:.2} | {:.2} µs | {:.2} |",
                if at == 0 { name } else { "" },
                format.subprotocol(),
                size(format),
                size(format) as f64 / size(Format::Json) as f64,
                write[at] / 1e3,
                write[at] / write[0],
                read[at] / 1e3,
                read[at] / read[0],
            )?;
        }
    }
    writeln!(out)?;
    compressed(rounds, &samples, &mut out)
}

/// What is looked back on at most makes no difference to a message that is shorter.
const FORMATS: [Format; 2] = [Format::Json, Format::MsgPack];

fn compressed(rounds: usize, samples: &[Sample], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "| `data` | format | bytes | 32 KiB | ÷ | 4 KiB | ÷ | to compress | to decompress |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    let mut inflater = Inflater::default();
    for (name, data) in samples {
        for (at, format) in FORMATS.into_iter().enumerate() {
            let frame = encoded(data, format);
            let pack = |window| Dialect::deflating(format, window, 0).pack(frame.clone());
            let (full, small) = (pack(Window::Full), pack(Window::Small));
            let (plain, is_smaller) = (payload(&frame), full.len() < frame.len());
            let (mut write, mut read) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                write.push(cost(|| pack(Window::Full).len())?);
                let message = payload(&full);
                read.push(match is_smaller {
                    true => {
                        cost(|| inflater.inflate(&message, plain.len()).map_or(0, |it| it.len()))?
                    }
                    false => 0.0,
                });
            }
            let sizes = [&full, &small].map(|frame| payload(frame).len());
            writeln!(
                out,
                "| {} | `{}` | {} | {} | {:.2} | {} | {:.2} | {:.1} µs | {:.1} µs |",
                if at == 0 { name } else { "" },
                format.subprotocol(),
                plain.len(),
                sizes[0],
                sizes[0] as f64 / plain.len() as f64,
                sizes[1],
                sizes[1] as f64 / plain.len() as f64,
                median(write) / 1e3,
                median(read) / 1e3,
            )?;
        }
    }
    Ok(())
}

fn samples() -> io::Result<Vec<Sample>> {
    let item = |number: u64| {
        json!({
            "id": number, "title": format!("Item {number}, of middling length"), "done": number.is_multiple_of(3),
            "owner": {"id": number % 7, "name": "alice"}, "price": number as f64 * 1.25,
            "tags": ["red", "round"], "created": 1_700_000_000_000_u64 + number, "parent": null,
        })
    };
    let numbers: Vec<Value> = (0..1000_u64)
        .map(|n| if n.is_multiple_of(2) { json!(n * 37) } else { json!(n as f64 / 7.0) })
        .collect();
    let text = "Lorem ipsum dolor sit amet, \"consectetur\" adipiscing elit.\n".repeat(17);
    let samples = [
        ("null", Value::Null),
        ("an item", item(12)),
        ("100 items", (0..100).map(item).collect()),
        ("1,000 numbers", numbers.into()),
        ("1 KB of text", json!({"text": text})),
    ];
    let raw = |value: &Value| serde_json::value::to_raw_value(value).map_err(io::Error::other);
    samples.iter().map(|(name, value)| Ok((*name, raw(value)?))).collect()
}

/// A message that either side may send.
fn encoded(data: &RawValue, format: Format) -> Bytes {
    let message = Outgoing {
        event: Some("update"),
        uri: Some("/items/12"),
        data: Some(data),
        ..Outgoing::default()
    };
    codec::encode(&message, format)
}

/// What is in a frame without a mask.
fn payload(frame: &Bytes) -> Bytes {
    let head = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.slice(head..)
}

fn decoded(message: &[u8], format: Format) -> usize {
    let message = if format.is_binary() {
        codec::decode_binary(message, format).ok()
    } else {
        std::str::from_utf8(message).ok().and_then(|text| codec::decode(text, format).ok())
    };
    message.map_or(0, |message| message.event.len())
}

/// Nanoseconds on the processor, each time.
fn cost(mut once: impl FnMut() -> usize) -> io::Result<f64> {
    let (began, before) = (Instant::now(), cpu::nanoseconds(process::id())?);
    let mut times = 0_u32;
    while began.elapsed() < LONG {
        for _ in 0..BATCH {
            if std::hint::black_box(once()) == 0 {
                return Err(io::Error::other("nothing was written or read"));
            }
        }
        times += BATCH;
    }
    Ok((cpu::nanoseconds(process::id())? - before) as f64 / f64::from(times))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
