//! Every order in which the hub's task, readers and publishers can meet, within small bounds: the real hub, its real
//! views and readers, checked by loom. Run with
//! `RUSTFLAGS="--cfg loom" cargo test --release --no-default-features --lib loom --target-dir target/loom`.
//!
//! Each model says which planted bugs it was seen to find. Those that can be planted from here stay planted, as a
//! model that has to fail: those leave their subscription alone when it is dropped, because a drop within a failure would
//! end the process. A lost wake shows as loom's "deadlock".

use std::{future::poll_fn, mem::ManuallyDrop};

use loom::{future::block_on, thread};

use super::{entry::Entry, task::Dirty, view::ViewRead, *};
use crate::sync::weakened;

fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// An event that is its own number.
#[derive(Debug)]
struct Numbered(u64);

impl Source for Numbered {
    fn name(&self, _: usize, _: Dialect) -> &str {
        "numbered"
    }
    fn write_json(&self, _: usize, _: Dialect, out: &mut Vec<u8>) {
        out.push(self.0 as u8);
    }
    fn tags(&self, _: usize) -> Tags<'_> {
        Tags {
            kind: "numbered",
            ..Tags::default()
        }
    }
    fn weight(&self) -> usize {
        1
    }
}

fn encode(frame: &Frame<'_>, out: &mut Vec<u8>) {
    frame.source.write_json(frame.index, Dialect::Stream, out);
}

const FOREVER: Duration = Duration::from_secs(1 << 30);

/// A hub with one channel, and the work of its task.
struct House {
    hub: Arc<Hub>,
    channel: ChannelId,
    task: Task,
}

struct Task {
    hub: Arc<Hub>,
    inbox: mpsc::Receiver<Message>,
    dirty: Vec<Dirty>,
}

impl House {
    fn new(replay_capacity: usize) -> Self {
        let settings = HubSettings {
            replay_capacity,
            replay_bytes: 1 << 20,
            replay_age: FOREVER,
            inbox_capacity: 8,
            max_channels: 4,
            max_clients: 4,
            flush_interval: Duration::ZERO,
            heartbeat_interval: FOREVER,
            stall_timeout: FOREVER,
            buffer_size: 100,
            encoders: [encode; FORMS],
            compressor: None,
        };
        let (hub, Inbox(inbox)) = Hub::new(settings, Clock::new());
        let channel = hub.channel("numbers", ChannelConfig::stream()).unwrap();
        let task = Task {
            hub: hub.clone(),
            inbox,
            dirty: Vec::new(),
        };
        Self { hub, channel, task }
    }

    fn spec(&self) -> ViewSpec {
        ViewSpec {
            channels: ChannelSet::Some([self.channel].into()),
            filter: Filter::default(),
            tenant: None,
            form: Form(0),
            leases: Leases::default(),
        }
    }

    fn subscribe(&self, start: Start) -> Subscription {
        self.hub.subscribe(self.spec(), start).unwrap()
    }

    fn publish(&self, number: u64) {
        publish(&self.hub, self.channel, number).unwrap();
    }
}

fn publish(hub: &Hub, channel: ChannelId, number: u64) -> Result<(), Error> {
    hub.publish(channel, Arc::new(Numbered(number)))
}

impl Task {
    /// One turn over what is in the inbox, as [`Hub::run`] takes it.
    fn turn(&mut self) {
        let mut first = None;
        while let Ok(message) = self.inbox.try_recv() {
            let now_us = *first.get_or_insert_with(|| self.hub.now_us());
            self.hub.take_in(message, &mut self.dirty, now_us);
        }
        self.show();
    }

    fn show(&mut self) {
        for view in self.hub.show(&mut self.dirty, u64::MAX / 2, false) {
            let mut below = usize::MAX;
            while below > 0 {
                below = view.wake_slice(below, 1);
            }
        }
    }

    /// Waits for one message, and takes it in.
    fn wait_and_turn(&mut self) {
        let message = block_on(self.inbox.recv()).unwrap();
        let now_us = self.hub.now_us();
        self.hub.take_in(message, &mut self.dirty, now_us);
        self.show();
    }
}

/// What a reader has had: numbers, and how many it was told to have missed.
#[derive(Debug, Default)]
struct Account {
    numbers: Vec<u64>,
    missed: u64,
    closed: Option<CloseReason>,
}

