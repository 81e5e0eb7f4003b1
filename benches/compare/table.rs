//! The figures of all rounds: as one Markdown table, and as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::crowd::Fault;
use crate::peer::Peer;
use crate::row::{Load, Requests, Row, What, thousands};

/// What a release must not exceed.
#[derive(Debug, Clone, Copy)]
enum Gate {
    /// So many times what the other takes.
    Times(f64, Peer),
    /// So much.
    Most(f64),
}

/// What was measured, where, and when.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) about: About,
    figures: Vec<Line>,
    faults: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) compiler: String,
    /// What is not installed is not named.
    pub(crate) peers: BTreeMap<String, String>,
    pub(crate) rounds: usize,
    pub(crate) pinned: bool,
}

/// One figure of one row: of each server, one value a round.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) row: Row,
    pub(crate) what: What,
    /// As it is printed, for those who read the file.
    name: String,
    values: BTreeMap<Peer, Vec<f64>>,
}

impl Line {
    pub(crate) fn median(&self, peer: Peer) -> Option<f64> {
        self.values.get(&peer).map(|values| median(values.clone()))
    }

    /// How many times the other's figure Pogo's is, round by round; none unless each has a figure in every round.
    pub(crate) fn ratio(&self, peer: Peer) -> Option<f64> {
        let (pogo, other) = (self.values.get(&Peer::Pogo)?, self.values.get(&peer)?);
        let comparable = peer != Peer::Pogo && pogo.len() == other.len();
        let ratios: Vec<f64> = pogo.iter().zip(other).map(|(pogo, other)| pogo / other).collect();
        (comparable && ratios.iter().all(|ratio| ratio.is_finite())).then(|| median(ratios))
    }
}

