//! What the machine has to spare: memory that may still be taken (of the machine, of the control group, of the
//! process), and the peak of what this process takes. Linux tells; elsewhere nothing is known.

use std::path::{Path, PathBuf};

/// Bytes that this process may still take: the least of what the machine has available, what is left below the
/// limits of its control groups, and what is left of its address space.
pub fn memory_free() -> Option<u64> {
    let machine = read("/proc/meminfo").and_then(|t| kilobytes(&t, "MemAvailable:"));
    let group = read("/proc/self/cgroup").and_then(|t| groups(&t).iter().filter_map(|g| left_in(g)).min());
    let space = read("/proc/self/limits").and_then(|t| address_space(&t)).map(|most| {
        let used = read("/proc/self/status").and_then(|t| kilobytes(&t, "VmSize:")).unwrap_or(0);
        most.saturating_sub(used)
    });
    [machine, group, space].into_iter().flatten().min()
}

/// Bytes of memory that this process holds now, and the most that it has held.
pub fn held() -> Option<(u64, u64)> {
    let text = read("/proc/self/status")?;
    Some((kilobytes(&text, "VmRSS:")?, kilobytes(&text, "VmHWM:")?))
}

/// Seconds that all threads of this process have spent on processors.
pub fn processor_seconds() -> Option<f64> {
    // Behind the name, which may hold spaces, stand 11 other fields, then user and system time in ticks, of which
    // Linux has 100 a second on every architecture.
    let text = read("/proc/self/stat")?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / 100.0)
}

/// Lets the most that was held start again from what is held now. Returns whether the system did.
pub fn forget_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Cores that may be used.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Bytes of the line that begins with `name` and states kB.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// `Max address space` of `/proc/self/limits`, where there is a limit.
fn address_space(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The folders of the memory controller, of this process's group and those above it.
fn groups(text: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup").to_path_buf(),
            c if c.split(',').any(|c| c == "memory") => Path::new("/sys/fs/cgroup/memory").to_path_buf(),
            _ => continue,
        };
        let mut below = Path::new(path.trim_start_matches('/'));
        loop {
            out.push(root.join(below));
            match below.parent() {
                Some(parent) if !below.as_os_str().is_empty() => below = parent,
                _ => break,
            }
        }
    }
    out
}

/// What is left in a group: its limit less what is used, without pages of files that can be dropped.
fn left_in(group: &Path) -> Option<u64> {
    let number = |name: &str| read(group.join(name))?.trim().parse::<u64>().ok();
    let most = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    let stat = read(group.join("memory.stat")).unwrap_or_default();
    let of = |name: &str| {
        let line = stat.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    let droppable = of("inactive_file ").or_else(|| of("total_inactive_file ")).unwrap_or(0);
    Some(most.saturating_sub(used.saturating_sub(droppable)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let meminfo = "MemTotal:       24 kB\nMemAvailable:   16 kB\n";
        assert_eq!(kilobytes(meminfo, "MemAvailable:"), Some(16 * 1024));
        let limits = "Limit  Soft\nMax address space         4194304    unlimited   bytes\n";
        assert_eq!(address_space(limits), Some(4_194_304));
        assert_eq!(address_space("Max address space         unlimited            unlimited bytes"), None);
        let v2: Vec<String> = groups("0::/a/b\n").iter().map(|p| p.display().to_string()).collect();
        assert_eq!(v2, ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"]);
        let v1 = groups("5:cpu:/x\n4:memory:/y\n");
        assert_eq!(v1, [Path::new("/sys/fs/cgroup/memory/y"), Path::new("/sys/fs/cgroup/memory")]);
    }

    #[test]
    fn a_group_has_what_its_limit_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(left_in(dir.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "600\n");
        assert_eq!(left_in(dir.path()), None);
        write("memory.max", "1000\n");
        assert_eq!(left_in(dir.path()), Some(400));
        write("memory.stat", "anon 500\ninactive_file 100\n");
        assert_eq!(left_in(dir.path()), Some(500));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_held_is_seen() {
        let before = held().unwrap().0;
        let block = vec![1u8; 64 << 20];
        let (now, peak) = held().unwrap();
        assert!(now >= before + (60 << 20) && peak >= now && block.iter().all(|b| *b == 1));
        assert!(memory_free().unwrap() > 0);
    }
}
