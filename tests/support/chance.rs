//! Chance that can be repeated, and what a process holds.

use std::time::{Duration, Instant};

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// A number from the environment, or what is usual.
pub fn variable(name: &str, usual: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Open files, tasks and resident memory of this process.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub files: usize,
    pub tasks: usize,
    pub rss_kib: u64,
}

impl Held {
    /// Only where there is a `/proc`.
    pub fn now() -> Self {
        let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss_kib = rss.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
        Self {
            files,
            tasks: tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks(),
            rss_kib,
        }
    }

    /// Waits until no more files and tasks are there than before.
    pub async fn returns(before: Self) -> Self {
        let began = Instant::now();
        loop {
            let now = Self::now();
            if now.files <= before.files && now.tasks <= before.tasks {
                return now;
            }
            assert!(
                began.elapsed() < super::DEADLINE,
                "before: {before:?}, and {:?} after the end: {now:?}",
                super::DEADLINE
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Tells whoever runs a long test how it went.
pub fn tell(line: std::fmt::Arguments<'_>) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{line}\n"));
}
