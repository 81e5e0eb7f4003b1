//! What a process and all that it started have used, from `/proc`.

use std::fs;
use std::io;
use std::process;

/// Nanoseconds on a processor, user and system, of the living threads of the tree.
pub(crate) fn nanoseconds(root: u32) -> io::Result<u64> {
    let mut sum = 0;
    for pid in tree(root)? {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let times = fs::read_to_string(thread?.path().join("schedstat"))?;
            sum += number(times.split(' ').next())?;
        }
    }
    Ok(sum)
}

/// Bytes of memory of the tree, shared pages divided among those who share them.
pub(crate) fn memory(root: u32) -> io::Result<u64> {
    let mut sum = 0;
    for pid in tree(root)? {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        sum += 1024 * number(line.and_then(|line| line.split_whitespace().next()))?;
    }
    Ok(sum)
}

/// Bytes of memory of the process that are in use, shared pages included.
pub(crate) fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(1024 * number(line.and_then(|line| line.split_whitespace().next()))?)
}

/// How often the threads of the tree went to sleep by themselves, which is as often as they were woken.
pub(crate) fn wakes(root: u32) -> io::Result<u64> {
    let mut sum = 0;
    for pid in tree(root)? {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sum += number(line.map(str::trim))?;
        }
    }
    Ok(sum)
}

/// How many files this process may open.
pub(crate) fn open_files() -> io::Result<usize> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", process::id()))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    if soft == Some("unlimited") {
        return Ok(usize::MAX);
    }
    usize::try_from(number(soft)?).map_err(io::Error::other)
}

pub(crate) fn tree(root: u32) -> io::Result<Vec<u32>> {
    let mut pids = vec![root];
    let mut next = 0;
    while let Some(&pid) = pids.get(next) {
        next += 1;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let children = fs::read_to_string(thread?.path().join("children"))?;
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    Ok(pids)
}

fn number(text: Option<&str>) -> io::Result<u64> {
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| io::Error::other("/proc says something unexpected"))
}
