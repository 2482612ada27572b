//! WordNet's noun glosses with their topics, split as bench/peer_topics.py does.

use std::path::Path;

/// One gloss.
pub struct Gloss {
    /// The definition and its examples.
    pub text: String,
    /// Number of its lexicographer file (noun.animal, noun.person ...), counted from 0 in ascending order.
    pub topic: u32,
}

/// Training and test glosses.
pub struct Glosses {
    /// In the order in which label budgets take them.
    pub train: Vec<Gloss>,
    /// Every fifth line.
    pub test: Vec<Gloss>,
    /// Number of topics.
    pub topics: usize,
}

/// Reads `data.noun`: lines that start with a space are the licence.
///
/// # Errors
/// If the file cannot be read or a line has no topic.
pub fn read(path: &Path) -> anyhow::Result<Glosses> {
    let content = std::fs::read_to_string(path)?;
    let mut rows = Vec::new();
    for (i, line) in content.lines().enumerate().filter(|(_, l)| !l.starts_with(' ')) {
        let Some((head, text)) = line.split_once(" | ") else { continue };
        let topic = head.split_whitespace().nth(1).and_then(|t| t.parse::<u32>().ok());
        let topic = topic.ok_or_else(|| anyhow::anyhow!("{}: line {} has no lexicographer file", path.display(), i + 1))?;
        rows.push((text.trim().to_string(), topic));
    }
    let numbers: std::collections::BTreeSet<u32> = rows.iter().map(|r| r.1).collect();
    let place: std::collections::BTreeMap<u32, u32> = numbers.iter().zip(0..).map(|(n, i)| (*n, i)).collect();
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (i, (text, number)) in rows.into_iter().enumerate() {
        let gloss = Gloss { text, topic: place[&number] };
        if i % 5 == 4 { test.push(gloss) } else { train.push(gloss) }
    }
    shuffle_as_numpy(&mut train);
    Ok(Glosses { train, test, topics: numbers.len() })
}

/// `numpy.random.RandomState(0).shuffle`: Fisher-Yates from the end, each index by rejection from the low bits of a Mersenne Twister (Matsumoto
/// and Nishimura 1998), so that both sides spend their labels on the same glosses.
fn shuffle_as_numpy<T>(items: &mut [T]) {
    let mut twister = Twister::new(0);
    for i in (1..items.len()).rev() {
        let mask = (i as u32).checked_next_power_of_two().map_or(u32::MAX, |p| if p as usize == i { 2 * p - 1 } else { p - 1 });
        let j = loop {
            let j = twister.next() & mask;
            if j as usize <= i {
                break j as usize;
            }
        };
        items.swap(i, j);
    }
}

struct Twister {
    state: [u32; 624],
    next: usize,
}

impl Twister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; 624];
        for i in 1..624 {
            let before: u32 = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Twister { state, next: 624 }
    }

    fn next(&mut self) -> u32 {
        if self.next == 624 {
            for i in 0..624 {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
                self.state[i] = self.state[(i + 397) % 624] ^ (y >> 1) ^ if y & 1 == 1 { 0x9908_b0df } else { 0 };
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }
}

#[cfg(test)]
mod tests {
    /// What numpy 2 gives for `RandomState(0).shuffle(arange(20))`.
    #[test]
    fn the_order_is_numpys() {
        let mut order: Vec<u32> = (0..20).collect();
        super::shuffle_as_numpy(&mut order);
        assert_eq!(order, [18, 1, 19, 8, 10, 17, 6, 13, 4, 2, 5, 14, 9, 7, 16, 11, 3, 0, 15, 12]);
    }
}
