//! `pogo explain`: what is told of a URI is what a running Pogo does with it.

use serde_json::{Value, json};

use crate::harness::Folder;

const CONFIGURATION: &str = r#"
upstream = "http://127.0.0.1:1"
[auth]
header = "x-api-key"
scheme = ""
recheck = "5m"
[[route]]
path = "/users/{id}"
affects = ["/teams/{id}", "/me"]
poll = "5s"
settle = ["250ms"]
rate = "50/s"
ttl = "1h"
[[route]]
path = "/users/{id}/log"
affects_only = ["/stats"]
[[route]]
path = "/{*rest}"
min_interval = "1s"
[[route]]
path = "/silent"
realtime = false
[[route]]
path = "/news/{id}"
visibility = "public"
push = "notify"
[[namespace]]
name = "/a"
[[namespace.route]]
path = "/users/{id}"
ttl = "5m"
[[namespace]]
name = "/b"
[[namespace]]
name = "/c"
upstream = "http://127.0.0.1:2"
"#;

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("pogo.toml", CONFIGURATION);
    folder
}

#[track_caller]
fn explained(arguments: &[&str]) -> Value {
    let folder = folder();
    let (code, out, err) = folder.pogo(&[&["explain", "--json"], arguments].concat());
    assert_eq!((code, &*err), (0, ""), "{out}");
    serde_json::from_str(&out).unwrap()
}

/// Whether writes there touch it, and why.
#[track_caller]
fn writes(explained: &Value, at: &str) -> (bool, String) {
    let sources = explained["touched_by"].as_array().unwrap();
    let found = sources.iter().find(|it| it["at"] == at);
    let found = found.unwrap_or_else(|| panic!("{at} is not in {explained}"));
    (found["touches"].as_bool().unwrap(), found["why"].as_str().unwrap().to_owned())
}

#[test]
fn the_rule_of_a_uri_is_told_with_those_that_it_wins_over_and_what_it_comes_to() {
    let it = explained(&["/%75sers/7?full=1"]);
    assert_eq!(it["canonical"], "/users/7?full=1");
    assert_eq!((&it["bindable"], &it["path"]), (&json!(true), &json!("/users/7")));
    let rule = &it["rule"];
    assert_eq!(rule["pattern"], "/users/{id}");
    assert_eq!(rule["parameters"], json!({"id": "7"}));
    assert_eq!(rule["others"], json!(["/{*rest}"]));
    assert_eq!(
        (&rule["min_interval"], &rule["poll"], &rule["settle"], &rule["rate"], &rule["recheck"]),
        (&json!("100ms"), &json!("5s"), &json!(["250ms"]), &json!("50/s"), &json!("5m"))
    );
    assert_eq!(rule["ttl"], "1h");
    let it = explained(&["/elsewhere"]);
    assert_eq!(it["rule"]["ttl"], Value::Null);
    assert_eq!(
        (&it["rule"]["pattern"], &it["rule"]["min_interval"]),
        (&json!("/{*rest}"), &json!("1s"))
    );
    assert_eq!(explained(&["/"])["rule"]["pattern"], Value::Null);
}

#[test]
fn a_namespace_is_told_of_by_the_routes_that_hold_in_it() {
    let ttl_and_poll = |namespace: &str| {
        let it = explained(&["/users/7", "--namespace", namespace]);
        (it["rule"]["ttl"].clone(), it["rule"]["poll"].clone())
    };
    assert_eq!(ttl_and_poll("/a"), (json!("5m"), Value::Null));
    for name in ["/", "/b"] {
        assert_eq!(ttl_and_poll(name), (json!("1h"), json!("5s")), "{name}");
    }
    assert_eq!(ttl_and_poll("/c"), (Value::Null, Value::Null));
    let (code, _, err) = folder().pogo(&["explain", "/users/7", "--namespace", "/d"]);
    assert_eq!(
        (code, err.starts_with("--namespace: there is no [[namespace]]")),
        (64, true),
        "{err}"
    );
}

#[test]
fn what_cannot_be_bound_is_told_with_the_reason() {
    for (uri, why) in [
        ("/silent", "its route has realtime = false"),
        ("/users//7", "uri has an empty path segment ('//')"),
        ("/users/%", "uri has a '%' that is not followed by two hex digits"),
    ] {
        let it = explained(&[uri]);
        assert_eq!((&it["bindable"], &it["why_not"]), (&json!(false), &json!(why)), "{uri}");
    }
}

