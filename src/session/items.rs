//! The frames of a binding whose client is told of the members of a collection one by one.
//!
//! As with states, nothing is queued: the next frame is made when the socket takes it, from how far
//! the client was told and what there is to tell now.

use std::sync::Arc;

use bytes::Bytes;

use super::outbox::{namespace_of, state_frame};
use crate::hub::items as hub;
use crate::hub::mirror::Binding;
use crate::protocol::deflate::Dialect;
use crate::protocol::{Format, Outgoing, codec};
use crate::view::items::{Log, Next, Reading, Told, What};

/// The next frame that the client is owed, what it has to know of the state's age, and whether more
/// is to follow.
pub(super) fn frames_of(
    binding: &Binding,
    so_far: hub::Told,
    dialect: Dialect,
) -> (Option<Bytes>, Option<Bytes>, bool) {
    let latest = binding.latest().filter(|_| binding.live.get());
    let (Some((state, stale)), Some(log)) = (latest, binding.log()) else {
        return (None, None, false);
    };
    let (reading, stamp) = (so_far.reading, log.stamp());
    let is_held = binding.held.borrow().as_deref() == Some(&*state.version);
    let next = log.next(reading);
    let is_whole = match next {
        // What is no collection is shown as any state is; members that were told are to be told anew.
        Next::Everything => !is_held || log.is_collection,
        Next::Nothing | Next::Event(_) => so_far.state && !is_held,
    };
    let (frame, read) = match next {
        Next::Everything => (None, Reading::whole(stamp)),
        Next::Nothing => (None, reading.completed(stamp)),
        Next::Event(_) if is_whole => (None, reading),
        Next::Event(told) => (Some(item_frame(&told, &log, binding, dialect)), told.reading),
    };
    binding.read(read);
    if is_whole || read.seen == stamp {
        binding.held.replace(Some(Arc::clone(&state.version)));
    }
    let frame = if is_whole { Some(state_frame(&state, binding, dialect)) } else { frame };
    let event = match (binding.told_stale.replace(stale), stale) {
        (false, true) => Some("stale"),
        (true, false) if !is_whole => Some("fresh"),
        _ => None,
    };
    let notice = event.map(|event| {
        let uri = Some(binding.name());
        let namespace = namespace_of(binding);
        let notice = Outgoing { event: Some(event), uri, namespace, ..Outgoing::default() };
        codec::encode(&notice, dialect.format())
    });
    (frame, notice, read.seen != stamp)
}

/// The frame of one event: shared by all that know the collection by the same name, unless only
/// this client is up to date with it.
fn item_frame(told: &Told<'_>, log: &Log, binding: &Binding, dialect: Dialect) -> Bytes {
    let version = log.version.as_deref().filter(|_| told.is_last && binding.versioned.get());
    let encode = || encode_item(told, binding, version, dialect.format());
    let kind = usize::from(!told.is_new);
    let is_shared = binding.spelling.is_none() && binding.namespace.is_none();
    match (is_shared, version) {
        (true, None) => told.event.frames[kind].get(dialect, encode),
        (true, Some(_)) if told.is_newest => log.last.0[kind].get(dialect, encode),
        _ => dialect.pack(encode()),
    }
}

fn encode_item(told: &Told<'_>, binding: &Binding, version: Option<&str>, format: Format) -> Bytes {
    let (name, data) = match &told.event.what {
        What::Gone => ("delete", None),
        What::Shown(data) => (if told.is_new { "create" } else { "update" }, Some(&*data.0)),
        What::Unseen => (if told.is_new { "create" } else { "update" }, None),
    };
    let message = Outgoing {
        event: Some(name),
        uri: Some(binding.name()),
        namespace: namespace_of(binding),
        item: Some(told.event.item.as_str()),
        data,
        version,
        ..Outgoing::default()
    };
    codec::encode(&message, format)
}
