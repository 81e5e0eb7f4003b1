//! What is said to the next hop alone, which goes no further (RFC 9110 §7.6.1).

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, Entry,
    FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};

use super::Found;

const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

pub(super) fn no_te(_: &HeaderMap) -> bool {
    false
}

/// Whether the client takes trailers (RFC 9110 §10.1.4).
pub(super) fn te_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .any(|member| member.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// RFC 9110 §7.6.1.
pub(super) fn remove_hop_by_hop(
    headers: &mut HeaderMap,
    found: &Found,
    keep_te: fn(&HeaderMap) -> bool,
) {
    if found.connection
        && let Entry::Occupied(entry) = headers.entry(CONNECTION)
    {
        let mut nominated = Vec::new();
        for line in entry.iter() {
            nominations(line.as_bytes(), &mut nominated);
        }
        entry.remove_entry_mult();
        for name in nominated {
            headers.remove(name);
        }
    }
    if found.upgrade {
        headers.remove(UPGRADE);
    }
    if found.keep_alive {
        headers.remove("keep-alive");
    }
    if found.proxy_connection {
        headers.remove("proxy-connection");
    }
    if found.http2_settings {
        headers.remove("http2-settings");
    }
    if found.te {
        if keep_te(headers) {
            headers.insert(TE, TRAILERS);
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        } else {
            headers.remove(TE);
        }
    }
}

/// The fields that a `Connection` line names and that may be removed on its word.
fn nominations(line: &[u8], names: &mut Vec<HeaderName>) {
    for member in line.split(|&byte| byte == b',') {
        let member = member.trim_ascii();
        // Removed by name, whether it is named here or not.
        let known = [&b"keep-alive"[..], b"upgrade", b"te"];
        if known.iter().any(|known| member.eq_ignore_ascii_case(known)) {
            continue;
        }
        if let Ok(name) = HeaderName::from_bytes(member)
            && !relied_upon(&name)
        {
            names.push(name);
        }
    }
}

/// Fields that framing, authentication, caching or the upstream's picture of the client rest on.
fn relied_upon(name: &HeaderName) -> bool {
    [
        HOST,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        TRAILER,
        CONTENT_TYPE,
        CACHE_CONTROL,
        AUTHORIZATION,
        PROXY_AUTHORIZATION,
        PROXY_AUTHENTICATE,
        COOKIE,
        SET_COOKIE,
        FORWARDED,
        VIA,
    ]
    .contains(name)
        || name.as_str().starts_with("x-forwarded-")
}
