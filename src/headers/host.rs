//! What may stand in `Host`.

/// RFC 9110 §7.2: uri-host and port, without user information.
pub(super) fn is_host(host: &[u8]) -> bool {
    let (named, rest) = match host {
        [b'[', address @ ..] => {
            let end = address.iter().position(|&byte| byte == b']').unwrap_or(0);
            let lawful = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
            (end > 0 && address[..end].iter().all(lawful), address.get(end + 1..).unwrap_or(&[]))
        }
        _ => {
            let end = host.iter().position(|&byte| byte == b':').unwrap_or(host.len());
            (end > 0 && is_name(&host[..end]), &host[end..])
        }
    };
    named && (rest.is_empty() || (rest[0] == b':' && rest[1..].iter().all(u8::is_ascii_digit)))
}

/// What may stand in a name as it is (RFC 3986 §2.3, §2.2).
const NAMES: [bool; 256] = {
    let mut names = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        names[byte as usize] = matches!(
            byte,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~'
                | b'!' | b'$' | b'&'..=b',' | b';' | b'='
        );
        byte += 1;
    }
    names
};

/// RFC 3986 §3.2.2, reg-name.
fn is_name(mut name: &[u8]) -> bool {
    while let [byte, rest @ ..] = name {
        name = match (byte, rest) {
            (b'%', [high, low, rest @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest
            }
            (byte, rest) if NAMES[usize::from(*byte)] => rest,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_a_name_and_perhaps_a_port() {
        for host in
            ["a", "a:80", "a:", "A-b_c.example", "1.2.3.4:5", "[::1]", "[::1]:80", "a%2Db", "a,b"]
        {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "", ":80", "a:b", "a:1:2", "a:-1", "[::1", "[]", "[::1]x", "::1", "a@b", "a/b", "a b",
            "a%2", "a%zz", "\u{e9}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
