//! What becomes of the figures: the table in `docs/performance.md` and the plots beside it. `cargo bench -- report FILE`.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::chart::{self, Bar, FLOOR, Group, OTHER, OURS, SECOND, Series};
use crate::peer::Peer;
use crate::row::{Load, Requests, Row, What};
use crate::table::{Line, Table, limit};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
const BEGIN: &str = "<!-- figures: written by `cargo bench -- report` -->\n";
const END: &str = "<!-- end of figures -->";

pub(crate) fn run(file: &Path) -> io::Result<()> {
    let table: Table =
        serde_json::from_str(&fs::read_to_string(file)?).map_err(io::Error::other)?;
    let docs = Path::new(DOCS);
    let plots = [
        ("requests.svg", "CPU time of a proxied request, by server", requests(&table)),
        ("fanout.svg", "CPU time of a delivered event, by server", fanout(&table)),
        ("growth.svg", "CPU time by the number of bindings", growth(&table)),
        ("memory.svg", "memory of idle connections and sockets, by server", memory(&table)),
    ];
    let mut pictures = String::new();
    for (name, what, plot) in plots {
        if let Some(plot) = plot {
            fs::write(docs.join(name), plot)?;
            writeln!(pictures, "![{what}]({name})").map_err(io::Error::other)?;
        } else {
            eprintln!("no {name}: its rows were not measured");
        }
    }
    let page = docs.join("performance.md");
    let text = fs::read_to_string(&page)?;
    let parts =
        text.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let Some((head, tail)) = parts else {
        return Err(io::Error::other("docs/performance.md has no place for the figures"));
    };
    let mut figures = Vec::new();
    table.print(&mut figures)?;
    let figures = String::from_utf8_lossy(&figures);
    let about = table.about.sentence();
    fs::write(page, format!("{head}{BEGIN}{about}\n\n{figures}\n{pictures}{END}{tail}"))
}

fn subtitle(table: &Table, what: &str) -> String {
    let rounds = match table.about.rounds {
        1 => "one round".to_owned(),
        rounds => format!("median of {rounds} rounds"),
    };
    format!("{what}; {rounds}, {}", table.about.date)
}

fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::Pogo => OURS,
        Peer::Floor => FLOOR,
        _ => OTHER,
    }
}

/// Pogo first, then the others from the least to the most.
fn group(title: String, line: &Line) -> Group {
    let mut bars: Vec<Bar> = Peer::ALL
        .into_iter()
        .filter_map(|peer| {
            let value = line.median(peer)?;
            Some(Bar { label: peer.to_string(), value, colour: colour(peer) })
        })
        .collect();
    if let Some((_, others)) = bars.split_first_mut() {
        others.sort_by(|one, other| one.value.total_cmp(&other.value));
    }
    Group { title, bars, gate: limit(line) }
}

/// One group for each line that is chosen.
fn groups(table: &Table, choose: impl Fn(&Line) -> bool) -> Vec<Group> {
    let chosen = table.lines().iter().filter(|line| !line.row.free && choose(line));
    chosen.map(|line| group(line.row.to_string(), line)).collect()
}

fn drawn(groups: &[Group], title: &str, subtitle: &str) -> Option<String> {
    (!groups.is_empty()).then(|| chart::bars(title, subtitle, groups))
}

fn requests(table: &Table) -> Option<String> {
    let mut all =
        groups(table, |line| matches!(line.row.load, Load::Requests(_)) && line.what == What::Cpu);
    let large = table.line(Row::new(Load::Requests(Requests::Large)), What::CpuOfBody);
    all.extend(large.map(|line| group(format!("{}, milliseconds", line.row), line)));
    drawn(&all, "CPU time of a proxied request", &subtitle(table, "microseconds, user and system"))
}

fn fanout(table: &Table) -> Option<String> {
    let all = groups(table, |line| {
        matches!(line.row.load, Load::Events(shape) if shape.each == 1) && line.what == What::Cpu
    });
    let what = "microseconds, user and system; Pogo's with the proxied write and the fetch";
    drawn(&all, "CPU time of a delivered event", &subtitle(table, what))
}

fn memory(table: &Table) -> Option<String> {
    let mut all = groups(table, |line| {
        matches!(line.row.load, Load::Idle(_) | Load::Kept(_)) && line.what == What::Memory
    });
    for group in &mut all {
        group.bars.retain(|bar| bar.colour != FLOOR);
    }
    drawn(
        &all,
        "Memory of what is open and idle",
        &subtitle(table, "bytes each, shared pages divided"),
    )
}

fn growth(table: &Table) -> Option<String> {
    let points = |chosen: What| {
        let lines = table.lines().iter().filter(|line| line.what == chosen);
        let mut points: Vec<(f64, f64)> = lines
            .filter_map(|line| match line.row.load {
                Load::Events(shape) if shape.each > 1 => {
                    Some((shape.bindings() as f64, line.median(Peer::Pogo)?))
                }
                _ => None,
            })
            .collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        points
    };
    let series = [
        ("a write to no view", SECOND, What::Untouching),
        ("a delivery of ten", OURS, What::Cpu),
        ("to bind", FLOOR, What::Bind),
        ("to let go", OTHER, What::Release),
    ];
    let series = series.map(|(label, colour, what)| Series {
        label: label.to_owned(),
        colour,
        points: points(what),
    });
    (series[0].points.len() > 1).then(|| {
        chart::lines(
            "What the number of bindings does",
            &subtitle(table, "CPU microseconds"),
            ("bindings on the node, ten to each view", true),
            &series,
        )
    })
}
