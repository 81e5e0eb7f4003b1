//! Who may speak to the operators' listener, and under which name.

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, Uri};

use super::answer::Refusal;
use crate::gate::auth::Secret;

/// Refuses names that are not the listener's own: a page whose name its owner has pointed at this
/// address (DNS rebinding) is of the same origin as the listener to a browser. An address as a
/// name cannot be pointed anywhere.
pub(super) fn check_host(
    headers: &HeaderMap,
    target: &Uri,
    hosts: &[String],
) -> Result<(), Refusal> {
    let mut lines = headers.get_all(HOST).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(Refusal::bad_request("exactly one Host is needed"));
    };
    let named: Option<Authority> = line.to_str().ok().and_then(|text| text.parse().ok());
    let Some(named) = named else { return Err(Refusal::bad_request("Host is malformed")) };
    let names = [Some(&named), target.authority()];
    let good = names.into_iter().flatten().all(|authority| {
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        bare.parse::<IpAddr>().is_ok() || hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    });
    if good { Ok(()) } else { Err(Refusal::misdirected()) }
}

/// Takes as long whatever part of the token is right.
pub(super) fn check_token(headers: &HeaderMap, token: &Secret) -> Result<(), Refusal> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(Refusal::unauthorized());
    };
    let shown = line.as_bytes().split_at_checked(b"Bearer ".len());
    match shown {
        Some((scheme, shown))
            if scheme.eq_ignore_ascii_case(b"Bearer ")
                && verify_slices_are_equal(shown, token.expose()).is_ok() =>
        {
            Ok(())
        }
        _ => Err(Refusal::unauthorized()),
    }
}

pub(super) fn check_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next()).unwrap_or_default();
    match essence.trim().eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(Refusal::not_json()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &http::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_own_names_and_addresses_are_answered_to() {
        let hosts = ["localhost".to_owned(), "pogo.internal".to_owned()];
        let target: Uri = "/healthz".parse().unwrap();
        let of = |values: &[&str]| check_host(&headers(&HOST, values), &target, &hosts);
        for good in ["localhost", "LOCALHOST:9180", "pogo.internal", "127.0.0.1:9180", "[::1]:1"] {
            assert!(of(&[good]).is_ok(), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0x7f.1"] {
            assert_eq!(of(&[bad]).unwrap_err().status, 421, "{bad}");
        }
        for bad in [&[][..], &["a b"], &["localhost", "localhost"]] {
            assert_eq!(of(bad).unwrap_err().status, 400, "{bad:?}");
        }
        let target: Uri = "http://evil.example/healthz".parse().unwrap();
        assert!(check_host(&headers(&HOST, &["localhost"]), &target, &hosts).is_err());
    }

    #[test]
    fn only_the_whole_token_opens() {
        let token = Secret::new("correct horse battery");
        let of = |values: &[&str]| check_token(&headers(&AUTHORIZATION, values), &token);
        assert!(of(&["Bearer correct horse battery"]).is_ok());
        assert!(of(&["bearer correct horse battery"]).is_ok());
        for bad in [
            &[][..],
            &["correct horse battery"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer correct horse batter"],
            &["Bearer correct horse battery "],
            &["Bearer correct horse batterY"],
            &["Basic correct horse battery"],
            &["Bearer correct horse battery", "Bearer correct horse battery"],
        ] {
            assert_eq!(of(bad).unwrap_err().status, 401, "{bad:?}");
        }
    }
}