impl Table {
    pub(crate) fn new(rounds: usize, pinned: bool) -> Self {
        Self { about: About::this_machine(rounds, pinned), figures: Vec::new(), faults: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: Row, what: What, peer: Peer, figure: f64) {
        let known = self.figures.iter().position(|line| line.row == row && line.what == what);
        let index = known.unwrap_or_else(|| {
            let name = format!("{row}: {what}");
            self.figures.push(Line { row, what, name, values: BTreeMap::new() });
            self.figures.len() - 1
        });
        self.figures[index].values.entry(peer).or_default().push(figure);
    }

    pub(crate) fn fault(&mut self, row: Row, peer: Peer, fault: &Fault) {
        eprintln!("{row}, {peer}: {fault}");
        self.faults.push(format!("{row}, {peer}: {fault}"));
    }

    /// Whether every measurement came to its end with no event lost, repeated or out of order.
    pub(crate) fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    pub(crate) fn to_json(&self) -> io::Result<String> {
        serde_json::to_string_pretty(self).map_err(io::Error::other)
    }

    pub(crate) fn lines(&self) -> &[Line] {
        &self.figures
    }

    pub(crate) fn line(&self, row: Row, what: What) -> Option<&Line> {
        self.figures.iter().find(|line| line.row == row && line.what == what)
    }

    pub(crate) fn print(&self, mut out: impl Write) -> io::Result<()> {
        let has = |peer: &Peer| self.figures.iter().any(|line| line.values.contains_key(peer));
        let peers: Vec<Peer> = Peer::ALL.into_iter().filter(has).collect();
        write!(out, "| |")?;
        peers.iter().try_for_each(|peer| write!(out, " {peer} |"))?;
        writeln!(out, " gate |\n|---|{}", "--:|".repeat(peers.len() + 1))?;
        let mut last = None;
        for line in &self.figures {
            if last.replace(line.row) != Some(line.row) {
                writeln!(out, "| **{}** |{}", line.row, " |".repeat(peers.len() + 1))?;
            }
            write!(out, "| {} |", line.what)?;
            for peer in &peers {
                write!(out, " {} |", cell(line, *peer))?;
            }
            writeln!(out, " {} |", gate(line))?;
        }
        if self.faults.is_empty() {
            return writeln!(out, "\nNo event was lost, repeated or out of order.");
        }
        writeln!(out, "\nNot sound:")?;
        self.faults.iter().try_for_each(|fault| writeln!(out, "- {fault}"))
    }
}

/// The median, and how many times that Pogo's is.
fn cell(line: &Line, peer: Peer) -> String {
    let Some(median) = line.median(peer) else { return "–".to_owned() };
    let figure = figure(median);
    match line.ratio(peer) {
        Some(ratio) if line.what != What::Memory || peer != Peer::Floor => {
            format!("{figure} ({ratio:.2}×)")
        }
        _ => figure,
    }
}

fn figure(figure: f64) -> String {
    match figure {
        ..10.0 => format!("{figure:.2}"),
        ..1000.0 => format!("{figure:.1}"),
        _ => thousands(figure.round() as usize),
    }
}

fn gate(line: &Line) -> String {
    let Some(gate) = gate_of(line.row, line.what) else { return String::new() };
    let (text, kept) = match gate {
        Gate::Times(most, peer) => {
            (format!("≤ {most:.2}× {peer}"), line.ratio(peer).map(|ratio| ratio <= most))
        }
        Gate::Most(most) => {
            (format!("≤ {}", figure(most)), line.median(Peer::Pogo).map(|median| median <= most))
        }
    };
    match kept {
        Some(true) => format!("{text} ✓"),
        Some(false) => format!("**{text} ✗**"),
        None => text,
    }
}

pub(crate) fn limit(line: &Line) -> Option<f64> {
    match gate_of(line.row, line.what)? {
        Gate::Times(most, peer) => Some(most * line.median(peer)?),
        Gate::Most(most) => Some(most),
    }
}

fn gate_of(row: Row, what: What) -> Option<Gate> {
    if row.free {
        return None;
    }
    let gate = match (row.load, what) {
        (Load::Requests(Requests::Get | Requests::Post), What::Cpu) => {
            Gate::Times(1.15, Peer::Nginx)
        }
        (Load::Requests(Requests::Get), What::P99) => Gate::Times(1.25, Peer::Nginx),
        (Load::Requests(Requests::Connect), What::Cpu) => Gate::Times(1.2, Peer::Nginx),
        (Load::Requests(Requests::Http2), What::Cpu)
        | (Load::Requests(Requests::Large), What::CpuOfBody) => Gate::Times(1.0, Peer::Nginx),
        // The fetches of a thousand views are no part of sending what they brought.
        (Load::Events(shape), What::Delivery) if shape.is_mixed() => Gate::Times(1.5, Peer::Floor),
        (Load::Events(shape), What::Cpu) if shape.each == 1 && !shape.is_mixed() => match shape {
            _ if shape.burst > 1 => Gate::Times(0.5, Peer::Floor),
            _ if shape.sockets > 5000 => Gate::Times(1.3, Peer::Floor),
            _ => Gate::Times(1.2, Peer::Floor),
        },
        (Load::Idle(_), What::Memory) => Gate::Most(4096.0),
        (Load::Idle(_), What::IdleCpu) => Gate::Most(2.0),
        _ => return None,
    };
    Some(gate)
}

impl About {
    /// Where and when, for those who read the table.
    pub(crate) fn sentence(&self) -> String {
        let Self { date, processor, cores, kernel, compiler, rounds, .. } = self;
        let pinned = if self.pinned {
            "the server on one core, load and API on another"
        } else {
            "nothing pinned"
        };
        let peers: Vec<&str> = self.peers.values().map(String::as_str).collect();
        let peers = peers.join("; ");
        format!(
            "Measured on {date}: {rounds} rounds, {pinned}; {cores} cores of {processor}, Linux {kernel}, {compiler}; {peers}."
        )
    }

    fn this_machine(rounds: usize, pinned: bool) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model.unwrap_or_default().trim_start_matches(['\t', ' ', ':']);
        let peers = [("nginx", "-v"), ("haproxy", "-v")].into_iter().filter_map(|(name, flag)| {
            let version = said(name, flag);
            (!version.is_empty()).then(|| (name.to_owned(), version))
        });
        Self {
            date: said("date", "+%Y-%m-%d"),
            processor: model.to_owned(),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: said("uname", "-r"),
            compiler: said("rustc", "--version"),
            peers: peers.collect(),
            rounds,
            pinned,
        }
    }
}

/// The first line of what a program says; nothing of one that is not there.
pub(crate) fn said(program: &str, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else { return String::new() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() % 2 {
        0 => f64::midpoint(figures[middle - 1], figures[middle]),
        _ => figures[middle],
    }
}
