//! The transcripts of `docs/http.md`, played.

use serde_json::json;

use crate::harness::{Api, Message, Pogo, Wire, start};

const PAGE: &str = include_str!("../../docs/http.md");

/// A response of which the lines are read one by one.
struct Response {
    head: Message,
    text: String,
    ended: bool,
}

impl Response {
    fn line(&mut self, wire: &mut Wire) -> String {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let (line, rest) = (line.trim_end_matches('\r').to_owned(), rest.to_owned());
                self.text = rest;
                return line;
            }
            if self.ended {
                return std::mem::take(&mut self.text);
            }
            let part = match self.head.one("content-length") {
                Some(length) => {
                    self.ended = true;
                    Some(wire.exactly(length.parse().unwrap()))
                }
                None => wire.chunk(),
            };
            self.ended |= part.is_none();
            self.text.push_str(std::str::from_utf8(&part.unwrap_or_default()).unwrap());
        }
    }
}

/// `…` stands for whatever follows.
fn fits(expected: &str, got: &str) -> bool {
    match expected.split_once('…') {
        Some((start, _)) => got.starts_with(start),
        None => expected == got,
    }
}

/// `> ` is the request, `< ` the answer, line by line, and `* ` what another client writes meanwhile.
fn replay(number: usize, lines: &[&str]) {
    let (api, pogo) = start(|_| ());
    api.put("/posts/1", json!({"title": "First"}));
    let (mut request, mut in_head, mut response) = (String::new(), true, None::<Response>);
    let mut wire = pogo.connect();
    let mut asked = 0;
    for (line, number) in lines.iter().zip(number + 1..) {
        let text = line.get(1..).unwrap_or_default().trim_start();
        match line.chars().next() {
            Some('>') => {
                request.push_str(text);
                request.push_str("\r\n");
                if text.is_empty() {
                    asked = api.seen("GET").len();
                    wire.send(std::mem::take(&mut request));
                    (response, in_head) = (None, true);
                }
            }
            Some('*') => write_meanwhile(&api, &pogo, text, asked + 1),
            Some('<') => {
                let answer = response.get_or_insert_with(|| {
                    let (head, text) = (wire.head(), String::new());
                    Response { head, text, ended: false }
                });
                if !in_head {
                    let got = answer.line(&mut wire);
                    assert!(fits(text, &got), "line {number}: {text:?}, but {got:?} came");
                } else if text.is_empty() {
                    in_head = false;
                } else if let Some((name, value)) = text.split_once(": ") {
                    let got = answer.head.all(name);
                    let is_there = got.iter().any(|got| fits(value, got));
                    assert!(is_there, "line {number}: {text:?}, but {got:?} came");
                } else {
                    // The reason is the API's own.
                    assert!(answer.head.start.starts_with(&text[..12]), "line {number}: {text}");
                }
            }
            _ => panic!("line {number} is neither said nor done: {line:?}"),
        }
    }
    assert!(response.is_some(), "line {number}: nothing was answered");
}

/// When the request before it has reached the API.
fn write_meanwhile(api: &Api, pogo: &Pogo, text: &str, asked: usize) {
    api.wait_seen("GET", asked);
    let (method, rest) = text.split_once(' ').unwrap();
    let (path, body) = rest.split_once(' ').unwrap_or((rest, "null"));
    let status = pogo.write(method, path, &serde_json::from_str(body).unwrap());
    assert!((200..300).contains(&status), "{text}: {status}");
}

#[test]
fn every_transcript_of_the_page_is_what_happens() {
    let (mut open, mut played) = (None::<(usize, Vec<&str>)>, 0);
    for (number, line) in PAGE.lines().enumerate() {
        match &mut open {
            None if line == "```transcript" => open = Some((number + 1, Vec::new())),
            None => {}
            Some((number, lines)) if line == "```" => {
                replay(*number, lines);
                (open, played) = (None, played + 1);
            }
            Some((_, lines)) => lines.push(line),
        }
    }
    assert!(open.is_none() && played >= 5, "{played} transcripts");
}
