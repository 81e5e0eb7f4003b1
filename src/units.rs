//! Units of the configuration: durations `"10s"`, sizes `"64KiB"`, rates `"100/s burst 200"`.
//!
//! Each is read from exactly one notation and printed in it, so that what `pogo check` prints can be
//! read back. A value outside the notation is refused, never rounded or guessed at.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// A value that configuration writes as a string.
pub trait Notation: FromStr<Err = Malformed> + fmt::Display {
    /// What a reader of an error message should have written, with an example.
    const EXPECTED: &'static str;

    /// Reads the value from a whole number, for notations that have a plain unit.
    fn from_number(_: u64) -> Option<Self> {
        None
    }
}

/// Why a string is not a value of its notation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// It does not have the notation's form: `Notation::EXPECTED` says the rest.
    Shape,
    /// It has the form, and is refused for this reason.
    Refused(String),
}

impl Malformed {
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => f.write_str("not in the expected notation"),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Malformed {}

/// Deserializes a [`Notation`]; call it from the type's `Deserialize`.
pub fn deserialize<'de, T: Notation, D: Deserializer<'de>>(input: D) -> Result<T, D::Error> {
    struct Text<T>(PhantomData<T>);

    impl<T: Notation> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(|malformed| match malformed {
                Malformed::Shape => E::invalid_value(Unexpected::Str(text), &self),
                Malformed::Refused(reason) => E::custom(reason),
            })
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
            T::from_number(number)
                .ok_or_else(|| E::invalid_type(Unexpected::Unsigned(number), &self))
        }
    }

    input.deserialize_any(Text(PhantomData))
}

/// Gives a [`Notation`] its serde form: the string that it prints as.
#[macro_export]
macro_rules! as_text {
    ($($kind:ty),+ $(,)?) => {$(
        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
                output.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                $crate::units::deserialize(input)
            }
        }
    )+};
}

as_text!(Interval, Rate);

/// A length of time, in whole milliseconds: `"250ms"`, `"10s"`, `"1h30m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Interval(pub Duration);

impl Interval {
    /// Longer than any operator means, short enough that adding it to a clock cannot overflow.
    pub const MAX: Self = Self(Duration::from_secs(3650 * 24 * 60 * 60));

    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }
}

/// Largest first: the parts of a duration stand in this order, each at most once.
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Interval {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut rest = text;
        let mut units = TIME_UNITS.iter();
        let mut millis: u64 = 0;
        while !rest.is_empty() {
            let (count, after) = leading_number(rest)?;
            let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            // `find` resumes where the last part left off, so a part out of order is not found.
            let (_, scale) = units.find(|(unit, _)| *unit == name).ok_or(Malformed::Shape)?;
            let part = count.checked_mul(*scale).ok_or_else(too_long)?;
            millis = millis.checked_add(part).ok_or_else(too_long)?;
            rest = after;
        }
        if text.is_empty() {
            return Err(Malformed::Shape);
        }
        let interval = Self::millis(millis);
        if interval > Self::MAX { Err(too_long()) } else { Ok(interval) }
    }
}

