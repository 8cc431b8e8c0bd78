//! A reader that wants something else from now on.

use super::{
    super::{read::Verdict, *},
    *,
};

#[tokio::test(start_paused = true)]
async fn what_a_reader_reads_can_change_without_loss_or_repeat() {
    let house = House::new(settings());
    let (a, b, c) = (house.stream("a"), house.stream("b"), state(&house, "c"));
    house.publish(c, line("now")).await;
    let mut reader = house.subscribe(&[a], Start::Latest);
    house.publish(a, line("1")).await;
    house.publish(b, line("unread")).await;
    assert_eq!(drain(&mut reader), ["a 2 1"]);
    reader.retarget(spec(&[a, b, c]));
    // The snapshot comes with the reader's own position; what b had before is over.
    assert_eq!(drain(&mut reader), ["c 3 now"]);
    house.publish(a, line("2")).await;
    house.publish(b, line("3")).await;
    reader.retarget(spec(&[b, c]));
    assert_eq!(
        drain(&mut reader),
        ["b 5 3"],
        "a was taken away before it was handed over"
    );
    house.publish(a, line("4")).await;
    house.publish(b, line("5")).await;
    assert_eq!(drain(&mut reader), ["b 7 5"]);
    reader.retarget(spec(&[]));
    house.publish(b, line("6")).await;
    assert_eq!(drain(&mut reader), [""; 0]);
    // Not polled meanwhile: what was published before it came back is not its own.
    house.publish(b, line("7")).await;
    reader.retarget(spec(&[b]));
    assert_eq!(drain(&mut reader), [""; 0]);
    house.publish(b, line("8")).await;
    assert_eq!(drain(&mut reader), ["b 10 8"]);
    let readers = |id| {
        house
            .hub
            .channel_info(id)
            .unwrap()
            .readers
            .load(Ordering::Relaxed)
    };
    assert_eq!([readers(a), readers(b), readers(c)], [0, 1, 0]);
    drop(reader);
    assert_eq!([readers(a), readers(b), readers(c)], [0, 0, 0]);
    assert_eq!((house.hub.active(), house.hub.stats().views), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_change_in_the_middle_of_a_replay_loses_and_repeats_nothing() {
    let mut small = settings();
    small.replay_capacity = 10;
    let house = House::new(small);
    let (a, b) = (house.stream("a"), house.stream("b"));
    let start = house.hub.position();
    for n in 0..15 {
        house
            .publish(a, line(format!("{n}{}", "x".repeat(20_000))))
            .await;
        house.publish(b, line(n.to_string())).await;
    }
    let mut reader = house.subscribe(&[a], Start::After(start));
    let told = |read: Option<Read>| match read {
        Some(Read::Events(bytes)) => {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.lines()
                .map(|line| line.trim_end_matches('x').to_owned())
                .collect()
        }
        Some(Read::Gap(gap)) => vec![format!("gap {} {:?}", gap.channel, gap.missed)],
        None => vec![],
        other => panic!("{other:?}"),
    };
    let mut lines = told(reader.try_read());
    assert_eq!(lines, ["gap a Some(5)"]);
    reader.retarget(spec(&[a, b]));
    loop {
        let more = told(reader.try_read());
        if more.is_empty() {
            break;
        }
        lines.extend(more);
    }
    let of = |channel: &str| -> Vec<&str> {
        lines
            .iter()
            .filter(|line| line.split(' ').next() == Some(channel))
            .map(|line| line.rsplit(' ').next().unwrap())
            .collect()
    };
    let held = ["5", "6", "7", "8", "9", "10", "11", "12", "13", "14"];
    assert_eq!(of("a"), held);
    assert_eq!(of("b"), held);
    assert_eq!(
        of("gap"),
        ["Some(5)"],
        "told once, and not for a channel that was not read"
    );
    drop(house);
}

#[tokio::test(start_paused = true)]
async fn a_reader_can_begin_again_elsewhere() {
    let house = House::new(settings());
    let a = house.stream("a");
    let start = house.hub.position();
    let mut reader = house.subscribe(&[a], Start::Latest);
    house.publish(a, line("1")).await;
    assert_eq!(drain(&mut reader), ["a 1 1"]);
    reader.restart(spec(&[a]), Start::After(start));
    assert_eq!(
        (reader.resume().verdict, reader.resume().replayed),
        (Verdict::Full, 1)
    );
    assert_eq!(drain(&mut reader), ["a 1 1"]);
    reader.restart(spec(&[a]), Start::Unknown);
    assert_eq!(reader.resume().verdict, Verdict::Lost);
    assert_eq!(drain(&mut reader), ["gap a ? Evicted"]);
    house.publish(a, line("2")).await;
    assert_eq!(drain(&mut reader), ["a 2 2"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_taken_out_stays_out_wherever_it_goes() {
    let house = House::new(settings());
    let (a, b) = (house.stream("a"), house.stream("b"));
    let mut reader = house.subscribe(&[a], Start::Latest);
    let (view, shared) = (reader.view.clone(), reader.reader.clone());
    reader.retarget(spec(&[b]));
    // The sweep had seen it in its former view.
    house.hub.leave(&view, &shared);
    assert_eq!(house.hub.active(), 1);
    let view = reader.view.clone();
    house.hub.leave(&view, &shared);
    reader.retarget(spec(&[a]));
    drop(reader);
    assert_eq!((house.hub.active(), house.hub.stats().views), (0, 0));
}