impl Account {
    fn take(&mut self, read: Read) {
        match read {
            Read::Events(bytes) => {
                for number in bytes.iter().map(|byte| u64::from(*byte)) {
                    assert!(
                        self.numbers.last().is_none_or(|last| *last < number),
                        "{number} after {:?}",
                        self.numbers
                    );
                    self.numbers.push(number);
                }
            }
            Read::Gap(gap) => self.missed += gap.missed.unwrap(),
            Read::Heartbeat(_) => panic!("no heartbeat is due"),
            Read::Closed(reason) => self.closed = Some(reason),
        }
    }

    fn count(&self) -> u64 {
        self.numbers.len() as u64 + self.missed
    }
}

/// Reads and waits until so many events are accounted for, or the end.
fn read_until(subscription: &mut Subscription, count: u64) -> Account {
    let mut account = Account::default();
    while account.count() < count && account.closed.is_none() {
        let read = block_on(poll_fn(|cx| subscription.poll_read(cx)));
        account.take(read.expect("the last thing is the end"));
    }
    account
}

/// A reader that finds nothing and waits, while the task shows an event and wakes: it is told.
fn an_event_meets_a_reader_that_goes_to_sleep() {
    let house = House::new(4);
    let mut subscription = ManuallyDrop::new(house.subscribe(Start::Latest));
    house.publish(1);
    let mut task = house.task;
    let task = thread::spawn(move || task.turn());
    let account = read_until(&mut subscription, 1);
    assert_eq!(account.numbers, [1]);
    task.join().unwrap();
    drop(ManuallyDrop::into_inner(subscription));
}

/// Found: the look at the view's head left out after [`Reader::arm`]; `armed` stored with release only, or loaded with
/// acquire only; the head loaded with acquire only.
#[test]
fn loom_hub_event_meets_sleeper() {
    check(3, an_event_meets_a_reader_that_goes_to_sleep);
}

/// The same without sequential consistency: the reader does not see the event, the task does not see the reader.
#[test]
#[should_panic = "deadlock"]
fn loom_hub_event_meets_sleeper_needs_sequential_consistency() {
    weakened(|| check(3, an_event_meets_a_reader_that_goes_to_sleep));
}

/// The same between a view and a reader alone: the task may have another view to show still, so that nothing else is
/// stored in between.
///
/// Found: the head stored with release only.
#[test]
fn loom_hub_view_meets_sleeper() {
    check(3, || {
        let house = House::new(4);
        let reader = Arc::new(Reader::new(1, 0, 0));
        let view = Arc::new(View::new(house.spec(), encode, None, 0));
        view.join(reader.clone());
        let entry = {
            let info = house.hub.channel_info(house.channel).unwrap();
            Arc::new(Entry::new(1, 0, 0, 0, 0, info, Arc::new(Numbered(1))))
        };
        let shown = view.clone();
        let task = thread::spawn(move || {
            assert!(shown.push(&entry));
            shown.show(1);
            shown.wake_slice(usize::MAX, 1);
        });
        let mut waker = None;
        block_on(poll_fn(|cx| {
            reader.arm(cx, &mut waker);
            match view.head() {
                0 => std::task::Poll::Pending,
                _ => std::task::Poll::Ready(()),
            }
        }));
        task.join().unwrap();
        assert!(matches!(view.read(0), ViewRead::Chunk(_)));
    });
}

/// The same with a reader that looks first and arms then.
#[test]
#[should_panic = "deadlock"]
fn loom_hub_event_meets_sleeper_that_looks_too_early() {
    check(3, || {
        let house = House::new(4);
        let mut subscription = ManuallyDrop::new(house.subscribe(Start::Latest));
        house.publish(1);
        let mut task = house.task;
        let task = thread::spawn(move || task.turn());
        let read = block_on(poll_fn(|cx| match subscription.try_read() {
            Some(read) => std::task::Poll::Ready(read),
            None => {
                let Subscription { reader, waker, .. } = &mut *subscription;
                reader.arm(cx, waker);
                std::task::Poll::Pending
            }
        }));
        assert!(matches!(read, Read::Events(_)));
        task.join().unwrap();
        drop(ManuallyDrop::into_inner(subscription));
    });
}

