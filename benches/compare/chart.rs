//! Bars and lines as SVG, on a card of their own so that they read the same on a light page and a dark one.

use std::fmt::Write as _;

use crate::row::thousands;

const WIDTH: f64 = 860.0;
const INK: &str = "#1d2321";
const PALE: &str = "#68726e";
const RULE: &str = "#d6d9d5";
const CARD: &str = "#fbfaf7";
/// Told apart by those who see red and green alike, too.
pub(crate) const OURS: &str = "#0f766e";
pub(crate) const OTHER: &str = "#9aa5a1";
pub(crate) const FLOOR: &str = "#c9a227";
const GATE: &str = "#b42318";
/// So many are worth a dot each.
const FEW_POINTS: usize = 12;
const GATE_STYLE: &str = "stroke-width=\"3\"";
pub(crate) const SECOND: &str = "#7c4dbd";

#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    pub(crate) colour: &'static str,
}

/// Bars that are compared with one another, and what the first must not exceed.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
    pub(crate) gate: Option<f64>,
}

#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) label: String,
    pub(crate) colour: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Horizontal bars, each group to its own scale; the gate lies across the first.
pub(crate) fn bars(title: &str, subtitle: &str, groups: &[Group]) -> String {
    const LEFT: f64 = 180.0;
    const STEP: f64 = 24.0;
    const FIGURE: f64 = 60.0;
    let length = WIDTH - LEFT - 110.0;
    let mut body = String::new();
    let mut y = 92.0;
    for group in groups {
        text(&mut body, 28.0, y, &group.title, &format!("fill=\"{INK}\" font-weight=\"600\""));
        y += 12.0;
        let values = group.bars.iter().map(|bar| bar.value).chain(group.gate);
        let most = values.fold(f64::MIN_POSITIVE, f64::max);
        let mut gate = group.gate.map(|gate| LEFT + length * gate / most);
        for bar in &group.bars {
            let end = LEFT + (length * bar.value / most).max(1.0);
            let label = format!("fill=\"{PALE}\" text-anchor=\"end\"");
            text(&mut body, LEFT - 10.0, y + 16.0, &bar.label, &label);
            rectangle(&mut body, (LEFT, y + 3.0), (end - LEFT, STEP - 6.0), bar.colour);
            let gate = gate.take();
            if let Some(x) = gate {
                line(&mut body, (x, y - 1.0), (x, y + STEP - 1.0), GATE, GATE_STYLE);
            }
            let covered = gate.filter(|gate| (end..end + FIGURE).contains(gate));
            let value = format!("fill=\"{INK}\"");
            text(&mut body, covered.unwrap_or(end) + 8.0, y + 16.0, &number(bar.value), &value);
            y += STEP;
        }
        y += 30.0;
    }
    if groups.iter().any(|group| group.gate.is_some()) {
        line(&mut body, (38.0, y - 18.0), (38.0, y + 2.0), GATE, GATE_STYLE);
        let style = format!("fill=\"{PALE}\"");
        text(&mut body, 50.0, y - 3.0, "what Pogo must not exceed", &style);
        y += 18.0;
    }
    card(title, subtitle, y, &body)
}

