//! What the kernel says of this process, under the names that every exporter gives it.

use std::path::Path;

use crate::metrics::Exposition;

/// Of `/proc/PID/stat`: the kernel has shown 100 to programs on every architecture since 2.6.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes what can be read; nothing where there is no `/proc`.
pub(super) fn expose(out: &mut Exposition) {
    let read = |name: &str| std::fs::read_to_string(Path::new("/proc").join(name)).ok();
    if let Some(times) = read("self/stat").as_deref().and_then(times) {
        out.counter("process_cpu_seconds", "User and system time spent.");
        out.sample(&[], times.cpu);
        if let Some(boot) = read("stat").as_deref().and_then(|stat| number(stat, "btime ")) {
            out.gauge("process_start_time_seconds", "When the process started (Unix time).");
            out.sample(&[], boot + times.since_boot);
        }
    }
    if let Some(status) = read("self/status") {
        for (name, help, field) in [
            ("process_resident_memory_bytes", "Resident memory.", "VmRSS:"),
            ("process_virtual_memory_bytes", "Virtual memory.", "VmSize:"),
        ] {
            if let Some(kib) = number(&status, field) {
                out.gauge(name, help);
                out.sample(&[], kib * 1024.0);
            }
        }
        if let Some(threads) = number(&status, "Threads:") {
            out.gauge("process_threads", "Threads.");
            out.sample(&[], threads);
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        out.gauge("process_open_fds", "Open file descriptors.");
        // The directory itself is open while it is read.
        out.sample(&[], open.count().saturating_sub(1) as u64);
    }
    if let Some(most) = read("self/limits").as_deref().and_then(|it| number(it, "Max open files")) {
        out.gauge("process_max_fds", "Most file descriptors that may be open.");
        out.sample(&[], most);
    }
}

#[derive(Debug, PartialEq)]
struct Times {
    cpu: f64,
    since_boot: f64,
}

/// Fields 14, 15 and 22 (proc(5)). The second, a name in parentheses, may have spaces.
fn times(stat: &str) -> Option<Times> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let cpu = (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND;
    Some(Times { cpu, since_boot: ticks(22)? / TICKS_PER_SECOND })
}

/// The number that follows `name` at the beginning of a line.
fn number(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_no_field() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 250 50 16 17 20 0 4 0 12345 1 2";
        let expected = Some(Times { cpu: 3.0, since_boot: 123.45 });
        assert_eq!(times(&format!("17 (pogo) {rest}")), expected);
        assert_eq!(times(&format!("17 (a ) b (c) {rest}")), expected);
        assert_eq!(times("17 (pogo) S 1"), None);
    }
}