fn too_long() -> Malformed {
    Malformed::refused(format!("a duration is at most {}", Interval::MAX))
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in TIME_UNITS {
            let scale = u128::from(scale);
            if rest >= scale {
                write!(f, "{}{unit}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

impl Notation for Interval {
    const EXPECTED: &'static str = r#"a duration such as "250ms", "10s" or "1h30m""#;
}

/// A number of bytes: `"64KiB"`, `"1MB"`, `"4096"` or the plain number 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Size(pub usize);

impl Size {
    pub const fn kib(count: usize) -> Self {
        Self(count * 1024)
    }

    pub const fn mib(count: usize) -> Self {
        Self(count * 1024 * 1024)
    }
}

/// Binary units first: a size is printed in the first of them that divides it.
const SIZE_UNITS: [(&str, usize); 9] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];

impl FromStr for Size {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (count, name) = leading_number(text)?;
        let (_, scale) =
            SIZE_UNITS.iter().find(|(unit, _)| *unit == name).ok_or(Malformed::Shape)?;
        usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(*scale))
            .map(Self)
            .ok_or_else(|| Malformed::refused("a size is less than 16 EiB"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit =
            SIZE_UNITS.iter().find(|(_, scale)| self.0 != 0 && self.0.is_multiple_of(*scale));
        let (name, scale) = unit.copied().unwrap_or(("", 1));
        write!(f, "{}{}", self.0 / scale, if name == "B" { "" } else { name })
    }
}

impl Notation for Size {
    const EXPECTED: &'static str = r#"a size in bytes such as 4096, "64KiB" or "1MB""#;

    fn from_number(bytes: u64) -> Option<Self> {
        usize::try_from(bytes).ok().map(Self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        match (self.to_string().parse::<u64>(), self) {
            (Ok(plain), _) => output.serialize_u64(plain),
            (Err(_), size) => output.collect_str(size),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        deserialize(input)
    }
}

/// A budget that refills steadily: `count` per `per`, of which `burst` may be spent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: NonZeroU32,
    pub per: Duration,
    pub burst: NonZeroU32,
}

impl FromStr for Rate {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (rate, burst) = match text.split_once(" burst ") {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let (count, per) = rate.split_once('/').ok_or(Malformed::Shape)?;
        let count = spendable(count)?;
        // "5/m" is "5/1m".
        let per: Interval = if per.starts_with(|c: char| c.is_ascii_digit()) {
            per.parse()?
        } else {
            format!("1{per}").parse()?
        };
        if per.0.is_zero() {
            return Err(Malformed::refused("a rate needs a period longer than zero"));
        }
        let burst = burst.map(spendable).transpose()?.unwrap_or(count);
        Ok(Self { count, per: per.0, burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = Interval(self.per).to_string();
        let single = TIME_UNITS.iter().find(|(unit, _)| per == format!("1{unit}"));
        write!(f, "{}/{}", self.count, single.map_or(per.as_str(), |(unit, _)| unit))?;
        if self.burst != self.count {
            write!(f, " burst {}", self.burst)?;
        }
        Ok(())
    }
}

impl Notation for Rate {
    const EXPECTED: &'static str = r#"a rate such as "100/s", "5/m" or "100/s burst 200""#;
}

fn spendable(text: &str) -> Result<NonZeroU32, Malformed> {
    let (count, "") = leading_number(text)? else { return Err(Malformed::Shape) };
    u32::try_from(count).ok().and_then(NonZeroU32::new).ok_or_else(|| {
        Malformed::refused(format!("a rate counts from 1 to {}, not {count}", u32::MAX))
    })
}

/// Splits `"64KiB"` into 64 and `"KiB"`.
fn leading_number(text: &str) -> Result<(u64, &str), Malformed> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Err(Malformed::Shape);
    }
    let number = digits
        .parse()
        .map_err(|_| Malformed::refused(format!("{digits} is larger than Pogo can count")))?;
    Ok((number, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_by_their_units() {
        for (text, millis) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1m0s5ms", 60_005),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(Interval::millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_duration_outside_the_notation_is_refused() {
        for text in ["", "10", "s", "10 s", "-1s", "1.5s", "1m1h", "1s1s", "10S", "1w", "1h "] {
            assert_eq!(text.parse::<Interval>(), Err(Malformed::Shape), "{text:?}");
        }
        for text in ["3651d", "999999999999999999d", "99999999999999999999999s"] {
            let refused = text.parse::<Interval>().unwrap_err();
            assert!(matches!(refused, Malformed::Refused(_)), "{text}: {refused:?}");
        }
    }

    #[test]
    fn sizes_are_read_by_their_units() {
        for (text, bytes) in [
            ("4096", 4096),
            ("4096B", 4096),
            ("64KiB", 65_536),
            ("1MB", 1_000_000),
            ("3kB", 3_000),
            ("3KB", 3_000),
            ("4MiB", 4_194_304),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "KiB", "64 KiB", "64K", "64kib", "-1", "1.5MB", "0x10"] {
            assert_eq!(text.parse::<Size>(), Err(Malformed::Shape), "{text:?}");
        }
        assert!(matches!("99999999999GiB".parse::<Size>(), Err(Malformed::Refused(_))));
    }

    #[test]
    fn a_rate_without_a_burst_bursts_by_its_count() {
        let rate: Rate = "100/s".parse().unwrap();
        assert_eq!((rate.count.get(), rate.per.as_secs(), rate.burst.get()), (100, 1, 100));
        let rate: Rate = "5/m burst 20".parse().unwrap();
        assert_eq!((rate.count.get(), rate.per.as_secs(), rate.burst.get()), (5, 60, 20));
        assert_eq!("5/10s".parse::<Rate>().unwrap().per, Duration::from_secs(10));
    }

    #[test]
    fn a_rate_outside_the_notation_is_refused() {
        for text in
            ["", "100", "/s", "100/", "100/x", "100/s burst", "100/s burst x", "1/s  burst 2"]
        {
            assert_eq!(text.parse::<Rate>(), Err(Malformed::Shape), "{text:?}");
        }
        for text in ["0/s", "1/0s", "1/s burst 0", "5000000000/s"] {
            let refused = text.parse::<Rate>().unwrap_err();
            assert!(matches!(refused, Malformed::Refused(_)), "{text}: {refused:?}");
        }
    }

    proptest! {
        #[test]
        fn what_a_duration_prints_reads_back(millis in 0..=315_360_000_000_u64) {
            let interval = Interval::millis(millis);
            prop_assert_eq!(interval.to_string().parse(), Ok(interval));
        }

        #[test]
        fn what_a_size_prints_reads_back(count in 0..=u32::MAX as usize, shift in 0..30_usize) {
            let size = Size(count << shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn what_a_rate_prints_reads_back(
            count in 1..=u32::MAX,
            burst in 1..=u32::MAX,
            millis in 1..=315_360_000_000_u64,
        ) {
            let rate = Rate {
                count: NonZeroU32::new(count).unwrap(),
                per: Duration::from_millis(millis),
                burst: NonZeroU32::new(burst).unwrap(),
            };
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }

        #[test]
        fn no_text_makes_a_notation_panic(text in "\\PC{0,24}") {
            let _ = text.parse::<Interval>();
            let _ = text.parse::<Size>();
            let _ = text.parse::<Rate>();
        }
    }
}
