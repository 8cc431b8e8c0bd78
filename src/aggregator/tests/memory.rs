use allocation_counter::measure;

use super::*;
use crate::aggregator::memory::memory_ceiling;

const MINUTE: f64 = 60.0;
const HALF_HOUR: f64 = 1_800.0;
const DAY: f64 = 86_400.0;
const FINE: f64 = 10.0;

/// What one slot of ten seconds gets.
#[derive(Clone, Copy)]
struct Fill {
    /// Requests of each route, with as many different latencies.
    of_each: u64,
    limits: (u64, u64, u64, u64),
    users: u64,
}

impl Fill {
    /// Every label of every table, and as many latencies as the histograms of their rows take.
    fn slot(&self, house: &mut House, slot: u64) {
        let (routes, providers, models, tenants) = self.limits;
        let most = routes.max(models).max(tenants).max(providers);
        for index in 0..(most * self.of_each).max(self.users) {
            let round = index / most;
            house.finish(|collector, record| {
                let labels = collector.labels();
                let name = |kind: &str, of: u64| format!("{kind}-{}", index % of);
                record.route = labels
                    .route
                    .intern(&name("/a/usual/route/of/a/host", routes));
                record.provider = labels.provider.intern(&name("provider", providers));
                record.model = labels.model.intern(&name("a-model-with-a-name", models));
                record.tenant = labels.tenant.intern(&name("tenant", tenants));
                let user = name("user-with-an-address@example.org", self.users);
                record.user = labels.user.intern(&user);
                if record.user == LabelId::OTHER {
                    record.extra = Some(Box::new(Extra {
                        user: Some(user.into()),
                        ..Extra::default()
                    }));
                }
                // Sixteen to an octave, over more octaves than any histogram has room for.
                let scattered = |n: u64| (1_000.0 * 2f64.powf((n % 224) as f64 / 16.0)) as u64;
                record.latency_us = scattered(round + slot);
                record.ttfb_us = Some(scattered(round + slot + 7) / 2);
                record.status = Some(100 + (index % 500) as u16);
                record.success = index % 3 > 0;
                record.input_tokens = Some(10);
                record.cost_nanos = Some(5);
            });
            if index % 2_048 == 0 {
                house.pump();
                house.state.ready.take();
            }
        }
        house.pump();
        house.state.ready.take();
    }

    /// A day in which every slot of every level has seen it: half hours, then minutes, then tens of seconds.
    fn day(&self, house: &mut House) {
        let mut slot = 0;
        let mut passed = 0.0;
        let mut step = |house: &mut House, seconds: f64| {
            self.slot(house, slot);
            slot += 1;
            passed += seconds;
            house.pass(seconds);
            passed
        };
        while step(house, HALF_HOUR) < DAY - 2.0 * HALF_HOUR {}
        while step(house, MINUTE) < DAY - 6.0 * MINUTE {}
        while step(house, FINE) < DAY {}
        self.slot(house, slot);
    }
}

/// Live bytes at the end of such a day, the most at any time in it, and what the ceiling says.
fn live(settings: &Settings, limits: &Limits, fill: Fill) -> (usize, usize, usize) {
    let mut house = None;
    let used = measure(|| {
        let mut new = House::with(settings.clone(), limits.clone());
        fill.day(&mut new);
        house = Some(new);
    });
    let snapshot = house.as_mut().unwrap().snapshot(Window::Day);
    assert!(snapshot.summary.total_requests > 0);
    let ceiling = memory_ceiling(settings, limits);
    let (now, peak) = (used.bytes_current as usize, used.bytes_max as usize);
    (now, peak, ceiling)
}

/// Every table full, latencies as scattered as a histogram takes: below the ceiling, and the ceiling is not made up. And
/// what more users take is below what the ceiling has for them.
#[test]
fn full_tables_stay_below_the_ceiling() {
    let limits = Limits {
        routes: 10,
        providers: 4,
        models: 10,
        tenants: 6,
        users: 200,
        feed_capacity: 4_096,
    };
    let with_users = |max_users| {
        let settings = Settings {
            max_users,
            ..Settings::default()
        };
        let fill = Fill {
            of_each: 224,
            limits: (10, 4, 10, 6),
            users: 2 * max_users as u64,
        };
        let (now, peak, ceiling) = live(&settings, &limits, fill);
        assert!(
            peak < ceiling,
            "{peak} bytes at most, the ceiling is {ceiling}"
        );
        assert!(
            now * 5 > ceiling * 2,
            "{now} bytes, the ceiling is {ceiling}"
        );
        (now, ceiling)
    };
    let ((few, few_ceiling), (many, many_ceiling)) = (with_users(10), with_users(300));
    assert!(
        many - few < many_ceiling - few_ceiling,
        "{} more bytes, the ceiling has {}",
        many - few,
        many_ceiling - few_ceiling
    );
}

/// The same with the limits that a host has who sets none.
#[test]
#[ignore = "takes a minute without optimisation: tests/run.sh runs it"]
fn proof_full_tables_of_the_default_size_stay_below_the_ceiling() {
    let limits = Limits::default();
    let settings = Settings::default();
    let fill = Fill {
        of_each: 128,
        limits: (256, 64, 256, 256),
        users: 2 * settings.max_users as u64,
    };
    let (now, peak, ceiling) = live(&settings, &limits, fill);
    assert!(
        peak < ceiling,
        "{peak} bytes at most, the ceiling is {ceiling}"
    );
    assert!(
        now * 5 > ceiling * 2,
        "{now} bytes, the ceiling is {ceiling}"
    );
}
