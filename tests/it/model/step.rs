//! What can happen in a schedule.

use proptest::prelude::*;

use super::place::Target;
use super::{CLIENTS, FOLLOWERS, ITEMS, ROOMS, USERS};

/// Where a step has a `room`, it is in the first or the second of the namespaces that play a part.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Write {
        room: usize,
        item: usize,
        hidden_from: Option<usize>,
        by_socket: bool,
    },
    /// As `Write`, but its answer comes only later.
    SlowWrite {
        room: usize,
        item: usize,
    },
    Delete {
        room: usize,
        item: usize,
    },
    /// A user may see nothing any more, or again; a write to what all else lies below.
    Access {
        room: usize,
        user: usize,
        allowed: bool,
    },
    Bind {
        client: usize,
        room: usize,
        target: Target,
        /// For a second.
        ttl: bool,
    },
    Show {
        client: usize,
        room: usize,
        target: Target,
    },
    /// The collection, and what becomes of its members.
    BindItems {
        client: usize,
        room: usize,
        state: bool,
    },
    Unbind {
        client: usize,
        room: usize,
        target: Target,
    },
    /// Leaves the namespace and joins it again, with nothing.
    Rejoin {
        client: usize,
        room: usize,
    },
    /// Leaves without a word and returns with the versions it holds.
    Reconnect {
        client: usize,
    },
    /// Said somewhere, for all namespaces.
    Auth {
        client: usize,
        room: usize,
        user: usize,
    },
    /// The next GET of the target is answered late, with what was true when it came.
    SlowGet {
        room: usize,
        target: Target,
    },
    /// The next GETs fail.
    Fail {
        room: usize,
        gets: usize,
        reset: bool,
    },
    /// Lets every late answer go.
    Release,
    /// Reads what has come.
    Read {
        client: usize,
    },
    /// A client over plain HTTP turns to this, or comes back to it.
    Follow {
        follower: usize,
        room: usize,
        target: Target,
    },
    /// It reads what has come, and comes back if it was sent away.
    Look {
        follower: usize,
    },
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (client, user) = (0..CLIENTS, 0..USERS);
    let (room, item) = (0..ROOMS, 0..ITEMS);
    let target = prop_oneof![
        2 => Just(Target::Collection),
        5 => item.clone().prop_map(Target::Item),
        1 => Just(Target::Digest),
    ];
    let hidden_from = proptest::option::weighted(0.3, user.clone());
    let ttl = proptest::bool::weighted(0.2);
    let step = prop_oneof![
        6 => (room.clone(), item.clone(), hidden_from, any::<bool>())
            .prop_map(|(room, item, hidden_from, by_socket)| Step::Write { room, item, hidden_from, by_socket }),
        2 => (room.clone(), item.clone()).prop_map(|(room, item)| Step::SlowWrite { room, item }),
        2 => (room.clone(), item).prop_map(|(room, item)| Step::Delete { room, item }),
        1 => (room.clone(), user.clone(), any::<bool>())
            .prop_map(|(room, user, allowed)| Step::Access { room, user, allowed }),
        6 => (client.clone(), room.clone(), target.clone(), ttl)
            .prop_map(|(client, room, target, ttl)| Step::Bind { client, room, target, ttl }),
        3 => (client.clone(), room.clone(), any::<bool>())
            .prop_map(|(client, room, state)| Step::BindItems { client, room, state }),
        3 => (client.clone(), room.clone(), target.clone())
            .prop_map(|(client, room, target)| Step::Show { client, room, target }),
        1 => (client.clone(), room.clone(), target.clone())
            .prop_map(|(client, room, target)| Step::Unbind { client, room, target }),
        1 => (client.clone(), room.clone()).prop_map(|(client, room)| Step::Rejoin { client, room }),
        2 => client.clone().prop_map(|client| Step::Reconnect { client }),
        2 => (client.clone(), room.clone(), user)
            .prop_map(|(client, room, user)| Step::Auth { client, room, user }),
        3 => (room.clone(), target.clone()).prop_map(|(room, target)| Step::SlowGet { room, target }),
        3 => (0..FOLLOWERS, room.clone(), target)
            .prop_map(|(follower, room, target)| Step::Follow { follower, room, target }),
        2 => (0..FOLLOWERS).prop_map(|follower| Step::Look { follower }),
        1 => (room, 1..3_usize, any::<bool>())
            .prop_map(|(room, gets, reset)| Step::Fail { room, gets, reset }),
        3 => Just(Step::Release),
        2 => client.prop_map(|client| Step::Read { client }),
    ];
    proptest::collection::vec(step, 1..40)
}
