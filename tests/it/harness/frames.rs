//! HTTP/2 by hand: every frame is the test's own.

use std::net::SocketAddr;

use super::Wire;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITY: u8 = 32;
pub const ACK: u8 = 1;

/// A connection after the preface and the client's settings.
pub struct Frames {
    wire: Wire,
}

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Answered(u16),
    Reset(u32),
    /// The whole connection ended, with this error.
    GoneAway(u32),
    Closed,
}

impl Fate {
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Answered(200..=399))
    }
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frames {
    pub fn connect(address: SocketAddr) -> Self {
        Self::with_settings(address, &[])
    }

    pub fn with_settings(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut wire = Wire::connect(address);
        wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut this = Self { wire };
        this.settings(settings);
        this
    }

    pub fn settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        self.send(SETTINGS, 0, 0, &payload);
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.wire.send(frame(kind, flags, stream, payload));
    }

    /// Sends as far as the other side still listens.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.wire.try_send(bytes).is_ok()
    }

    /// A request's head with all these fields, as they stand.
    pub fn head(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        self.send(HEADERS, flags | END_HEADERS, stream, &block(fields));
    }

    /// An ordinary GET.
    pub fn get(&mut self, stream: u32, path: &str) {
        self.head(stream, END_STREAM, &request("GET", path));
    }

    /// The next frame; none is the end.
    pub fn frame(&mut self) -> Option<Frame> {
        let head = self.wire.up_to(9);
        if head.len() < 9 {
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let payload = self.wire.up_to(length as usize);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Waits for the end of a stream's answer, or of the stream, or of all.
    pub fn fate(&mut self, stream: u32) -> Fate {
        let mut status = None;
        loop {
            let Some(frame) = self.frame() else { return Fate::Closed };
            match frame.kind {
                HEADERS if frame.stream == stream => {
                    status = status.or(Some(status_of(&frame.payload)));
                    if frame.flags & END_STREAM != 0 {
                        return Fate::Answered(status.unwrap());
                    }
                }
                DATA if frame.stream == stream && frame.flags & END_STREAM != 0 => {
                    return Fate::Answered(status.unwrap());
                }
                RST_STREAM if frame.stream == stream => return Fate::Reset(error(&frame.payload)),
                GOAWAY if error(&frame.payload[4..]) != 0 => {
                    return Fate::GoneAway(error(&frame.payload[4..]));
                }
                PING if frame.flags & ACK == 0 => self.send(PING, ACK, 0, &frame.payload),
                _ => {}
            }
        }
    }
}

fn error(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The pseudo-header fields of an ordinary request.
pub fn request<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path)]
}

/// Fields without compression (RFC 7541 §6.2.2).
pub fn block(fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_ref());
        string(&mut block, value.as_ref());
    }
    block
}

pub fn string(block: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        block.push(text.len() as u8);
    } else {
        block.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            block.push((rest % 128 + 128) as u8);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend(text);
}

/// The first field of an answer's head, as the encoder of the other side writes a first one.
fn status_of(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block[0] {
        index @ 0x88..=0x8e => INDEXED[usize::from(index - 0x88)],
        0x08 | 0x48 => {
            let length = usize::from(block[1] & 0x7f);
            let text = &block[2..2 + length];
            let digits = if block[1] & 0x80 == 0 { text.to_vec() } else { digits(text) };
            std::str::from_utf8(&digits).unwrap().parse().unwrap()
        }
        other => panic!("a head that begins with {other:#x}"),
    }
}

/// Three decimal digits in the Huffman code (RFC 7541 appendix B).
fn digits(code: &[u8]) -> Vec<u8> {
    let mut bits = code.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut take = |count: u8| (0..count).fold(0, |code, _| code << 1 | bits.next().unwrap_or(1));
    (0..3)
        .map(|_| match take(5) {
            code @ 0..=2 => b'0' + code,
            code => b'3' + ((code << 1 | take(1)) - 0x19),
        })
        .collect()
}
