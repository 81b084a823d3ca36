//! What the kernel says of processes: CPU time and resident memory, from `/proc`.

use std::{fs, process, time::Duration};

use anyhow::{Context, Result};

/// Linux reports to user space in ticks of 10 ms, whatever the kernel's own are (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// User and system time of all threads of these processes since they began.
pub fn cpu_time(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|&pid| cpu_time_of(pid)).sum()
}

/// The same of this process.
pub fn own_cpu_time() -> Result<Duration> {
    cpu_time_of(process::id())
}

/// Resident memory of these processes, in bytes.
pub fn resident(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|&pid| resident_of(pid)).sum()
}

fn cpu_time_of(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    ticks(&stat)
        .map(|ticks| TICK * ticks)
        .with_context(|| format!("{path} is not as expected: {stat}"))
}

/// `utime` and `stime`, the 14th and 15th fields; the second one is the program's name and may hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = after_name.split(' ').collect();
    Some(fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?)
}

fn resident_of(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_after_a_name_with_spaces() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15";
        assert_eq!(ticks(stat), Some(11 + 12));
    }

    #[test]
    fn resident_memory_of_this_process_is_read() {
        assert!(resident(&[process::id()]).expect("is there") > 100_000);
        assert!(cpu_time(&[process::id()]).is_ok());
    }
}
