//! Pogo in a program of one's own: page views, counted in memory beside an API.
//!
//! ```sh
//! cargo run --example embed -- http://127.0.0.1:3000 127.0.0.1:8080
//! ```
//!
//! Then, on `ws://127.0.0.1:8080/analytics`:
//!
//! ```text
//! > {"id":1,"event":"channel:subscribe","channel":"views"}
//! < {"id":1,"status":"ok"}
//! > {"id":2,"event":"track","data":{"page":"/about"}}
//! < {"id":2,"status":"ok","data":{"page":"/about","views":1}}
//! < {"event":"viewed","channel":"views","namespace":"/analytics","data":{"page":"/about","views":1}}
//! ```

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use pogo::protocol::ErrorCode;
use pogo::{Event, HandlerError, Pogo};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Track {
    page: String,
}

#[derive(Clone, Serialize)]
struct Views {
    page: String,
    views: u64,
}

/// So many pages are counted.
const MOST_PAGES: usize = 10_000;

/// What all handlers share.
#[derive(Clone, Default)]
struct Counters(Arc<Mutex<HashMap<String, u64>>>);

impl Counters {
    fn count(&self, page: String) -> Result<Views, HandlerError> {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() >= MOST_PAGES && !counters.contains_key(&page) {
            return Err(HandlerError::new(ErrorCode::LimitExceeded, "too many pages"));
        }
        let views = counters.entry(page.clone()).or_default();
        *views += 1;
        Ok(Views { page, views: *views })
    }

    fn all(&self) -> HashMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) fn start(upstream: &str, listen: &str) -> io::Result<Pogo> {
    let builder = Pogo::builder().upstream(upstream).listen(listen);
    let (counters, others) = (Counters::default(), builder.handle());
    let reported = counters.clone();
    builder
        .namespace("/analytics", |ns| {
            ns.on("track", move |event: Event| {
                let (counters, others) = (counters.clone(), others.clone());
                async move {
                    let Track { page } = event.data()?;
                    let views = counters.count(page)?;
                    // Everybody who is subscribed hears of it.
                    let told = others.publish_in(&event.namespace, "views", "viewed", &views);
                    told.map_err(|error| {
                        HandlerError::new(ErrorCode::Unavailable, error.to_string())
                    })?;
                    Ok(views)
                }
            })
            .on("report", move |_| {
                let counters = reported.clone();
                async move { Ok::<_, HandlerError>(counters.all()) }
            })
        })
        .start()
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let upstream = arguments.next().unwrap_or_else(|| "http://127.0.0.1:3000".into());
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let pogo = start(&upstream, &listen)?;
    eprintln!("listening on {}, until a line or the end of the input comes", pogo.address());
    io::stdin().read_line(&mut String::new())?;
    pogo.drain()
}
