//! A second reading of HTTP/1.1 requests (RFC 9112), written without looking at the first: it shares
//! no code with Pogo, and takes nothing that the grammar does not have.

/// How much is forgiven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// What a recipient may do (RFC 9112 §2.2, §7.1): lines that end in LF, empty lines before a
    /// request, extensions of chunks, equal lengths.
    Tolerant,
    /// Nothing: there is one way to write what a gateway sends.
    Strict,
}

/// A request as it was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// In origin form.
    pub target: String,
    pub host: Option<String>,
    /// Names in small letters, in their order; those of one name in theirs.
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// A gateway may send it on.
    pub lawful: bool,
}

#[derive(Debug)]
pub enum Read {
    Whole {
        request: Request,
        length: usize,
    },
    /// The beginning of one, as far as can be seen.
    Part,
    No(&'static str),
}

pub type Fields = Vec<(String, Vec<u8>)>;

/// Reads the first request of `bytes`.
pub fn read(bytes: &[u8], reading: Reading) -> Read {
    let reader = Reader { bytes, at: 0, reading };
    match reader.request() {
        Ok((request, length)) => Read::Whole { request, length },
        Err(Stop::Part) => Read::Part,
        Err(Stop::No(why)) => Read::No(why),
    }
}

/// Reads all there are, up to what is none.
pub fn read_all(mut bytes: &[u8]) -> Vec<Request> {
    let mut requests = Vec::new();
    while let Read::Whole { request, length } = read(bytes, Reading::Tolerant) {
        requests.push(request);
        bytes = &bytes[length..];
    }
    requests
}

enum Stop {
    Part,
    No(&'static str),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    reading: Reading,
}

impl<'a> Reader<'a> {
    /// The next line, without its end.
    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or(Stop::Part)?;
        self.at += end + 1;
        let line = &rest[..end];
        let line = match line.strip_suffix(b"\r") {
            Some(line) => line,
            None if self.reading == Reading::Tolerant => line,
            None => return Err(Stop::No("a bare LF")),
        };
        if line.contains(&b'\r') { Err(Stop::No("a bare CR")) } else { Ok(line) }
    }

