//! The two invariants, against random schedules: writers, viewers with eyes of their own, hidden
//! items, revocations, credentials that change, bindings that end by themselves, clients that return
//! with what they last held, and an API that answers slowly, out of order, or not at all. Sockets speak
//! any of the formats, compressed or not, and are told patches, states or what became of members;
//! others follow over plain HTTP, in each of the ways that there are.
//!
//! All of that in two namespaces at once: of `/`, one that shares its views, one that sees its API by
//! routes of its own, and one that has an API of its own. A socket is opened in the one or the other,
//! is in both, and may leave one and join it again; what is written in one has to be seen in the
//! other if it is of the same API, and in no case if it is not.
//!
//! Convergence: when everything has come to rest, each client holds exactly what a GET with its
//! credential answers, and who binds then is given it. Non-interference: every byte that a session
//! received was in an answer to its own credential, of the API of the namespace that it came for; each
//! API's answers to each user carry a canary that nothing else may contain, and no log line. And what
//! is told of a binding is told while there is one.

mod client;
mod follower;
mod place;
mod schedule;
mod step;
mod talk;
mod truth;
mod world;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use pogo::protocol::Format;
use proptest::prelude::*;

use self::follower::Way;
use self::place::{Side, Space};
use self::schedule::Schedule;
use self::step::{Step, steps};
use self::talk::Manner;
use self::truth::{canary, token};
use self::world::World;

const USERS: usize = 3;
const ITEMS: usize = 3;
const CLIENTS: usize = 4;
const FOLLOWERS: usize = 2;
/// So few, that what happens in one meets what happens in the other.
const ROOMS: usize = 2;

/// Where a schedule plays, how each client speaks, and how each follower follows.
#[derive(Debug, Clone)]
struct Setting {
    rooms: [Space; ROOMS],
    manners: [Manner; CLIENTS],
    ways: [Way; FOLLOWERS],
}

fn settings() -> impl Strategy<Value = Setting> {
    let room = || prop::sample::select(&Space::ALL[..]);
    let format = || prop::sample::select(&Format::ALL[..]);
    let manner = || {
        (format(), any::<bool>(), any::<bool>(), 0..ROOMS)
            .prop_map(|(format, delta, deflate, home)| Manner { format, delta, deflate, home })
    };
    let way = || prop::sample::select(&Way::ALL[..]);
    let rooms = [(); ROOMS].map(|()| room());
    (rooms, [(); CLIENTS].map(|()| manner()), [(); FOLLOWERS].map(|()| way()))
        .prop_map(|(rooms, manners, ways)| Setting { rooms, manners, ways })
}

/// How many patches there were, messages that came compressed, bindings that ended by themselves, and
/// pieces of news over plain HTTP.
static PATCHES: AtomicU64 = AtomicU64::new(0);
static COMPRESSED: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
static NEWS: AtomicU64 = AtomicU64::new(0);
/// How many events there were in each of [`Space::ALL`].
static TOLD: [AtomicU64; Space::ALL.len()] = [const { AtomicU64::new(0) }; Space::ALL.len()];

static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(Arc::default);

#[derive(Clone)]
struct LogLines;

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn run(world: &World, setting: &Setting, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut schedule = Schedule::new(world, setting);
    steps.iter().for_each(|step| schedule.step(step));
    schedule.come_to_rest()
}

#[test]
fn whatever_happens_clients_converge_and_see_nothing_of_each_other() {
    let writer = || LogLines;
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(writer)
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
    let world = World::new();
    let config = ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    if let Err(failure) =
        runner.run(&(settings(), steps()), |(setting, steps)| run(&world, &setting, &steps))
    {
        panic!("{failure}");
    }
    let counts = [&PATCHES, &COMPRESSED, &ENDED, &NEWS].map(|count| count.load(Ordering::Relaxed));
    assert!(!counts.contains(&0), "patches, compressed, ended, news: {counts:?}");
    let told = TOLD.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert!(!told.contains(&0), "events in {:?}: {told:?}", Space::ALL);
    let log = String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned();
    assert!(log.contains("socket"), "the log was read: {log}");
    for user in 0..USERS {
        assert!(!Side::ALL.iter().any(|side| log.contains(&canary(*side, user))));
        assert!(!log.contains(&token(user)));
    }
}
