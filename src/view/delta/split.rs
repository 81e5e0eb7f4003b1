//! The parts of an array or an object, as pieces of its text. The text is valid JSON; of one that is
//! not, something is made or nothing, and no more is looked at than there is.

use memchr::memchr2;

/// A member of an object.
pub(super) struct Member<'t> {
    /// With its quotation marks.
    pub(super) name: &'t str,
    pub(super) value: &'t str,
}

/// What stands between `[` and `]`.
pub(super) fn elements(text: &str) -> Option<Vec<&str>> {
    let mut rest = Rest { text, at: 1 };
    let mut elements = Vec::new();
    while rest.next_part(b']')? {
        elements.push(rest.value()?);
    }
    Some(elements)
}

/// What stands between `{` and `}`.
pub(super) fn members(text: &str) -> Option<Vec<Member<'_>>> {
    let mut rest = Rest { text, at: 1 };
    let mut members = Vec::new();
    while rest.next_part(b'}')? {
        let name = rest.value()?;
        rest.skip(|byte| is_space(byte) || byte == b':');
        members.push(Member { name, value: rest.value()? });
    }
    Some(members)
}

struct Rest<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Rest<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, what: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&what) {
            self.at += 1;
        }
    }

    /// Goes to the next part; false where there is none, but the end.
    fn next_part(&mut self, end: u8) -> Option<bool> {
        self.skip(|byte| is_space(byte) || byte == b',');
        self.peek().map(|byte| byte != end)
    }

    /// The value that begins here.
    fn value(&mut self) -> Option<&'t str> {
        let begin = self.at;
        match self.peek()? {
            b'"' => self.skip_string()?,
            b'{' | b'[' => self.skip_nested()?,
            _ => self.skip(|byte| !is_space(byte) && !matches!(byte, b',' | b'}' | b']')),
        }
        self.text.get(begin..self.at).filter(|value| !value.is_empty())
    }

    fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let bytes = self.text.as_bytes().get(self.at..)?;
            let found = memchr2(b'"', b'\\', bytes)?;
            self.at += found + 1;
            if bytes[found] == b'"' {
                return Some(());
            }
            self.at += 1;
        }
    }

    fn skip_nested(&mut self) -> Option<()> {
        let mut open = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return Some(());
            }
        }
    }
}

/// White space (RFC 8259 §2).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