/// Lines over an axis; both axes begin at zero unless the horizontal one is logarithmic.
pub(crate) fn lines(
    title: &str,
    subtitle: &str,
    (across, logarithmic): (&str, bool),
    series: &[Series],
) -> String {
    const TALL: f64 = 260.0;
    let (left, top, wide) = (80.0, 90.0, WIDTH - 80.0 - 190.0);
    let bottom = top + TALL;
    let points = || series.iter().flat_map(|series| &series.points);
    let place = |x: f64| if logarithmic { x.max(1.0).log10() } else { x };
    let first = points().map(|(x, _)| place(*x)).fold(f64::INFINITY, f64::min);
    let first = if logarithmic { first } else { 0.0 };
    let last = points().map(|(x, _)| place(*x)).fold(first + f64::MIN_POSITIVE, f64::max);
    let step = round_step(points().map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max) / 4.0);
    let highest = points().map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max);
    let ceiling = (highest / step).ceil() * step;
    let at = |(x, y): (f64, f64)| {
        (left + wide * (place(x) - first) / (last - first), bottom - TALL * y / ceiling)
    };

    let mut body = String::new();
    let ticks = (ceiling / step).round() as usize;
    for tick in 0..=ticks {
        let value = step * tick as f64;
        let y = bottom - TALL * value / ceiling;
        line(&mut body, (left, y), (left + wide, y), RULE, "stroke-width=\"1\"");
        let style = format!("fill=\"{PALE}\" text-anchor=\"end\"");
        text(&mut body, left - 10.0, y + 5.0, &number(value), &style);
    }
    for x in marks(points().map(|(x, _)| *x).collect(), logarithmic) {
        let style = format!("fill=\"{PALE}\" text-anchor=\"middle\"");
        text(&mut body, at((x, 0.0)).0, bottom + 22.0, &number(x), &style);
    }
    let style = format!("fill=\"{PALE}\" text-anchor=\"middle\"");
    text(&mut body, left + wide / 2.0, bottom + 46.0, across, &style);
    let mut ends = Vec::new();
    for one in series {
        let path: Vec<(f64, f64)> = one.points.iter().map(|point| at(*point)).collect();
        curve(&mut body, &path, one.colour);
        ends.extend(path.last().map(|(_, y)| (y + 5.0, one)));
    }
    // From the top, each below the one before.
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut free = 0.0;
    for (y, Series { label, colour, .. }) in ends {
        let y = y.max(free);
        free = y + 17.0;
        let style = format!("fill=\"{colour}\" font-weight=\"600\"");
        text(&mut body, left + wide + 12.0, y, label, &style);
    }
    card(title, subtitle, bottom + 66.0, &body)
}

fn curve(out: &mut String, points: &[(f64, f64)], colour: &str) {
    let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let style = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"");
    let path = path.join(" ");
    writeln!(out, "<polyline points=\"{path}\" {style} stroke-linejoin=\"round\"/>").ok();
    if points.len() <= FEW_POINTS {
        for (x, y) in points {
            let place = format!("cx=\"{x:.1}\" cy=\"{y:.1}\"");
            writeln!(out, "<circle {place} r=\"4\" fill=\"{colour}\"/>").ok();
        }
    }
}

/// Where the horizontal axis has numbers.
fn marks(mut all: Vec<f64>, logarithmic: bool) -> Vec<f64> {
    all.sort_by(f64::total_cmp);
    all.dedup();
    if logarithmic || all.len() <= 6 {
        return all;
    }
    let last = all.last().copied().unwrap_or_default();
    let step = round_step(last / 5.0);
    (0..=5).map(|tick| step * f64::from(tick)).filter(|x| *x <= last).collect()
}

/// The next larger of 1, 2, 5, 10, 20, 50 …
fn round_step(least: f64) -> f64 {
    let unit = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * unit)
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(least)
}

fn number(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        ..1.0 => format!("{value:.2}"),
        ..100.0 if value.fract() != 0.0 => format!("{value:.1}"),
        _ => thousands(value.round() as usize),
    }
}

fn card(title: &str, subtitle: &str, height: f64, body: &str) -> String {
    let (name, about) = (escape(title), escape(subtitle));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-labelledby=\"t d\" font-family=\"system-ui, sans-serif\" font-size=\"14\">
<title id=\"t\">{name}</title>
<desc id=\"d\">{about}</desc>
<rect width=\"{WIDTH}\" height=\"{height:.0}\" rx=\"12\" fill=\"{CARD}\"/>
<text x=\"28\" y=\"38\" fill=\"{INK}\" font-size=\"19\" font-weight=\"600\">{name}</text>
<text x=\"28\" y=\"60\" fill=\"{PALE}\">{about}</text>
{body}</svg>
"
    )
}

fn text(out: &mut String, x: f64, y: f64, text: &str, style: &str) {
    writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>", escape(text)).ok();
}

fn rectangle(out: &mut String, (x, y): (f64, f64), (wide, tall): (f64, f64), colour: &str) {
    let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\"");
    writeln!(out, "<rect {place} rx=\"3\" fill=\"{colour}\"/>").ok();
}

fn line(out: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, style: &str) {
    let place = format!("x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"");
    writeln!(out, "<line {place} stroke=\"{colour}\" {style}/>").ok();
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