/// From a publisher through the inbox and the task to a reader: three threads, two events, each exactly once.
///
/// Found: a view that stays listed when it has been shown, so that the second event never is.
#[test]
fn loom_hub_inbox_task_reader() {
    check(2, || {
        let house = House::new(4);
        let mut subscription = house.subscribe(Start::Latest);
        let (hub, channel) = (house.hub.clone(), house.channel);
        let publisher = thread::spawn(move || {
            publish(&hub, channel, 1).unwrap();
            publish(&hub, channel, 2).unwrap();
        });
        let mut task = house.task;
        let task = thread::spawn(move || {
            task.wait_and_turn();
            task.wait_and_turn();
        });
        let account = read_until(&mut subscription, 2);
        assert_eq!(account.numbers, [1, 2]);
        publisher.join().unwrap();
        task.join().unwrap();
    });
}

/// A reader goes through the log from the beginning while the task appends and the log lets go: what it gets and
/// what it is told to have missed is everything, in order.
///
/// Found: gaps counted under another lock than the one under which the entries were taken; an eviction that is not
/// remembered.
#[test]
fn loom_hub_log_evicts_under_reader() {
    check(3, || {
        let mut house = House::new(1);
        house.publish(1);
        house.publish(2);
        house.task.turn();
        let start = Start::After(house.hub.position_of(0));
        let mut subscription = house.subscribe(start);
        house.publish(3);
        let mut task = house.task;
        let task = thread::spawn(move || task.turn());
        let account = read_until(&mut subscription, 3);
        assert_eq!(account.count(), 3, "{account:?}");
        assert_eq!(account.numbers.last(), Some(&3));
        task.join().unwrap();
    });
}

/// A reader joins while an event is shown: it begins before it and gets it, or behind it and does not, and its
/// position says which.
///
/// Found: a join that does not seal what its view has pending, and gets an event from before its position.
#[test]
fn loom_hub_join_meets_event() {
    check(3, || {
        let house = House::new(4);
        let _other = house.subscribe(Start::Latest);
        house.publish(1);
        let (hub, spec) = (house.hub.clone(), house.spec());
        let mut task = house.task;
        let task = thread::spawn(move || {
            task.turn();
            task
        });
        let mut subscription = hub.subscribe(spec, Start::Latest).unwrap();
        let began = subscription.position().seq;
        let mut task = task.join().unwrap();
        publish(&hub, house.channel, 2).unwrap();
        task.turn();
        let account = read_until(&mut subscription, 2 - began);
        let expected: &[u64] = if began == 0 { &[1, 2] } else { &[2] };
        assert_eq!(account.numbers, expected);
    });
}

/// A reader's position never passes an event that it has not had.
///
/// Found: the visible head read after the view was found empty, instead of before; the visible head stored before
/// the views are shown.
#[test]
fn loom_hub_position_never_passes_an_event() {
    check(3, || {
        let house = House::new(4);
        let mut subscription = house.subscribe(Start::Latest);
        house.publish(1);
        let mut task = house.task;
        let task = thread::spawn(move || task.turn());
        let mut account = Account::default();
        for _ in 0..2 {
            match subscription.try_read() {
                Some(read) => account.take(read),
                None => assert_eq!(subscription.position().seq, account.count()),
            }
        }
        task.join().unwrap();
    });
}

/// The hub closes while a reader waits: it ends. And while one joins: it ends or is refused.
///
/// Found: a close that stores its reason and does not wake; a reader that does not look for a reason once it is armed;
/// a join that does not look once more whether the hub was closed meanwhile.
#[test]
fn loom_hub_close_meets_sleeper_and_newcomer() {
    check(2, || {
        let house = House::new(4);
        let mut subscription = house.subscribe(Start::Latest);
        let hub = house.hub.clone();
        let closer = thread::spawn(move || hub.close_all(CloseReason::Shutdown));
        let (hub, spec) = (house.hub.clone(), house.spec());
        let newcomer = thread::spawn(move || match hub.subscribe(spec, Start::Latest) {
            Ok(mut late) => {
                let account = read_until(&mut late, 1);
                assert_eq!(account.closed, Some(CloseReason::Shutdown));
            }
            Err(refused) => assert_eq!(refused, Refused::Closed),
        });
        let account = read_until(&mut subscription, 1);
        assert_eq!(account.closed, Some(CloseReason::Shutdown));
        closer.join().unwrap();
        newcomer.join().unwrap();
        drop(subscription);
        assert_eq!(house.hub.active(), 0);
    });
}

/// A host that waits until nobody reads any more, while the last reader leaves: it is told.
///
/// Found: the wait begun only after the look at who is there.
#[test]
fn loom_hub_last_reader_leaves_while_somebody_waits_for_it() {
    check(3, || {
        let house = House::new(4);
        let subscription = house.subscribe(Start::Latest);
        let reader = thread::spawn(move || drop(subscription));
        block_on(house.hub.deserted());
        assert_eq!(house.hub.active(), 0);
        reader.join().unwrap();
    });
}

