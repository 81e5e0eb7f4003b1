//! The public test suite of JSON Patch (github.com/json-patch/json-patch-tests at 2a928f9, unchanged and
//! under its own licence in `tests/fixtures/json-patch-tests`): the reader that the tests follow patches
//! with does what the suite says, and what Pogo sends takes it from each document of the suite to what
//! the suite expects of it.

use std::time::Duration;

use pogo::view::delta::diff;
use serde_json::{Value, json};

use crate::harness::{Socket, start};

/// What is not marked as disabled, and is more than a remark.
fn cases() -> Vec<Value> {
    let files = [
        include_str!("../fixtures/json-patch-tests/tests.json"),
        include_str!("../fixtures/json-patch-tests/spec_tests.json"),
    ];
    let all = files.map(|file| serde_json::from_str::<Vec<Value>>(file).unwrap());
    let cases = all.into_iter().flatten();
    cases.filter(|case| case.get("patch").is_some() && case["disabled"] != true).collect()
}

/// The document of each case, and what it is to become.
fn changes() -> Vec<(Value, Value)> {
    let pair = |case: Value| Some((case.get("doc")?.clone(), case.get("expected")?.clone()));
    cases().into_iter().filter_map(pair).collect()
}

/// With so much beside it that it is worth telling what differs.
fn in_much(value: &Value) -> Value {
    json!({"ballast": "7".repeat(600), "v": value})
}

/// With so much beside each of its scalars that only those are told which differ.
fn at_length(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(at_length).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), at_length(value))).collect()
        }
        scalar => json!([scalar, "7".repeat(150)]),
    }
}

fn follow(data: &mut Value, patch: Value) -> Result<(), String> {
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(|it| it.to_string())?;
    json_patch::patch(data, &patch).map_err(|it| it.to_string())
}

#[test]
fn the_reader_of_the_tests_does_what_the_suite_says() {
    let (mut followed, mut refused) = (0, 0);
    for case in cases() {
        let mut data = case["doc"].clone();
        let outcome = follow(&mut data, case["patch"].clone());
        if let Some(expected) = case.get("expected") {
            assert_eq!(outcome, Ok(()), "{case}");
            assert_eq!(data, *expected, "{case}");
            followed += 1;
        } else {
            assert!(case["error"].is_string() && outcome.is_err(), "{case}: {data}");
            refused += 1;
        }
    }
    assert!(followed >= 70 && refused >= 30, "{followed} {refused}");
}

/// Those of the suite, each once, as `shown`.
fn documents(shown: fn(&Value) -> Value) -> Vec<Value> {
    let mut documents = Vec::new();
    for document in
        changes().iter().flat_map(|(old, new)| [in_much(&shown(old)), in_much(&shown(new))])
    {
        if !documents.contains(&document) {
            documents.push(document);
        }
    }
    documents
}

#[test]
fn what_differs_between_any_two_documents_of_the_suite_leads_from_one_to_the_other() {
    let (mut patches, mut within) = (0, 0);
    for documents in [documents(Value::clone), documents(at_length)] {
        for (old, new) in
            documents.iter().flat_map(|old| documents.iter().map(move |new| (old, new)))
        {
            let patch = diff(&old.to_string(), &new.to_string()).expect("a patch is shorter");
            let operations: Value = serde_json::from_str(patch.get()).unwrap();
            assert_eq!(operations == json!([]), old == new, "{old} {new} {operations}");
            within += usize::from(operations != json!([]) && !patch.get().contains("\"/v\""));
            let mut data = old.clone();
            follow(&mut data, operations).unwrap_or_else(|fault| panic!("{old} {new}: {fault}"));
            assert_eq!(data, *new, "{old} {patch}");
            patches += 1;
        }
    }
    assert!(
        patches >= 2 * 50 * 50 && within >= 100,
        "{patches}, {within} of them within a document"
    );
}

#[test]
fn a_client_that_follows_patches_holds_what_the_suite_expects() {
    let (api, pogo) = start(|options| options.hub.min_interval = Duration::ZERO);
    let mut socket = Socket::open(&pogo);
    let mut patches = 0;
    for (number, (old, new)) in changes().iter().enumerate() {
        let uri = format!("/documents/{number}");
        let (old, new) = (in_much(&at_length(old)), in_much(&at_length(new)));
        api.put(&uri, old.clone());
        let answer = socket.must(json!({"event": "bind", "uri": uri, "delta": true}));
        let mut data = answer["data"].clone();
        assert_eq!(data, old);
        assert_eq!(pogo.write("PUT", &uri, &new), 200);
        if old == new {
            socket.assert_silent();
            continue;
        }
        let event = socket.event();
        assert_eq!((&event["event"], &event["from"]), (&json!("patch"), &answer["version"]));
        follow(&mut data, event["patch"].clone()).unwrap();
        assert_eq!(data, new, "{event}");
        patches += 1;
    }
    assert!(patches >= 50, "{patches}");
}
