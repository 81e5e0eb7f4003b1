//! A second reading of requests in HTTP/2 (RFC 9113), which shares no code with Pogo.

use super::reference::{Fields, Request, all, end_to_end, is_token, lossy, origin_form, trim};

/// A field whose name may be none.
pub type Field = (Vec<u8>, Vec<u8>);

/// A stream of HTTP/2 as it was sent.
#[derive(Clone, Default)]
pub struct Stream {
    pub fields: Vec<Field>,
    pub body: Vec<u8>,
    pub trailers: Vec<Field>,
    /// It was ended, and not reset or left as it was.
    pub ended: bool,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [("", &self.fields), ("trailer ", &self.trailers)];
        for (part, fields) in parts {
            for (name, value) in fields {
                writeln!(f, "{part}{}: {}", name.escape_ascii(), value.escape_ascii())?;
            }
        }
        write!(f, "{} ended: {}", self.body.escape_ascii(), self.ended)
    }
}

impl Stream {
    /// What a gateway may make of it (RFC 9113 §8.2, §8.3); none is what nobody may see whole.
    ///
    /// A gateway that does not hoard bodies cannot know what comes behind as many bytes as a head
    /// has announced: those make a request, whatever follows them.
    pub fn request(&self) -> Option<Request> {
        let (pseudo, fields) = self.heads()?;
        let one = |wanted: &[u8]| {
            let found = pseudo.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        };
        let (method, scheme, path) = (one(b":method")?, one(b":scheme")?, one(b":path")?);
        let named = one(b":authority");
        if pseudo.len() != 3 + named.iter().len() {
            return None;
        }
        // Pogo's reader drops the scheme where nothing but `host` names the host (docs/security.md).
        let spoken = named.is_none() || matches!(&scheme[..], b"http" | b"https");
        let authority = named.or_else(|| all(&fields, "host").next().map(<[u8]>::to_vec))?;
        let target = origin_form(&path).1;
        let said = lossy(&authority);
        let lawful = method.iter().all(is_token)
            && !matches!(&method[..], b"" | b"CONNECT" | b"TRACE")
            && spoken
            && !target.bytes().any(|byte| byte <= b' ' || byte == 0x7f)
            && (target.starts_with('/') || (target == "*" && method == b"OPTIONS"))
            && !said.is_empty()
            && said
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%[]".contains(&byte))
            && all(&fields, "host").all(|host| host.eq_ignore_ascii_case(&authority))
            && all(&fields, "host").count() <= 1
            && all(&fields, "te").all(|te| te.eq_ignore_ascii_case(b"trailers"));
        let body = self.body(&fields)?;
        let method = lossy(&method);
        let fields = end_to_end(&joined_cookies(fields));
        lawful.then_some(Request { method, target, host: Some(said), fields, body, lawful })
    }

    /// The same without what HTTP/2 forbids in a head and Pogo's reader forgets to refuse, though it
    /// drops it, when a frame of the head ends amid a field (docs/security.md).
    pub fn without_forbidden(&self) -> Self {
        let mut kept = Self { fields: Vec::new(), ..self.clone() };
        for (name, value) in &self.fields {
            let pseudo = name.starts_with(b":");
            let late = kept.fields.iter().any(|(other, _)| !other.starts_with(b":"));
            let again = kept.fields.iter().any(|(other, _)| other == name);
            let of_a_connection = OF_A_CONNECTION.contains(&&*lossy(name));
            let te = name == b"te" && value != b"trailers";
            if !(name.is_empty() || of_a_connection || te || (pseudo && (late || again))) {
                kept.fields.push((name.clone(), value.clone()));
            }
        }
        kept
    }

    /// The pseudo-fields, which are before all others, and the others.
    fn heads(&self) -> Option<(&[Field], Fields)> {
        let is_pseudo = |(name, _): &Field| name.starts_with(b":");
        let count = self.fields.iter().take_while(|field| is_pseudo(field)).count();
        let (pseudo, fields) = self.fields.split_at(count);
        Some((pseudo, fields_of(fields)?))
    }

    /// Whether the trailers are some. Pseudo-fields are none, and dropped, as docs/security.md
    /// admits: they set nothing.
    fn may_end(&self) -> bool {
        let pseudo = [&b":method"[..], b":scheme", b":authority", b":path", b":status"];
        let fields = self.trailers.iter().skip_while(|(name, _)| pseudo.contains(&&name[..]));
        fields_of(&fields.cloned().collect::<Vec<_>>()).is_some()
    }

    fn body(&self, fields: &Fields) -> Option<Vec<u8>> {
        let lengths: Vec<&[u8]> = all(fields, "content-length").collect();
        match lengths[..] {
            [] => (self.ended && self.may_end()).then(|| self.body.clone()),
            [length] if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
                let length = lossy(length).parse::<usize>().ok()?;
                self.body.get(..length).map(<[u8]>::to_vec)
            }
            _ => None,
        }
    }
}

const OF_A_CONNECTION: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Fields that HTTP/2 may carry.
fn fields_of(fields: &[Field]) -> Option<Fields> {
    let lawful = |(name, value): &Field| {
        let small = !name.is_empty()
            && name.iter().all(|byte| is_token(byte) && !byte.is_ascii_uppercase());
        let text = !value.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f);
        let name = lossy(name);
        (small && text && !OF_A_CONNECTION.contains(&&*name)).then(|| (name, trim(value).to_vec()))
    };
    fields.iter().map(lawful).collect()
}

/// RFC 9113 §8.2.3.
fn joined_cookies(fields: Fields) -> Fields {
    let cookies: Vec<Vec<u8>> = all(&fields, "cookie").map(<[u8]>::to_vec).collect();
    let mut fields: Fields = fields.into_iter().filter(|(name, _)| name != "cookie").collect();
    if !cookies.is_empty() {
        fields.push(("cookie".into(), cookies.join(&b"; "[..])));
    }
    fields
}