/// A shutdown while somebody publishes: what was accepted is delivered before the end.
///
/// Found: the end told before the inbox is emptied; the inbox emptied before it is closed.
#[test]
fn loom_hub_shutdown_delivers_what_was_accepted() {
    check(2, || {
        let house = House::new(4);
        let mut subscription = house.subscribe(Start::Latest);
        let mut task = house.task;
        let task = thread::spawn(move || {
            task.turn();
            task.hub.finish(&mut task.inbox);
        });
        let (hub, channel) = (house.hub.clone(), house.channel);
        let publisher = thread::spawn(move || publish(&hub, channel, 1).is_ok());
        let account = read_until(&mut subscription, u64::MAX);
        let accepted = publisher.join().unwrap();
        assert_eq!(account.numbers.len(), usize::from(accepted));
        assert_eq!(account.closed, Some(CloseReason::Shutdown));
        task.join().unwrap();
    });
}

/// A reader that is asked to read something else while it goes to sleep does so.
///
/// Found: a wish that is announced before it is there; one that is there and does not wake; a reader that does not look
/// for it once it is armed.
#[test]
fn loom_hub_wish_meets_sleeper() {
    check(3, || {
        let mut house = House::new(4);
        let other = house.hub.channel("other", ChannelConfig::stream()).unwrap();
        let mut subscription = house.subscribe(Start::Latest);
        publish(&house.hub, other, 1).unwrap();
        house.task.turn();
        let reader = subscription.reader().clone();
        let wish = ViewSpec {
            channels: ChannelSet::Some([other].into()),
            ..house.spec()
        };
        let wanted = wish.clone();
        let admin = thread::spawn(move || reader.wish(wish));
        // It is woken for the wish, and goes back to sleep when it has seen to it.
        block_on(poll_fn(|cx| {
            let read = subscription.poll_read(cx);
            assert!(read.is_pending());
            match *subscription.spec() == wanted {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        }));
        admin.join().unwrap();
    });
}

/// A reader is kicked while its subscription is dropped, and given its seat meanwhile: it leaves once, and its seat is
/// given back once.
///
/// Found: a leave that does not ask whether the view still has the reader; a seat that is kept when its reader has left
/// already.
#[test]
fn loom_hub_kick_meets_drop_and_seat() {
    struct Counted(Arc<std::sync::atomic::AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    check(2, || {
        let house = House::new(4);
        let subscription = house.subscribe(Start::Latest);
        let reader = subscription.reader().clone();
        let vacated = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (hub, kicked) = (house.hub.clone(), reader.clone());
        let admin = thread::spawn(move || hub.dismiss(&kicked, CloseReason::Kicked));
        let (seat, seated) = (Counted(vacated.clone()), reader.clone());
        let host = thread::spawn(move || seated.hold(Box::new(seat)));
        drop(subscription);
        admin.join().unwrap();
        host.join().unwrap();
        assert_eq!(house.hub.active(), 0);
        assert_eq!(vacated.load(std::sync::atomic::Ordering::SeqCst), 1);
        let state = lock(&house.hub.state);
        assert!(state.views.is_empty() && !state.channels[0].info.has_readers());
    });
}

/// Readers are woken in slices while one leaves, whose place the last one takes: nobody who stays is passed over.
///
/// Found: slices from the beginning up.
#[test]
fn loom_hub_slices_pass_nobody_over() {
    check(3, || {
        let house = House::new(4);
        let readers: Vec<_> = (0..3).map(|id| Arc::new(Reader::new(id, 0, 0))).collect();
        let view = Arc::new(View::new(house.spec(), encode, None, 0));
        let waker = std::task::Waker::noop();
        for reader in &readers {
            reader.arm(&std::task::Context::from_waker(waker), &mut None);
            view.join(reader.clone());
        }
        let (others, leaving) = (view.clone(), readers[0].clone());
        let leaver = thread::spawn(move || others.leave(&leaving));
        let mut below = usize::MAX;
        while below > 0 {
            below = view.wake_slice(below, 1);
        }
        assert!(!leaver.join().unwrap());
        assert!(!readers[1].wake() && !readers[2].wake(), "passed over");
        assert_eq!(view.reader_count(), 2);
    });
}
