//! This process, as Linux's `/proc` tells it (proc(5)); elsewhere unknown.

use serde::Serialize;

/// What one process uses.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Process {
    pid: u32,
    /// Resident set, bytes.
    rss_bytes: Option<u64>,
    /// CPU time of all threads since the start, user and system, seconds.
    cpu_seconds: Option<f64>,
    threads: Option<u64>,
    open_files: Option<u64>,
}

impl Process {
    pub(crate) fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        Self {
            pid: std::process::id(),
            rss_bytes: field("VmRSS:").map(|kib| kib * 1024),
            cpu_seconds: cpu_seconds(),
            threads: field("Threads:"),
            open_files: std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count() as u64),
        }
    }
}

/// Clock ticks a second in `/proc`: `USER_HZ`, 100 on every architecture that runs tokio under Linux.
const USER_HZ: f64 = 100.0;

/// User and system time, threads that have ended included.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_everything() {
        let process = Process::read();
        assert!(process.rss_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(process.threads.is_some_and(|threads| threads >= 1));
        assert!(process.open_files.is_some_and(|files| files >= 3));
        assert!(process.cpu_seconds.is_some());
    }
}
