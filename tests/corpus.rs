//! What the fuzzers found worth keeping is true for ever: each input of `fuzz/seeds/` is given to
//! the function that it was found with.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

#[path = "../fuzz/harness.rs"]
#[allow(unreachable_pub, reason = "a test binary has no outside")]
mod harness;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let input = std::fs::read(entry.unwrap().path()).unwrap();
        run(&input);
        count += 1;
    }
    assert!(count > 4, "{} is nearly empty", folder.display());
}

#[test]
fn messages_are_read_or_refused() {
    replay("protocol", harness::protocol);
}

#[test]
fn messages_in_msgpack_are_read_or_refused_and_come_back() {
    replay("msgpack", harness::msgpack);
}

#[test]
fn uris_have_one_canonical_form() {
    replay("uri", harness::uri);
}

#[test]
fn heads_go_on_with_one_framing_and_nothing_of_their_connection() {
    replay("headers", harness::headers);
}

#[test]
fn configurations_read_back_as_the_same_or_are_refused() {
    replay("config", harness::config);
}

#[test]
fn frames_are_the_same_however_they_are_cut() {
    replay("frames", harness::frames);
}

#[test]
fn compressed_messages_are_bounded_and_come_back() {
    replay("deflate", harness::deflate);
}

#[test]
fn tokens_are_good_only_with_the_right_signature() {
    replay("jwt", harness::jwt);
}

#[test]
fn proxy_headers_say_what_a_second_reading_says_and_are_taken_whole() {
    replay("proxy", harness::proxy::header);
}
