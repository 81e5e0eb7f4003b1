//! Which of a client's offers to compress messages is taken (RFC 7692 §5 and §7.1).

use http::{HeaderMap, HeaderValue, header};

use crate::protocol::deflate::Window;

/// Offers of one handshake that are looked at; with more, none is taken.
const MAX_OFFERS: usize = 16;

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    pub window: Window,
    /// The client asked for a window, so that it has to be told of one.
    told: bool,
}

impl Agreed {
    /// What the handshake is answered with. Neither side keeps anything of a message for the next:
    /// of what is sent, because it is sent to many; of what is received, because it is from many.
    pub fn answer(self) -> HeaderValue {
        HeaderValue::from_static(match (self.told, self.window) {
            (false, _) => {
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            }
            (true, Window::Small) => {
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=12"
            }
            (true, Window::Full) => {
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=15"
            }
        })
    }
}

/// The first offer that can be taken. An offer that cannot is passed over, and a field that has
/// not the form of one (RFC 6455 §9.1) is as good as none: without it, too, the two understand
/// each other.
pub fn negotiate(headers: &HeaderMap) -> Option<Agreed> {
    let mut agreed = None;
    let mut offers = 0;
    for line in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
        let mut rest = Rest(line.as_bytes());
        loop {
            // Of a list, elements may be empty (RFC 9110 §5.6.1).
            while rest.take(b',') {}
            if rest.is_done() {
                break;
            }
            offers += 1;
            if offers > MAX_OFFERS {
                return None;
            }
            let offer = rest.offer()?;
            agreed = agreed.or(offer);
        }
    }
    agreed
}

/// What is left to be read of a field.
struct Rest<'a>(&'a [u8]);

/// A parameter's value.
enum Given<'a> {
    Nothing,
    Value(&'a [u8]),
}

impl<'a> Rest<'a> {
    /// One extension with its parameters, up to the comma or the end: whether it is an offer that
    /// can be taken. `None` if it is not of that form.
    fn offer(&mut self) -> Option<Option<Agreed>> {
        let is_deflate = self.token()? == b"permessage-deflate";
        let mut offer = Offer::default();
        while self.take(b';') {
            let name = self.token()?;
            let given = if self.take(b'=') { Given::Value(self.value()?) } else { Given::Nothing };
            offer.add(name, &given);
        }
        if !self.is_done() && !self.take(b',') {
            return None;
        }
        Some(offer.judge().filter(|_| is_deflate))
    }

    fn is_done(&mut self) -> bool {
        self.0 = self.0.trim_ascii_start();
        self.0.is_empty()
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.0.trim_ascii_start().split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let bytes = self.0.trim_ascii_start();
        let end = bytes.iter().position(|byte| !is_of_token(*byte)).unwrap_or(bytes.len());
        let (token, rest) = bytes.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A token, or one in quotes. Nobody has to escape what may stand in a token, and who does is
    /// not understood.
    fn value(&mut self) -> Option<&'a [u8]> {
        if !self.take(b'"') {
            return self.token();
        }
        let mut escaped = false;
        let end = self.0.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        })?;
        let (value, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(value)
    }
}

/// RFC 9110 §5.6.2.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// One `permessage-deflate`, as far as it was read.
#[derive(Default)]
struct Offer {
    /// Of the four parameters, which were there.
    seen: [bool; 4],
    server_bits: Option<u8>,
    /// Has a parameter that is not known, was there already, or has a value that it may not have.
    is_bad: bool,
}

impl Offer {
    fn add(&mut self, name: &[u8], given: &Given<'_>) {
        let (at, is_good) = match (name, given) {
            (b"server_no_context_takeover", Given::Nothing) => (0, true),
            (b"client_no_context_takeover", Given::Nothing) => (1, true),
            (b"server_max_window_bits", Given::Value(value)) => {
                self.server_bits = bits(value);
                (2, self.server_bits.is_some())
            }
            // How much a client would like to keep is of no concern: it is told to keep nothing.
            (b"client_max_window_bits", Given::Nothing) => (3, true),
            (b"client_max_window_bits", Given::Value(value)) => (3, bits(value).is_some()),
            _ => (0, false),
        };
        self.is_bad |= !is_good || std::mem::replace(&mut self.seen[at], true);
    }

    fn judge(&self) -> Option<Agreed> {
        let window = match self.server_bits {
            None => Window::Full,
            Some(bits) => *Window::ALL.iter().rfind(|window| window.bits() <= bits)?,
        };
        (!self.is_bad).then_some(Agreed { window, told: self.server_bits.is_some() })
    }
}

