//! Patches are followed by two readers: one made here, for which every number is its text, and the
//! json-patch crate, which shares nothing with what makes them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// JSON as it was meant: members without an order, names decoded, scalars as their text.
#[derive(Debug, Clone, PartialEq)]
enum Exact {
    Scalar(String),
    Array(Vec<Exact>),
    Object(Vec<(String, Exact)>),
}

impl Exact {
    fn read(text: &str) -> Self {
        let text = text.trim();
        match text.as_bytes()[0] {
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).unwrap();
                Self::Array(items.into_iter().map(|item| Self::read(item.get())).collect())
            }
            b'{' => {
                let map: Members<'_> = serde_json::from_str(text).unwrap();
                Self::Object(map.0.into_iter().map(|(k, v)| (k, Self::read(v.get()))).collect())
            }
            _ => Self::Scalar(text.to_owned()),
        }
    }

    /// The same but for the order of members; of a name that stands there twice all count.
    fn sorted(self) -> Self {
        match self {
            Self::Object(mut members) => {
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                Self::Object(members.into_iter().map(|(k, v)| (k, v.sorted())).collect())
            }
            Self::Array(items) => Self::Array(items.into_iter().map(Self::sorted).collect()),
            Self::Scalar(text) => Self::Scalar(text),
        }
    }

    fn at(&mut self, token: &str) -> &mut Self {
        match self {
            Self::Array(items) => &mut items[index(token)],
            Self::Object(members) => {
                &mut members.iter_mut().find(|(name, _)| name == token).expect("a member").1
            }
            Self::Scalar(text) => panic!("{token} of {text}"),
        }
    }

    /// RFC 6902 §4, of the operations that there are here.
    fn apply(&mut self, patch: &str) {
        let operations: Vec<Operation<'_>> = serde_json::from_str(patch).unwrap();
        for operation in operations {
            let tokens = operation.path.split('/').skip(1);
            let tokens: Vec<_> =
                tokens.map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
            let value = operation.value.map(|value| Self::read(value.get()));
            let Some((last, above)) = tokens.split_last() else {
                *self = value.expect("a value");
                continue;
            };
            let parent = above.iter().fold(&mut *self, |parent, token| parent.at(token));
            match (operation.op, value) {
                ("replace", Some(value)) => *parent.at(last) = value,
                ("add", Some(value)) => match parent {
                    Self::Array(items) => items.insert(index(last), value),
                    Self::Object(members) => {
                        assert!(!members.iter().any(|(name, _)| name == last));
                        members.push((last.clone(), value));
                    }
                    Self::Scalar(text) => panic!("{last} of {text}"),
                },
                ("remove", None) => match parent {
                    Self::Array(items) => drop(items.remove(index(last))),
                    Self::Object(members) => {
                        let at = members.iter().position(|(name, _)| name == last);
                        members.remove(at.expect("a member"));
                    }
                    Self::Scalar(text) => panic!("{last} of {text}"),
                },
                (op, value) => panic!("{op} {value:?}"),
            }
        }
    }
}

#[derive(serde::Deserialize)]
struct Operation<'t> {
    op: &'t str,
    path: String,
    #[serde(borrow, default, deserialize_with = "given")]
    value: Option<&'t RawValue>,
}

/// `null` is a value.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue as serde::Deserialize>::deserialize(from).map(Some)
}

/// An index has no sign and no zero before it (RFC 6901 §4).
fn index(token: &str) -> usize {
    let index: usize = token.parse().unwrap();
    assert_eq!(index.to_string(), token);
    index
}

struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> serde::de::Visitor<'de> for Reader {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Whether there is a patch; if so, it makes the one of the other and is shorter.
fn follow(old: &str, new: &str) -> Option<String> {
    let patch = diff(old, new)?;
    let patch = patch.get();
    assert!(patch.len() < new.len(), "{patch}");
    let mut exact = Exact::read(old);
    exact.apply(patch);
    assert_eq!(exact.sorted(), Exact::read(new).sorted(), "{old} {new} {patch}");
    Some(patch.to_owned())
}