#[test]
fn who_shares_a_view_is_told_and_no_value_of_a_credential() {
    let headers =
        ["-H", "X-Api-Key: hunter2", "-H", "accept: a/b", "-H", "X-Tenant: 7", "-H", "Range: x"];
    let of = |uri| {
        let it = explained(&[&[uri], &headers[..]].concat());
        assert!(!it.to_string().contains("hunter2"), "{it}");
        let shared: Vec<_> = it["shared_by"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap().to_owned())
            .collect();
        let counts = it["headers"].as_array().unwrap().iter();
        let counts: Vec<_> = counts.map(|it| it["counts"].as_str().unwrap().to_owned()).collect();
        (shared, counts)
    };
    let (shared, counts) = of("/users/7");
    assert_eq!(
        shared,
        ["host", "accept", "accept-language", "authorization", "cookie", "x-api-key"]
    );
    let by_vary = "tells viewers apart if the API names it in Vary";
    assert_eq!(
        counts,
        ["tells viewers apart, as a credential", "tells viewers apart", by_vary, by_vary]
    );
    let (shared, counts) = of("/news/1");
    assert_eq!(shared, ["host", "accept", "accept-language"]);
    assert_eq!(counts[0], "is not sent: the route is public");
}

#[test]
fn which_writes_touch_a_uri_is_told_and_which_do_not() {
    let it = explained(&["/users/7"]);
    assert_eq!(writes(&it, "/users/7"), (true, "by default".into()));
    assert_eq!(writes(&it, "/users"), (true, "by default".into()));
    let (touches, why) = writes(&it, "/users/{id}/log");
    assert!(!touches && why.contains("affects_only"), "{why}");
    assert_eq!(writes(&explained(&["/me"]), "/users/{id}"), (true, "affects has \"/me\"".into()));
    assert_eq!(writes(&explained(&["/teams/7"]), "/users/{id}").1, "affects has \"/teams/{id}\"");
    assert_eq!(writes(&explained(&["/stats"]), "/users/{id}/log").1, "affects_only has \"/stats\"");
    let (touches, why) = writes(&explained(&["/silent"]), "/silent");
    assert_eq!((touches, &*why), (false, "the rule \"/silent\" has realtime = false"));
    let (touches, why) = writes(&explained(&["/users/7/log/1"]), "/users/7/log");
    assert!(!touches && why.contains("/users/{id}/log"), "{why}");
}

#[test]
fn what_a_write_touches_is_told() {
    let it = explained(&["/users/7"]);
    let touched = ["/users/7, what is above it and what is below it", "/teams/7", "/me"];
    assert_eq!(it["touches"], json!(touched));
    assert_eq!(explained(&["/users/7/log"])["touches"], json!(["/stats"]));
    assert_eq!(explained(&["/silent"])["touches"], json!([]));
}

#[test]
fn a_terminal_is_told_the_same_in_words() {
    let (code, out, _) = folder().pogo(&["explain", "/users/7", "-H", "X-Tenant: 7"]);
    assert_eq!(code, 0);
    for line in [
        "URI             /users/7",
        "rule            [[route]] path = \"/users/{id}\"",
        "                id = \"7\"",
        "poll            5s",
        "ttl             1h",
        "                x-tenant tells viewers apart if the API names it in Vary",
        "touched by      writes to /users/7 (the URI itself): by default",
        "not touched by  writes to /users/{id}/log (below it): affects_only = [\"/stats\"]",
        "a write to it   touches /users/7, what is above it and what is below it",
    ] {
        assert!(out.lines().any(|it| it == line), "{line}\nis not in\n{out}");
    }
}

#[test]
fn wrong_arguments_and_a_bad_configuration_end_it_with_64() {
    let folder = folder();
    for (arguments, message) in [
        (&["explain", "users"][..], "URI: found \"users\", expected a path such as /posts"),
        (&["explain", "/a#b"], "URI: found \"/a#b\", expected a path such as /posts"),
        (
            &["explain", "/a", "-H", "hunter2"],
            "--header: expected a name and a value such as \"X-Tenant: 7\"",
        ),
        (&["explain", "/a", "--config", "none.toml"], "none.toml: cannot be read: "),
    ] {
        let (code, out, err) = folder.pogo(arguments);
        assert_eq!((code, &*out), (64, ""), "{arguments:?}");
        assert!(err.starts_with(message), "{err}");
    }
    let (code, out, _) = Folder::new().pogo(&["explain", "/a", "--upstream", "http://a"]);
    assert!(code == 0 && out.contains("none fits: the defaults hold"), "{out}");
}