/// From 8 to 15, without leading zeros (RFC 7692 §7.1.2.1).
fn bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn negotiated(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::SEC_WEBSOCKET_EXTENSIONS, line.parse().unwrap());
        }
        let answer = negotiate(&headers)?.answer();
        let answer = answer.to_str().unwrap();
        let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        Some(answer.strip_prefix(plain).expect("both").to_owned())
    }

    #[test]
    fn the_first_offer_that_can_be_taken_is() {
        let none = String::new();
        for (lines, rest) in [
            (&["permessage-deflate"][..], &none[..]),
            (&["permessage-deflate; client_max_window_bits"], ""),
            (&["permessage-deflate;client_max_window_bits=8"], ""),
            (&["permessage-deflate; client_no_context_takeover; server_no_context_takeover"], ""),
            (&["permessage-deflate; server_max_window_bits=15"], "; server_max_window_bits=15"),
            (&["permessage-deflate; server_max_window_bits=\"14\""], "; server_max_window_bits=12"),
            (
                &["permessage-deflate ; server_max_window_bits = 12 ;client_max_window_bits=12"],
                "; server_max_window_bits=12",
            ),
            (&["permessage-deflate; server_max_window_bits=10, permessage-deflate"], ""),
            (&["permessage-deflate; x", "permessage-deflate"], ""),
            (&["x-webkit-deflate-frame; y=\"a, b; \\\"c\", permessage-deflate"], ""),
            (&[" , ,permessage-deflate,, "], ""),
            (
                &["permessage-deflate; server_max_window_bits=13, permessage-deflate"],
                "; server_max_window_bits=12",
            ),
        ] {
            assert_eq!(negotiated(lines).as_deref(), Some(rest), "{lines:?}");
        }
    }

    #[test]
    fn an_offer_that_is_not_understood_to_the_letter_is_not_taken() {
        for parameter in [
            "server_max_window_bits",
            "server_max_window_bits=",
            "server_max_window_bits=7",
            "server_max_window_bits=8",
            "server_max_window_bits=11",
            "server_max_window_bits=16",
            "server_max_window_bits=012",
            "server_max_window_bits=+12",
            "server_max_window_bits=\"12",
            "server_max_window_bits=\"1\\2\"",
            "server_max_window_bits=12; server_max_window_bits=12",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=\"\"",
            "client_max_window_bits; client_max_window_bits=10",
            "server_no_context_takeover=true",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover=",
            "client_no_context_takeover; client_no_context_takeover",
            "mux",
            "Server_No_Context_Takeover",
            "",
            "=",
            "a b",
            "server_no_context_takeover client_no_context_takeover",
        ] {
            let line = format!("permessage-deflate; {parameter}");
            assert_eq!(negotiated(&[&line]), None, "{line}");
        }
        for line in ["", ",", "deflate", "permessage-bzip2", "permessage-deflate/", "a;, \"", ";"] {
            assert_eq!(negotiated(&[line]), None, "{line}");
        }
        // What has not the form of the field spoils it.
        assert_eq!(negotiated(&["permessage-deflate, @"]), None);
        assert_eq!(negotiated(&["permessage-deflate", "@"]), None);
    }

    #[test]
    fn so_many_offers_are_looked_at_and_no_more() {
        let offers = |count| vec!["x"; count].join(",") + ",permessage-deflate";
        assert!(negotiated(&[&offers(MAX_OFFERS - 1)]).is_some());
        assert!(negotiated(&[&offers(MAX_OFFERS)]).is_none());
        assert!(negotiated(&[&"permessage-deflate,".repeat(3000)]).is_none());
    }

    proptest! {
        #[test]
        fn any_field_is_an_offer_or_none(words in proptest::collection::vec(
            "permessage-deflate|[;,= \"]|server_max_window_bits|client_max_window_bits|1[0-9]|[a-z\\\\]|\
             server_no_context_takeover|client_no_context_takeover", 0..12)
        ) {
            let line = words.concat();
            if let Some(answer) = negotiated(&[&line]) {
                prop_assert!(line.contains("permessage-deflate"));
                // A window is named if the client named one, and no larger.
                if let Some(bits) = answer.strip_prefix("; server_max_window_bits=") {
                    prop_assert!(bits == "12" || bits == "15");
                    prop_assert!(line.contains("server_max_window_bits"));
                } else {
                    prop_assert_eq!(answer, "");
                }
            }
        }
    }
}
