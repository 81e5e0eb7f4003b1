//! MsgPack (<https://github.com/msgpack/msgpack/blob/master/spec.md>), from JSON text and to it.
//!
//! Inside Pogo a value is JSON text, as the API wrote it; a socket that speaks MsgPack has its
//! messages translated on the way in and on the way out. Both directions go over the bytes once,
//! build no tree and do not recurse. Writing cannot fail: whatever may stand in a JSON text,
//! however deep and whatever its numbers and escapes, has a form. (A transcoder of serde parts
//! refuses some texts that have passed as they are so far: deep ones, half surrogate pairs, numbers
//! beyond a double.)

pub(super) mod read;
pub(super) mod write;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    /// Any JSON, with containers on both sides of what one byte counts.
    pub(crate) fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i8>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(Value::from),
            any::<i16>().prop_map(|n| Value::from(f64::from(n))),
            any::<String>().prop_map(Value::from),
            "[a-z]{0,300}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                proptest::collection::vec((any::<String>(), inner), 0..20)
                    .prop_map(|pairs| Value::Object(Map::from_iter(pairs))),
            ]
        })
    }

    fn packed(json: &str) -> Vec<u8> {
        let mut out = vec![0x55];
        write::json(&mut out, json);
        assert_eq!(out.remove(0), 0x55, "what was there stays");
        out
    }

    fn unpacked(bytes: &[u8]) -> Result<String, &'static str> {
        let json = read::to_json(bytes, "data")?;
        json.refused.map_or(Ok(json.text), Err)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn each_value_has_the_shortest_form_of_its_type() {
        for (json, form) in [
            ("null", "c0"),
            ("false", "c2"),
            ("true", "c3"),
            ("0", "00"),
            ("127", "7f"),
            ("128", "cc80"),
            ("255", "ccff"),
            ("256", "cd0100"),
            ("65536", "ce00010000"),
            ("4294967296", "cf0000000100000000"),
            ("9007199254740993", "cf0020000000000001"),
            ("18446744073709551615", "cfffffffffffffffff"),
            ("-1", "ff"),
            ("-32", "e0"),
            ("-33", "d0df"),
            ("-129", "d1ff7f"),
            ("-32769", "d2ffff7fff"),
            ("-2147483649", "d3ffffffff7fffffff"),
            ("-9223372036854775808", "d38000000000000000"),
            ("1.0", "cb3ff0000000000000"),
            ("1e0", "cb3ff0000000000000"),
            ("-0", "cb8000000000000000"),
            // Beyond 64 bits, and beyond a double.
            ("18446744073709551616", "cb43f0000000000000"),
            ("-9223372036854775809", "cbc3e0000000000000"),
            ("1e400", "cb7ff0000000000000"),
            (r#""""#, "a0"),
            (r#""\"\\\/\b\f\n\r\tA\u0041""#, "aa225c2f080c0a0d094141"),
            (r#""\u00e9\ud83d\ude00""#, "a6c3a9f09f9880"),
            // Halves of pairs, which no str can hold.
            (r#""\ud83d""#, "a3efbfbd"),
            (r#""\ude00a""#, "a4efbfbd61"),
            (r#""\ud83d\u0041\ud83d\ud83d\ude00""#, "abefbfbd41efbfbdf09f9880"),
            (" [ ] ", "90"),
            (r#"{ "a" : [ 1 , { } ] , "b" : "," }"#, "82a161920180a162a12c"),
        ] {
            assert_eq!(hex(&packed(json)), form, "{json}");
        }
    }

    #[test]
    fn heads_are_as_wide_as_their_counts_need() {
        for (count, head) in
            [(15, "9f"), (16, "dc0010"), (65_535, "dcffff"), (65_536, "dd00010000")]
        {
            let bytes = packed(&format!("[{}7]", "7,".repeat(count - 1)));
            assert_eq!(hex(&bytes[..head.len() / 2]), head);
            assert_eq!(bytes.len(), head.len() / 2 + count);
        }
        let object = |count: usize| {
            let pairs: Vec<_> =
                (0..count).map(|number| format!("\"{number}\":[{number}]")).collect();
            format!("{{{}}}", pairs.join(","))
        };
        for (count, head) in [(15, "8f"), (16, "de0010"), (65_536, "df00010000")] {
            let bytes = packed(&object(count));
            assert_eq!(hex(&bytes[..head.len() / 2]), head);
            assert_eq!(unpacked(&bytes).unwrap(), object(count));
        }
        for (length, head) in [(31, "bf"), (32, "d920"), (256, "da0100"), (65_536, "db00010000")] {
            let text = format!("\"{}\"", "x".repeat(length));
            assert_eq!(hex(&packed(&text)[..head.len() / 2]), head);
            assert_eq!(unpacked(&packed(&text)).unwrap(), text);
        }
    }

    #[test]
    fn depth_costs_no_stack_on_the_way_out_and_is_bounded_on_the_way_in() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(packed(&deep(1_000_000)).len(), 1_000_000);
        assert_eq!(unpacked(&packed(&deep(128))), Ok(deep(128)));
        assert_eq!(unpacked(&packed(&deep(129))), Err("it is nested too deep"));
        let wide = |depth: usize| {
            let begin = format!("[{}", "0,".repeat(20)).repeat(depth);
            format!("{begin}0{}", "]".repeat(depth))
        };
        assert_eq!(unpacked(&packed(&wide(100))), Ok(wide(100)));
    }

    #[test]
    fn what_is_no_message_is_refused_without_believing_its_lengths() {
        for (bytes, fault) in [
            (&[0xdd, 0xff, 0xff, 0xff, 0xff, 0][..], "it ends too early"),
            (&[0xdf, 0xff, 0xff, 0xff, 0xff, 0], "it ends too early"),
            (&[0xdb, 0xff, 0xff, 0xff, 0xff, 0], "it ends too early"),
            (&[0xc6, 0xff, 0xff, 0xff, 0xff, 0], "it ends too early"),
            (&[0xc9, 0xff, 0xff, 0xff, 0xff, 0], "it ends too early"),
            (&[], "it ends too early"),
            (&[0xcd, 1], "it ends too early"),
            (&[0xc1], "0xc1 begins nothing"),
            (&[1, 2], "something follows its end"),
            (&[0x81, 1, 1], "a key is not a str"),
            (&[0xa1, 0xff], "a str is not UTF-8"),
            (&[0x82, 0xa1, b'a', 1, 0xa1, b'a', 1], "a map has a key twice"),
            (&[0x91, 0xd6, 0xff, 0, 0, 0, 1], "extension types have no form in JSON"),
            (&[0x91, 0xc7, 0, 1], "extension types have no form in JSON"),
            (&[0xca, 0x7f, 0xc0, 0, 0], "NaN and the infinities have no form in JSON"),
            (&[0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], "NaN and the infinities have no form in JSON"),
            (&[0xc4, 1, 0], "binary may stand in \"data\" alone"),
        ] {
            assert_eq!(unpacked(bytes), Err(fault), "{}", hex(bytes));
        }
    }

    #[test]
    fn one_key_may_stand_in_several_maps() {
        let json = r#"{"a":{"a":[{"a":1},{"a":2}]},"b":{"a":3}}"#;
        assert_eq!(unpacked(&packed(json)).unwrap(), json);
    }

    #[test]
    fn binary_below_data_becomes_base64_and_is_found_again() {
        let message = [
            &[0x83, 0xa1, b'x', 0x01, 0xa4][..],
            b"data",
            &[0x92, 0xc4, 0x02, 0xfb, 0xff, 0x01, 0xa1, b'z', 0xc0],
        ]
        .concat();
        let read = read::to_json(&message, "data").unwrap();
        assert_eq!((&*read.text, read.refused), (r#"{"x":1,"data":["+/8=",1],"z":null}"#, None));
        assert_eq!(message[read.packed.unwrap()], [0x92, 0xc4, 0x02, 0xfb, 0xff, 0x01]);
        let compact = read::to_json(&[0x81, 0xa1, b'd', 0xc4, 0x00], "d").unwrap();
        assert_eq!((&*compact.text, compact.packed), (r#"{"d":""}"#, Some(3..5)));
        // Only the message's own data is meant.
        let inner = [&[0x81, 0xa1, b'x', 0x81, 0xa4][..], b"data", &[0xc4, 0x00]].concat();
        assert!(read::to_json(&inner, "data").unwrap().refused.is_some());
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_another_reader_reads(value in values()) {
            let theirs: Value = rmp_serde::from_slice(&packed(&value.to_string())).unwrap();
            prop_assert_eq!(theirs, value);
        }

        #[test]
        fn what_another_writer_writes_is_what_is_read(value in values()) {
            let bytes = rmp_serde::to_vec(&value).unwrap();
            let ours: Value = serde_json::from_str(&unpacked(&bytes).unwrap()).unwrap();
            prop_assert_eq!(&ours, &value);
            // Any two writers agree on what is shortest.
            prop_assert_eq!(packed(&value.to_string()).len(), bytes.len());
        }

        #[test]
        fn json_survives_the_way_there_and_back_to_the_byte(value in values()) {
            let json = value.to_string();
            prop_assert_eq!(unpacked(&packed(&json)).unwrap(), json);
        }

        #[test]
        fn nothing_that_is_cut_off_is_read(value in values(), cut in any::<prop::sample::Index>()) {
            let bytes = packed(&json!([value]).to_string());
            let part = &bytes[..cut.index(bytes.len())];
            prop_assert!(unpacked(part).is_err(), "{}", hex(part));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(json) = unpacked(&bytes) {
                let again = unpacked(&packed(&json)).unwrap();
                prop_assert_eq!(again, json);
            }
        }
    }
}
