//! The figures of all rounds as one Markdown table.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

use crate::crowd::Fault;
use crate::options::{Row, Shape};
use crate::peer::Peer;

const PEERS: [Peer; 4] = [Peer::Floor, Peer::Nginx, Peer::PassThrough, Peer::Pogo];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    Request(Row),
    Delivery(Shape),
    Bind(Shape),
    Idle(Shape),
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(row) => write!(f, "{row}, µs"),
            Self::Delivery(shape) => write!(f, "{}, µs a delivery", Row::Events(*shape)),
            Self::Bind(shape) => write!(f, "connect and bind, {shape}, µs a socket"),
            Self::Idle(shape) => write!(f, "memory, {shape}, bytes a socket"),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    figures: BTreeMap<Measure, BTreeMap<Peer, Vec<f64>>>,
    faults: Vec<(Row, Peer, Fault)>,
}

impl Table {
    pub(crate) fn add(&mut self, measure: Measure, peer: Peer, figure: f64) {
        self.figures.entry(measure).or_default().entry(peer).or_default().push(figure);
    }

    pub(crate) fn fault(&mut self, row: Row, peer: Peer, fault: Fault) {
        eprintln!("{row}, {peer}: {fault}");
        self.faults.push((row, peer, fault));
    }

    /// Whether every measurement came to its end with no event lost, repeated or out of order.
    pub(crate) fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    pub(crate) fn print(&self, mut out: impl Write) -> io::Result<()> {
        writeln!(out, "CPU time (user and system) and memory of the server: median (minimum).")?;
        writeln!(out, "Ratios: median of the rounds' own ratios.\n")?;
        write!(out, "| |")?;
        PEERS.iter().try_for_each(|peer| write!(out, " {peer} |"))?;
        writeln!(out, " Pogo ÷ floor | Pogo ÷ nginx | Pogo ÷ pass-through |")?;
        writeln!(out, "|---|{}", "---|".repeat(PEERS.len() + 3))?;
        for (measure, figures) in &self.figures {
            write!(out, "| {measure} |")?;
            for peer in PEERS {
                write!(out, " {} |", figures.get(&peer).map_or("–".to_owned(), |own| cell(own)))?;
            }
            for other in [Peer::Floor, Peer::Nginx, Peer::PassThrough] {
                write!(out, " {} |", ratio(*measure, figures, other).unwrap_or("–".to_owned()))?;
            }
            writeln!(out)?;
        }
        if self.faults.is_empty() {
            return writeln!(out, "\nNo event was lost, repeated or out of order.");
        }
        writeln!(out, "\nNot sound:")?;
        for (row, peer, fault) in &self.faults {
            writeln!(out, "- {row}, {peer}: {fault}")?;
        }
        Ok(())
    }
}

fn cell(figures: &[f64]) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let precision = if least < 1000.0 { 2 } else { 0 };
    format!("{:.precision$} ({least:.precision$})", median(figures.to_vec()))
}

/// How many times the other's figure Pogo's is, round by round; none unless each has a figure in every round. The floor has no memory.
fn ratio(measure: Measure, figures: &BTreeMap<Peer, Vec<f64>>, other: Peer) -> Option<String> {
    let (pogo, other) = (figures.get(&Peer::Pogo)?, figures.get(&other)?);
    let comparable = pogo.len() == other.len() && !matches!(measure, Measure::Idle(_));
    let ratios = pogo.iter().zip(other).map(|(pogo, other)| pogo / other).collect();
    comparable.then(|| format!("{:.2}", median(ratios)))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() % 2 {
        0 => f64::midpoint(figures[middle - 1], figures[middle]),
        _ => figures[middle],
    }
}
