//! The keys of a message, in full and in one character. What reads and what writes messages takes
//! them from this table alone; a key inside `data` is never touched.

macro_rules! keys {
    ($($key:ident $name:literal $short:literal)*) => {
        /// A key of a message, or of the `error` in it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Key {
            $($key),*
        }

        impl Key {
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$key),*];

            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Self::$key => $name),*
                }
            }

            pub(super) const fn short(self) -> &'static str {
                match self {
                    $(Self::$key => $short),*
                }
            }

            pub(super) fn of_name(text: &str) -> Option<Self> {
                match text {
                    $($name => Some(Self::$key),)*
                    _ => None,
                }
            }

            pub(super) fn of_short(text: &str) -> Option<Self> {
                match text {
                    $($short => Some(Self::$key),)*
                    _ => None,
                }
            }
        }
    };
}

// Those that no message of this release has are kept for the ones that will: a character, once
// given, never changes its meaning.
keys! {
    Id "id" "i"
    Event "event" "e"
    Uri "uri" "u"
    Channel "channel" "c"
    Namespace "namespace" "n"
    Data "data" "d"
    Status "status" "s"
    Error "error" "x"
    Code "code" "k"
    Message "message" "m"
    HttpStatus "http_status" "g"
    RetryAfter "retry_after" "a"
    Version "version" "v"
    Delta "delta" "j"
    Patch "patch" "p"
    From "from" "f"
    Ttl "ttl" "t"
    Reason "reason" "r"
    Expires "expires" "y"
    Items "items" "l"
    Item "item" "o"
    State "state" "z"
    Bind "bind" "b"
    Method "method" "h"
    Return "return" "w"
    Count "count" "q"
    Since "since" "S"
    Offset "offset" "O"
    Presence "presence" "P"
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_is_one_to_one_in_both_directions() {
        let names: HashSet<_> = Key::ALL.iter().map(|key| key.name()).collect();
        let shorts: HashSet<_> = Key::ALL.iter().map(|key| key.short()).collect();
        assert_eq!((names.len(), shorts.len()), (Key::ALL.len(), Key::ALL.len()));
        for key in Key::ALL {
            assert_eq!(Key::of_name(key.name()), Some(*key));
            assert_eq!(Key::of_short(key.short()), Some(*key));
            assert_eq!((key.short().len(), Key::of_name(key.short())), (1, None), "{key:?}");
            assert_eq!(Key::of_short(key.name()), None);
        }
    }

    #[test]
    fn the_document_has_the_same_table() {
        let page = include_str!("../../docs/protocol.md");
        let table = page.split("### Compact keys").nth(1).unwrap().split("```").next().unwrap();
        let rows = table.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, Key::ALL.len());
        for key in Key::ALL {
            let row = format!("| `{}` | `{}` |", key.name(), key.short());
            assert!(table.contains(&row), "{row}");
        }
    }
}
