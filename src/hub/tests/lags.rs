//! How far readers are behind, and whose events that counts.

use super::{super::*, *};

fn of(tenant: Option<&str>, text: &str) -> Arc<dyn Source> {
    Arc::new(Line {
        texts: vec![text.into()],
        key: String::new(),
        tenant: tenant.map(ToOwned::to_owned),
    })
}

#[tokio::test(start_paused = true)]
async fn a_tenants_reader_is_behind_its_own_events_only() {
    let house = House::new(HubSettings {
        replay_capacity: 20,
        ..settings()
    });
    let (a, b) = (house.stream("a"), house.stream("b"));
    let bound = |tenant: &str| {
        let spec = ViewSpec {
            tenant: Some(tenant.into()),
            ..spec(&[a, b])
        };
        house.hub.subscribe(spec, Start::Latest).unwrap()
    };
    let (mut acme, acme_too, globex) = (bound("acme"), bound("acme"), bound("globex"));
    let everybody = house.subscribe(&[a, b], Start::Latest);
    let lag = |reader: &Subscription| {
        let lags = house.hub.lags();
        lags.get(&reader.connection_id()).copied().unwrap_or(0)
    };
    for n in 0..3 {
        house.publish(a, of(Some("acme"), "ours")).await;
        for _ in 0..n {
            house.publish(b, of(Some("globex"), "theirs")).await;
        }
        house.publish(a, of(None, "nobody's")).await;
    }
    assert_eq!((lag(&acme), lag(&globex), lag(&everybody)), (3, 3, 9));
    assert_eq!((drain(&mut acme).len(), lag(&acme)), (3, 0));
    house.publish(a, of(Some("acme"), "ours")).await;
    assert_eq!((lag(&acme), lag(&acme_too), lag(&globex)), (1, 4, 3));
    // What others' events drive out of a log is not counted.
    for _ in 0..40 {
        house.publish(b, of(Some("globex"), "theirs")).await;
    }
    assert_eq!(lag(&acme_too), 4);
    assert_eq!(lag(&everybody), 50, "what is gone is still before it");
}
