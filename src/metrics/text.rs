//! The text exposition format of Prometheus, 0.0.4.

use std::fmt::Write as _;

/// A text under way. A family begins with its help and type; its samples follow.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    /// The name that samples of the present family have.
    name: String,
}

impl Exposition {
    /// What the media type of the text is.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Its samples end in `_total`.
    pub fn counter(&mut self, name: &str, help: &str) {
        self.family(&format!("{name}_total"), "counter", help);
    }

    pub fn gauge(&mut self, name: &str, help: &str) {
        self.family(name, "gauge", help);
    }

    pub fn histogram(&mut self, name: &str, help: &str) {
        self.family(name, "histogram", help);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.name);
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Value>) {
        let name = std::mem::take(&mut self.name);
        self.line(format_args!("{name}{} {}", Labels(labels), value.into()));
        self.name = name;
    }

    /// A histogram's series. `counts` has one more than `bounds`, all in microseconds.
    pub fn distribution(
        &mut self,
        labels: &[(&str, &str)],
        bounds: &[u64],
        counts: &[u64],
        sum: u64,
    ) {
        let name = std::mem::take(&mut self.name);
        let mut below = 0;
        for (place, count) in counts.iter().enumerate() {
            below += count;
            let bound = bounds.get(place).map_or("+Inf".to_owned(), |bound| seconds(*bound));
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.line(format_args!("{name}_bucket{} {below}", Labels(&labels)));
        }
        self.line(format_args!("{name}_sum{} {}", Labels(labels), seconds(sum)));
        self.line(format_args!("{name}_count{} {below}", Labels(labels)));
        self.name = name;
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        writeln!(self.text, "{line}").unwrap_or_default();
    }

    pub fn finish(self) -> String {
        self.text
    }
}

/// A sample's value.
#[derive(Debug, Clone, Copy)]
pub enum Value {
    Count(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Real(value) => value.fmt(f),
        }
    }
}

/// Without rounding: a float of seconds would lose what a long-lived server has counted.
fn seconds(microseconds: u64) -> String {
    let text = format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl std::fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        for (place, (name, value)) in self.0.iter().enumerate() {
            f.write_char(if place == 0 { '{' } else { ',' })?;
            write!(f, "{name}=\"")?;
            for c in value.chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    c => f.write_char(c)?,
                }
            }
            f.write_char('"')?;
        }
        f.write_char('}')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped_and_seconds_are_exact() {
        let mut out = Exposition::default();
        out.gauge("a", "What.");
        out.sample(&[("x", "a\\b\"c\nd")], 1);
        out.sample(&[], 0.5);
        let text = out.finish();
        assert_eq!(text, "# HELP a What.\n# TYPE a gauge\na{x=\"a\\\\b\\\"c\\nd\"} 1\na 0.5\n");
        for (microseconds, text) in
            [(0, "0"), (1, "0.000001"), (500, "0.0005"), (10_000_000, "10"), (12_340_000, "12.34")]
        {
            assert_eq!(seconds(microseconds), text);
        }
    }
}