    fn exactly(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let end = self.at.checked_add(count).ok_or(Stop::No("too long"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Stop::Part)?;
        self.at = end;
        Ok(taken)
    }

    fn request(mut self) -> Result<(Request, usize), Stop> {
        let mut first = self.line()?;
        while first.is_empty() && self.reading == Reading::Tolerant {
            first = self.line()?;
        }
        let words: Vec<&[u8]> = first.split(|&byte| byte == b' ').collect();
        let [method, target, version] = words[..] else { return Err(Stop::No("first line")) };
        if method.is_empty() || !method.iter().all(is_token) {
            return Err(Stop::No("method"));
        }
        if target.is_empty() || target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return Err(Stop::No("target"));
        }
        let old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Stop::No("version")),
        };
        let fields = self.fields()?;
        let body = self.body(&fields, old)?;
        let method = String::from_utf8_lossy(method).into_owned();
        let (authority, target) = origin_form(target);
        let hosts: Vec<String> = all(&fields, "host").map(lossy).collect();
        let lawful = hosts.len() <= 1
            && (old || !hosts.is_empty())
            && !matches!(method.as_str(), "CONNECT" | "TRACE")
            && (target.starts_with('/') || (target == "*" && method == "OPTIONS"));
        let host = authority.or(hosts.into_iter().next());
        let fields = end_to_end(&fields);
        Ok((Request { method, target, host, fields, body, lawful }, self.at))
    }

    fn fields(&mut self) -> Result<Fields, Stop> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let colon = line.iter().position(|&byte| byte == b':').ok_or(Stop::No("no colon"))?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            if name.is_empty() || !name.iter().all(is_token) {
                return Err(Stop::No("name"));
            }
            if value.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
                return Err(Stop::No("value"));
            }
            fields.push((lossy(name).to_ascii_lowercase(), trim(value).to_vec()));
        }
    }

    fn body(&mut self, fields: &Fields, old: bool) -> Result<Vec<u8>, Stop> {
        let codings: Vec<&[u8]> = all(fields, "transfer-encoding").collect();
        let lengths: Vec<&[u8]> = all(fields, "content-length").collect();
        let strict = self.reading == Reading::Strict;
        if strict && codings.len() + lengths.len() > 1 {
            return Err(Stop::No("two lengths"));
        }
        match (&codings[..], &lengths[..]) {
            ([], []) => Ok(Vec::new()),
            ([], [first, rest @ ..]) => {
                if first.is_empty() || !first.iter().all(u8::is_ascii_digit) {
                    return Err(Stop::No("length"));
                }
                let number = |text: &[u8]| lossy(text).parse::<usize>().ok();
                let length = number(first).ok_or(Stop::No("length"))?;
                if rest.iter().any(|other| number(other) != Some(length)) {
                    return Err(Stop::No("lengths"));
                }
                self.exactly(length).map(<[u8]>::to_vec)
            }
            ([coding], _) if coding.eq_ignore_ascii_case(b"chunked") && !old => self.chunks(),
            _ => Err(Stop::No("coding")),
        }
    }

    /// Trailers end with an empty line that ends in CRLF. What stands behind one that ends in LF is
    /// read by nobody, as docs/security.md admits.
    fn trailers(&mut self) -> Result<(), Stop> {
        let begin = self.at;
        loop {
            let rest = &self.bytes[self.at..];
            let end = rest.iter().position(|&byte| byte == b'\r').ok_or(Stop::Part)?;
            match rest.get(end + 1) {
                None => return Err(Stop::Part),
                Some(b'\n') => self.at += end + 2,
                Some(_) => return Err(Stop::No("a bare CR")),
            }
            if end == 0 {
                let bytes = &self.bytes[begin..self.at];
                return Reader { bytes, at: 0, reading: self.reading }.fields().map(drop);
            }
        }
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Stop> {
        let strict = self.reading == Reading::Strict;
        let mut body = Vec::new();
        loop {
            let before = self.at;
            let line = self.line()?;
            // Here a bare LF is forgiven by nobody.
            if self.bytes[before..self.at].len() != line.len() + 2 {
                return Err(Stop::No("a bare LF"));
            }
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let (digits, rest) = line.split_at(digits);
            let size = u64::from_str_radix(&lossy(digits), 16).map_err(|_| Stop::No("size"))?;
            let extension = trim(rest);
            if !(rest.is_empty() || (!strict && (extension.is_empty() || extension[0] == b';'))) {
                return Err(Stop::No("size"));
            }
            if size == 0 {
                self.trailers()?;
                return Ok(body);
            }
            body.extend(self.exactly(usize::try_from(size).map_err(|_| Stop::No("size"))?)?);
            match self.bytes.get(self.at..self.at + 2) {
                Some(b"\r\n") => self.at += 2,
                None if self.bytes[self.at..].is_empty() => return Err(Stop::Part),
                None if self.bytes[self.at] == b'\r' => return Err(Stop::Part),
                _ => return Err(Stop::No("the end of a chunk")),
            }
        }
    }
}

/// RFC 9112 §3.2: what an absolute form says about the host, and the rest. There is no fragment.
pub(super) fn origin_form(target: &[u8]) -> (Option<String>, String) {
    let target = target.split(|&byte| byte == b'#').next().unwrap_or_default();
    let target = lossy(target);
    let Some((scheme, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else {
        return (None, target);
    };
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return (None, target);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let slash = if path.starts_with('/') { "" } else { "/" };
    (Some(authority.to_owned()), format!("{slash}{path}"))
}

/// What is not of this connection, nor of a gateway's to say.
pub(super) fn end_to_end(fields: &Fields) -> Fields {
    let mut dropped: Vec<String> = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "content-length",
        "host",
        "via",
        "expect",
        "max-forwards",
        "forwarded",
        "x-real-ip",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
    ]
    .map(String::from)
    .to_vec();
    let nominated = all(fields, "connection")
        .flat_map(|line| line.split(|&byte| byte == b','))
        .map(|name| lossy(trim(name)).to_ascii_lowercase());
    let kept = ["content-type", "cache-control", "authorization", "cookie", "trailer"];
    dropped.extend(nominated.filter(|name| !kept.contains(&name.as_str())));
    let mut fields: Fields =
        fields.iter().filter(|(name, _)| !dropped.contains(name)).cloned().collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

pub(super) fn all<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_slice())
}

pub(super) fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

pub(super) fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(begin, |last| last + 1);
    &value[begin..end]
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
