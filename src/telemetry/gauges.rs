//! Gauges of the host, and the `system` event that carries them.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use serde::Serialize;

use super::process::Process;
use crate::{
    error::{Error, Kind},
    hub::{Dialect, Source, Tags},
    sync::{Mutex, lock},
};

type Read = Arc<dyn Fn() -> f64 + Send + Sync>;

/// At most this many; each is a member of every `system` event.
const MAX_GAUGES: usize = 256;
const MAX_NAME_BYTES: usize = 128;

/// The host's gauges: names, and how to read them.
#[derive(Default)]
pub(crate) struct Gauges {
    by_name: Mutex<BTreeMap<String, Read>>,
}

impl Gauges {
    /// Registers a gauge; one of the same name is replaced.
    pub(crate) fn insert(&self, name: String, read: Read) -> Result<(), Error> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(Error::new(
                Kind::Invalid,
                format!("gauge name has {} bytes, 1 to 128 are taken", name.len()),
            ));
        }
        let mut by_name = lock(&self.by_name);
        if by_name.len() >= MAX_GAUGES && !by_name.contains_key(&name) {
            return Err(Error::new(
                Kind::Invalid,
                format!("gauge {name:?} would be more than {MAX_GAUGES}"),
            ));
        }
        by_name.insert(name, read);
        Ok(())
    }

    /// Reads them all. No lock is held while the host's closures run; one that panics or gives no finite number
    /// reads as unknown.
    fn read(&self) -> BTreeMap<String, Option<f64>> {
        let gauges: Vec<_> = lock(&self.by_name)
            .iter()
            .map(|(name, read)| (name.clone(), read.clone()))
            .collect();
        let value = |read: Read| {
            catch_unwind(AssertUnwindSafe(|| read()))
                .ok()
                .filter(|value| value.is_finite())
        };
        gauges
            .into_iter()
            .map(|(name, read)| (name, value(read)))
            .collect()
    }
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(lock(&self.by_name).keys()).finish()
    }
}

/// What the `system` channel says: the process, its readers, the host's gauges. What this system does not tell is
/// `null`.
#[derive(Debug, Serialize)]
pub(crate) struct SystemEvent {
    timestamp: u64,
    timestamp_ms: u64,
    uptime_seconds: u64,
    instance: String,
    connections: usize,
    in_flight: u64,
    process: Process,
    gauges: BTreeMap<String, Option<f64>>,
}

impl SystemEvent {
    pub(crate) fn read(
        gauges: &Gauges,
        unix_ms: u64,
        uptime_seconds: u64,
        instance: &str,
        connections: usize,
        in_flight: u64,
    ) -> Self {
        Self {
            timestamp: unix_ms / 1000,
            timestamp_ms: unix_ms,
            uptime_seconds,
            instance: instance.to_owned(),
            connections,
            in_flight,
            process: Process::read(),
            gauges: gauges.read(),
        }
    }
}

impl Source for SystemEvent {
    fn name(&self, _index: usize, _dialect: Dialect) -> &str {
        "system"
    }

    fn write_json(&self, _index: usize, _dialect: Dialect, out: &mut Vec<u8>) {
        // Strings and finite numbers serialise.
        let _ = serde_json::to_writer(out, self);
    }

    fn tags(&self, _index: usize) -> Tags<'_> {
        Tags {
            kind: "system",
            snapshot: true,
            ..Tags::default()
        }
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
            + self
                .gauges
                .keys()
                .map(|name| name.len() + 48)
                .sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_that_panics_or_is_no_number_reads_as_unknown() {
        let gauges = Gauges::default();
        gauges.insert("good".into(), Arc::new(|| 2.5)).unwrap();
        gauges.insert("nan".into(), Arc::new(|| f64::NAN)).unwrap();
        gauges
            .insert("panics".into(), Arc::new(|| panic!("host's bug")))
            .unwrap();
        let event = SystemEvent::read(&gauges, 1_500, 1, "a", 0, 0);
        let mut json = Vec::new();
        event.write_json(0, Dialect::Stream, &mut json);
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            value["gauges"],
            serde_json::json!({"good": 2.5, "nan": null, "panics": null})
        );
        assert_eq!(value["timestamp"], 1);
    }

    #[test]
    fn gauges_are_bounded_in_number_and_name() {
        let gauges = Gauges::default();
        assert!(gauges.insert(String::new(), Arc::new(|| 0.0)).is_err());
        for n in 0..MAX_GAUGES {
            gauges.insert(n.to_string(), Arc::new(|| 0.0)).unwrap();
        }
        assert!(
            gauges
                .insert("more".into(), Arc::new(|| 0.0))
                .unwrap_err()
                .is_invalid()
        );
        gauges.insert("0".into(), Arc::new(|| 1.0)).unwrap();
    }
}
