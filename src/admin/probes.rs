//! Whether this server lives, whether it should be sent clients, and what it has counted.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::answer::{Answer, Refusal};
use super::{Desk, process};
use crate::hub::outlook::Place;
use crate::metrics::Exposition;
use crate::session::orders::Order;
use crate::upstream;

/// How long an attempt to connect to the upstream counts, so that probes do not add up.
const UPSTREAM_MEMORY: Duration = Duration::from_secs(1);
/// A probe waits no longer than this for the upstream.
const UPSTREAM_PATIENCE: Duration = Duration::from_secs(2);

impl Desk {
    /// Alive while every worker's loop turns. A drain is part of a life.
    pub(super) async fn health(&self) -> Result<Answer, Refusal> {
        let draining = self.reach.drain.is_cancelled();
        if !draining {
            for orders in &self.reach.orders {
                self.order(orders, Order::Answer).await?;
            }
        }
        Ok(Answer::json(&json!({"status": "ok", "draining": draining})))
    }

    /// Ready to be sent clients: not draining, and the upstream can be connected to.
    pub(super) async fn readiness(&self) -> Result<Answer, Refusal> {
        if self.reach.drain.is_cancelled() {
            return Err(Refusal::unavailable("draining"));
        }
        if !self.reaches_upstream().await {
            return Err(Refusal::unavailable("the upstream cannot be connected to"));
        }
        Ok(Answer::json(&json!({"status": "ready"})))
    }

    async fn reaches_upstream(&self) -> bool {
        if let Some((tried, reached)) = self.upstream.get()
            && tried.elapsed() < UPSTREAM_MEMORY
        {
            return reached;
        }
        let subject = self.reach.subject.load_full();
        let options = &subject.upstream;
        let connecting = TcpStream::connect(upstream::address_of(options));
        let patience = options.connect_timeout.min(UPSTREAM_PATIENCE);
        let reached = matches!(tokio::time::timeout(patience, connecting).await, Ok(Ok(_)));
        self.upstream.set(Some((Instant::now(), reached)));
        reached
    }

    pub(super) fn metrics(&self) -> Answer {
        let mut out = Exposition::default();
        self.reach.metrics.expose(&mut out);
        out.gauge("pogo_views", "Views that are kept up to date.");
        out.sample(&[], views(&self.subject().places) as u64);
        out.gauge("pogo_connections", "Connections of clients.");
        out.sample(&[], self.reach.connections.total() as u64);
        out.gauge("pogo_draining", "1 while this server drains.");
        out.sample(&[], u64::from(self.reach.drain.is_cancelled()));
        out.gauge("pogo_build_info", "Always 1.");
        out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        process::expose(&mut out);
        Answer::text(Exposition::CONTENT_TYPE, out.finish())
    }
}

/// Namespaces may have views in common.
fn views(places: &[Place]) -> usize {
    let is_first = |number: usize, place: &Place| {
        !places[..number].iter().any(|earlier| place.shares_views_with(earlier))
    };
    let apart = places.iter().enumerate().filter(|(number, place)| is_first(*number, place));
    apart.map(|(_, place)| place.own().views()).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use crate::admin::{Desk, Patience, Reach, Subject};
    use crate::connections::Connections;
    use crate::gate::Gate;
    use crate::session::orders::MAX_ORDERS;
    use crate::{gate, metrics, upstream};

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_does_not_answer_is_found_out_and_asked_no_more_than_it_can_hold() {
        let metrics = Arc::new(metrics::Node::new(1, []));
        let (orders, stuck) = mpsc::channel(MAX_ORDERS);
        let subject = Subject {
            token: None,
            hosts: Vec::new(),
            tables: Vec::new(),
            places: Vec::new(),
            gate: Arc::new(Gate::new(&gate::Options::default()).unwrap()),
            upstream: upstream::Options::default(),
        };
        let reach = Reach {
            subject: Arc::new(ArcSwap::from_pointee(subject)),
            metrics,
            orders: vec![orders],
            connections: Connections::new(0, 0),
            drain: CancellationToken::new(),
        };
        let desk = Desk::new(Patience::default(), reach);
        for _ in 0..MAX_ORDERS {
            assert_eq!(desk.health().await.unwrap_err().detail, "a worker does not answer");
        }
        let full = desk.health().await.unwrap_err();
        assert_eq!((full.status.as_u16(), &*full.detail), (503, "a worker takes no more orders"));
        // Whose workers have ended is alive while it drains.
        drop(stuck);
        assert_eq!(desk.health().await.unwrap_err().detail, "a worker has ended");
        desk.reach.drain.cancel();
        assert!(desk.health().await.is_ok());
    }
}
