//! How a session begins: as a socket, or as a socket's part in a namespace.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use http::HeaderMap;
use tokio::time::Instant;

use super::calls::Calls;
use super::frames::Frames;
use super::membership::Channels;
use super::namespaces::{Extra, Outlet};
use super::registry::Sessions;
use super::{Connection, Session};
use crate::audience::Viewer;
use crate::connections::Slot;
use crate::headers::ClientAddress;
use crate::protocol::deflate::Dialect;

/// What a socket was opened with.
#[derive(Debug)]
pub struct Opening {
    pub dialect: Dialect,
    pub headers: HeaderMap,
    pub client: ClientAddress,
    pub host: String,
    /// The connection's place among all; held as long as the socket is open.
    pub slot: Slot,
    /// The namespace whose path it was opened at; none is `/`.
    pub namespace: Option<String>,
}

/// All that sessions differ in when they begin.
pub(super) struct Beginning {
    pub(super) id: u64,
    pub(super) sessions: Rc<Sessions>,
    /// A part has none.
    pub(super) connection: Option<Connection>,
    pub(super) client: ClientAddress,
    pub(super) host: String,
    pub(super) outbox: Outlet,
    pub(super) extra: OnceCell<Box<Extra>>,
    pub(super) viewer: Rc<Viewer>,
    pub(super) authenticated: bool,
}

impl Session {
    pub(super) fn begin(beginning: Beginning) -> Rc<Self> {
        let now = Instant::now();
        let Beginning {
            id,
            sessions,
            connection,
            client,
            host,
            outbox,
            extra,
            viewer,
            authenticated,
        } = beginning;
        Rc::new_cyclic(|me| Self {
            id,
            sessions,
            connection: RefCell::new(connection),
            client,
            host,
            frames: RefCell::new(Frames::of(outbox.dialect)),
            outbox,
            extra,
            viewer: RefCell::new(viewer),
            authenticated: Cell::new(authenticated),
            expires: Cell::new(None),
            paused: Cell::new(false),
            judging: Cell::new(0),
            bindings: RefCell::default(),
            has_ends: Cell::new(false),
            channels: Channels::default(),
            calls: Calls::default(),
            strikes: Cell::new(0),
            born: now,
            heard: Cell::new(now),
            pinged: Cell::new(None),
            wakes_at: Cell::new(None),
            closing: Cell::new(None),
            leaving: Cell::new(None),
            over: Cell::new(false),
            parted: Cell::new(None),
            waker: RefCell::new(None),
            me: me.clone(),
        })
    }
}