/// With something in both that does not differ, so that a patch is worth its while.
fn follow_in_much(old: &str, new: &str) -> String {
    let ballast = "x".repeat(2000);
    let within = |text: &str| format!("{{\"ballast\":\"{ballast}\",\"v\":{text}}}");
    let patch = follow(&within(old), &within(new)).expect("a patch");
    assert!(!patch.contains(&ballast), "{patch}");
    patch
}

fn operations(old: &str, new: &str) -> Value {
    serde_json::from_str(&follow_in_much(old, new)).unwrap()
}

#[test]
fn what_differs_is_named_and_nothing_else() {
    for (old, new, expected) in [
        (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#, json!([{"op":"replace","path":"/v/b","value":3}])),
        (r#"{"a":1}"#, r#"{"a":1,"b":[]}"#, json!([{"op":"add","path":"/v/b","value":[]}])),
        (r#"{"a":1,"b":2}"#, r#"{"b":2}"#, json!([{"op":"remove","path":"/v/a"}])),
        (r#"{"a":1}"#, r#"{"a":null}"#, json!([{"op":"replace","path":"/v/a","value":null}])),
        (r#"[1,2,3]"#, r#"[0,1,2,3]"#, json!([{"op":"add","path":"/v/0","value":0}])),
        (r#"[1,2,3]"#, r#"[1,2,3,4]"#, json!([{"op":"add","path":"/v/3","value":4}])),
        (r#"[1,2,3]"#, r#"[1,3]"#, json!([{"op":"remove","path":"/v/1"}])),
        (
            r#"["m","one of the others, which is long","another of them, which is not short"]"#,
            r#"["one of the others, which is long","another of them, which is not short","m"]"#,
            json!([{"op":"remove","path":"/v/0"},{"op":"add","path":"/v/2","value":"m"}]),
        ),
        (
            r#"[{"id":1,"text":"one of the longer kind"},{"id":2}]"#,
            r#"[{"id":3},{"id":1,"text":"one of the longer kind"},{"id":2}]"#,
            json!([{"op":"add","path":"/v/0","value":{"id":3}}]),
        ),
        (
            r#"[{"id":1,"text":"one of the longer kind, which is not said again","n":0}]"#,
            r#"[{"id":1,"text":"one of the longer kind, which is not said again","n":1}]"#,
            json!([{"op":"replace","path":"/v/0/n","value":1}]),
        ),
        // Fewer words than one for each member.
        (
            r#"{"a":1,"b":2}"#,
            r#"{"c":1,"d":2}"#,
            json!([{"op":"replace","path":"/v","value":{"c":1,"d":2}}]),
        ),
        (r#"[1]"#, r#"{"0":1}"#, json!([{"op":"replace","path":"/v","value":{"0":1}}])),
    ] {
        assert_eq!(operations(old, new), expected, "{old} {new}");
    }
}

#[test]
fn a_pointer_spells_any_name() {
    for name in [
        "", "/", "~", "~1", "~01", "a/b", "0", "-", "é", "\"", "\\", "\u{1}\n", "\u{7f}", "😀", " ",
    ] {
        let long = "which is not said again, whatever the name of what lies beside it may be, not even once";
        let (old, new) = (json!({name: 1, "b": long}), json!({name: 2, "b": long}));
        let operations = operations(&old.to_string(), &new.to_string());
        let path = format!("/v/{}", name.replace('~', "~0").replace('/', "~1"));
        assert_eq!(operations, json!([{"op": "replace", "path": path, "value": 2}]));
        for escaped in [r#"{"\u0061\u002Fb":1}"#, r#"{"a\/b":1}"#] {
            let operations = self::operations(escaped, r#"{"a/b":2}"#);
            assert_eq!(operations[0]["path"], "/v/a~1b", "{operations}");
        }
    }
}

#[test]
fn no_number_is_taken_for_another_or_written_anew() {
    let numbers = [
        "1",
        "1.0",
        "1e0",
        "10e-1",
        "0",
        "-0",
        "-0.0",
        "0.1",
        "0.10",
        "1e400",
        "-1e400",
        "1e-400",
        "9007199254740993",
        "9007199254740992",
        "18446744073709551615",
        "18446744073709551616",
        "123456789012345678901234567890.123456789012345678901234567890",
        "5e-324",
    ];
    for (at, old) in numbers.iter().enumerate() {
        for (other, new) in numbers.iter().enumerate() {
            let patch = follow_in_much(&format!("{{\"n\":{old}}}"), &format!("{{\"n\":{new}}}"));
            let says_it = patch.contains(&format!("\"value\":{new}}}"))
                || patch.contains(&format!("\"value\":{{\"n\":{new}}}"));
            assert_eq!(at != other, says_it, "{old} {new} {patch}");
            follow_in_much(&format!("[7,{old},8]"), &format!("[7,{new},8]"));
        }
    }
}

#[test]
fn spaces_and_the_order_of_members_are_no_difference() {
    let patch =
        follow_in_much("{\"a\":[1,{\"b\":2}],\"c\":3}", "{ \"c\" : 3,\n\"a\":\t[ 1,{\"b\":2 } ] }");
    assert_eq!(patch, "[]");
}

#[test]
fn an_object_that_readers_may_read_in_two_ways_is_replaced() {
    for (old, new) in [
        (r#"{"a":1,"a":2}"#, r#"{"a":3,"a":2}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":1,"b":2}"#),
        (r#"{"a":1,"b":2}"#, r#"{"a":1,"a":2,"b":2}"#),
        (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2,"\u0062":3}"#),
        (r#"{"__proto__":1}"#, r#"{"__proto__":2}"#),
    ] {
        let patch = follow_in_much(old, new);
        assert_eq!(patch, format!(r#"[{{"op":"replace","path":"/v","value":{new}}}]"#));
    }
    // A name that is no text has no pointer.
    let [old, new] = [1, 2].map(|n| format!("[{{\"\\ud800\":{n}}},\"{}\"]", "x".repeat(99)));
    let patch = diff(&old, &new).unwrap();
    assert_eq!(patch.get(), r#"[{"op":"replace","path":"/0","value":{"\ud800":2}}]"#);
}

#[test]
fn what_takes_more_room_than_the_state_is_no_patch() {
    for (old, new) in [
        ("1", "2"),
        ("{}", "[]"),
        ("[1,2]", "[2,1]"),
        (r#"{"a":1}"#, r#"{"a":2}"#),
        ("[1]", "null"),
    ] {
        assert!(diff(old, new).is_none());
    }
    let long = format!("[{}1]", "0,".repeat(LONGEST / 2));
    let other = long.replace('1', "2");
    assert!(diff(&long, &other).is_none(), "as long as this nothing is compared");
}

fn numbered(count: usize, text: impl Fn(usize) -> String) -> String {
    let items: Vec<_> =
        (0..count).map(|n| format!("{{\"id\":{n},\"text\":\"{}\"}}", text(n))).collect();
    format!("[{}]", items.join(","))
}

#[test]
fn a_patch_has_so_many_operations_and_no_more() {
    let ballast = "x".repeat(200);
    let old = numbered(1000, |n| format!("{n}{ballast}"));
    for (changed, is_patch) in [(MOST_OPERATIONS, true), (MOST_OPERATIONS + 1, false)] {
        let new =
            numbered(
                1000,
                |n| if n < changed { "short".to_owned() } else { format!("{n}{ballast}") },
            );
        assert_eq!(follow(&old, &new).is_some(), is_patch, "{changed}");
    }
}

#[test]
fn what_lies_deeper_than_is_looked_is_replaced() {
    let nested =
        |levels: usize, text: &str| format!("{}{text}{}", "[".repeat(levels), "]".repeat(levels));
    for (levels, deepest) in [(10, 11), (DEEPEST - 1, DEEPEST), (DEEPEST, DEEPEST), (90, DEEPEST)] {
        let patch = follow_in_much(&nested(levels, "1"), &nested(levels, "2"));
        assert_eq!(patch.matches("/").count(), deepest, "{patch}");
    }
    let within = |text: &str| format!("[{text},\"{}\"]", "x".repeat(99));
    let mut diff = Diff { out: String::new(), operations: 0, path: String::new(), fuel: Fuel(0) };
    diff.compare(&within("1"), &within("2"), 0);
    assert!(diff.out.contains("xxx"), "nothing is looked into without fuel: {}", diff.out);
}

#[test]
fn long_arrays_are_compared_in_a_time_that_their_length_bounds() {
    // Everything differs; half is gone; all is the same thing; one element came, again and again.
    let all = |text: &str, count: usize| format!("[{}0]", format!("{text},").repeat(count));
    let counted = |from: usize, count: usize| {
        let items: Vec<_> = (from..from + count).map(|n| n.to_string()).collect();
        format!("[{}]", items.join(","))
    };
    let every_tenth = |with: &str| {
        let items: Vec<_> = (0..5_000).map(|n| if n % 10 == 0 { with } else { "0" }).collect();
        format!("[{}]", items.join(","))
    };
    for (old, new) in [
        (counted(0, 5_000), counted(12_000, 5_000)),
        (counted(0, 5_000), counted(2_500, 5_000)),
        (all("1", 12_000), all("1", 11_900)),
        (all("1", 12_000), all("2", 12_000)),
        (every_tenth("1"), every_tenth("2")),
        (
            format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
            format!("{}2{}", "[".repeat(100_000), "]".repeat(100_000)),
        ),
        (
            format!("{}1{}", "{\"a\":".repeat(80_000), "}".repeat(80_000)),
            format!("{}2{}", "{\"a\":".repeat(80_000), "}".repeat(80_000)),
        ),
    ] {
        let all = old.len() + new.len();
        let mut diff = Diff {
            out: String::new(),
            operations: 0,
            path: String::new(),
            fuel: Fuel(PASSES * all),
        };
        diff.compare(&old, &new, 0);
        assert!(diff.out.capacity() < 4 * all, "{} {all}", diff.out.capacity());
        super::diff(&old, &new);
    }
}

/// The text of a value, with numbers, names and spaces of every kind.
fn texts() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        4 => prop::sample::select(&["null", "true", "false", "0", "-0", "1", "1.0", "1e400", "\"\"", "\"a\"",
            "\"\\u0061\"", "\"\\ud800\"", "9007199254740993", "12345678901234567890123"][..]).prop_map(str::to_owned),
        2 => any::<i64>().prop_map(|number| number.to_string()),
        2 => "\\PC{0,40}".prop_map(|text| json!(text).to_string()),
    ];
    let name = prop_oneof![
        6 => prop::sample::select(&["\"a\"", "\"b\"", "\"c\"", "\"~\"", "\"/\"", "\"\"", "\"0\"", "\"\\u0063\""][..])
            .prop_map(str::to_owned),
        1 => "\\PC{0,4}".prop_map(|text| json!(text).to_string()),
    ];
    let space = || prop::sample::select(&["", "", "", " ", "\n\t"][..]);
    scalar.prop_recursive(5, 60, 6, move |inner| {
        let items = proptest::collection::vec((space(), inner.clone()), 0..8);
        let members = proptest::collection::vec((name.clone(), space(), inner), 0..6);
        prop_oneof![
            items.prop_map(|items| {
                let items: Vec<_> =
                    items.iter().map(|(space, item)| format!("{space}{item}")).collect();
                format!("[{}]", items.join(","))
            }),
            members.prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(k, s, v)| format!("{s}{k}{s}:{v}{s}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// A text and one that differs here and there: values are put in the place of others, all over.
fn neighbours() -> impl Strategy<Value = (String, String)> {
    let items = proptest::collection::vec(texts(), 0..12);
    (items, proptest::collection::vec((0..3_u8, any::<prop::sample::Index>(), texts()), 0..5))
        .prop_map(|(mut items, edits)| {
            let old = format!("{{\"list\":[{}],\"n\":1}}", items.join(","));
            for (edit, at, text) in edits {
                match (edit, items.is_empty()) {
                    (0, false) => drop(items.remove(at.index(items.len()))),
                    (1, false) => {
                        let at = at.index(items.len());
                        items[at] = text;
                    }
                    _ => items.insert(at.index(items.len() + 1), text),
                }
            }
            (old, format!("{{\"list\":[{}],\"n\":2}}", items.join(",")))
        })
}

/// Values, with the numbers that a double or 64 bits hold.
fn any_value() -> impl Strategy<Value = Value> {
    crate::protocol::any_value()
}

proptest! {
    #[test]
    fn a_patch_makes_the_one_state_of_the_other_to_the_letter(
        (old, new) in prop_oneof![(texts(), texts()), neighbours()]
    ) {
        follow(&old, &new);
        follow(&new, &old);
        let within = |text: &str| format!("[{}, {text}]", "7".repeat(5000));
        follow(&within(&old), &within(&new)).expect("a patch");
    }

    #[test]
    fn of_two_arrays_what_is_the_same_is_found(
        old in proptest::collection::vec(0..6_u8, 0..30), new in proptest::collection::vec(0..6_u8, 0..30)
    ) {
        let texts = |numbers: &[u8]| numbers.iter().map(u8::to_string).collect::<Vec<_>>();
        let (old, new) = (texts(&old), texts(&new));
        let (old, new): (Vec<&str>, Vec<&str>) =
            (old.iter().map(String::as_str).collect(), new.iter().map(String::as_str).collect());
        let runs = runs(&old, &new, &mut Fuel(1 << 20));
        let (mut from, mut at, mut same) = (0, 0, 0);
        for run in runs {
            prop_assert!(run.old >= from && run.new >= at && run.length > 0);
            prop_assert_eq!(&old[run.old..run.old + run.length], &new[run.new..run.new + run.length]);
            (from, at, same) = (run.old + run.length, run.new + run.length, same + run.length);
        }
        // As many as there can be: the table of the longest common subsequence.
        let mut table = vec![vec![0; new.len() + 1]; old.len() + 1];
        for i in 0..old.len() {
            for j in 0..new.len() {
                table[i + 1][j + 1] = if old[i] == new[j] {
                    table[i][j] + 1
                } else {
                    table[i][j + 1].max(table[i + 1][j])
                };
            }
        }
        prop_assert_eq!(same, table[old.len()][new.len()]);
    }

    #[test]
    fn any_text_at_all_ends_without_a_panic(old in "[\\[\\]{}\",:\\\\ a0é]{0,40}", new in "[\\[\\]{}\",:\\\\ a0é]{0,40}") {
        let _patch = diff(&old, &new);
    }
}

proptest! {
    // They are large.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_reader_of_another_make_comes_to_the_same(old in any_value(), new in any_value()) {
        let (old, new) = (json!({"v": [old], "z": "7".repeat(9000)}), json!({"v": [new], "z": "7".repeat(9000)}));
        let patch = follow(&old.to_string(), &new.to_string()).expect("a patch");
        let patch: json_patch::Patch = serde_json::from_str(&patch).unwrap();
        let mut patched = old;
        json_patch::patch(&mut patched, &patch).unwrap();
        prop_assert_eq!(patched, new);
    }
}
