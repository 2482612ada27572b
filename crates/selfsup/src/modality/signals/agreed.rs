//! What recordings of one set have in common: a rate, and channels.

use selfsup_signals::Recording;
use selfsup_signals::prepare::SignalConfig;

/// Sets what makes recordings alike that are not: `signal.rate` where their rates differ, the middle of the highest
/// rate of each; `signal.channels` where their channels differ, those that all of them have. What is set already
/// stays.
pub(super) fn agree(recordings: &[Recording], config: &mut SignalConfig) {
    let highest = |r: &Recording| r.channels.iter().filter_map(|c| c.rate).reduce(f64::max);
    let rates: Option<Vec<f64>> = recordings.iter().map(highest).collect();
    if let (None, Some(mut rates)) = (config.rate, rates) {
        rates.sort_by(f64::total_cmp);
        if rates.first() != rates.last() {
            config.rate = rates.get(rates.len() / 2).copied();
        }
    }
    let names = |r: &Recording| -> Vec<String> { r.channels.iter().map(|c| c.name.clone()).collect() };
    let Some(first) = recordings.first().map(names) else { return };
    if config.channels.is_empty() && recordings.iter().any(|r| names(r) != first) {
        let has = |r: &Recording, name: &str| {
            r.channels.iter().filter(|c| c.name.trim().eq_ignore_ascii_case(name.trim())).count() == 1
        };
        config.channels = first.into_iter().filter(|n| recordings.iter().all(|r| has(r, n))).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_signals::Channel;

    fn recording(channels: &[(&str, f64)]) -> Recording {
        let channel = |(name, rate): &(&str, f64)| Channel {
            name: (*name).into(),
            rate: Some(*rate),
            ..Channel::default()
        };
        Recording { channels: channels.iter().map(channel).collect(), annotations: vec![] }
    }

    fn of(recordings: &[Recording]) -> (Option<f64>, Vec<String>) {
        let mut config = SignalConfig::default();
        agree(recordings, &mut config);
        (config.rate, config.channels)
    }

    #[test]
    fn what_differs_is_made_alike() {
        let a = recording(&[("I", 500.0), ("Resp", 25.0)]);
        assert_eq!(of(&[a.clone(), a.clone()]), (None, vec![]));
        let b = recording(&[("SpO2", 1.0), ("i ", 250.0)]);
        assert_eq!(of(&[a.clone(), a.clone(), b.clone()]), (Some(500.0), vec!["I".to_string()]));
        // Nothing in common: the reader says so.
        assert_eq!(of(&[a.clone(), recording(&[("V5", 500.0)])]).1, Vec::<String>::new());
        let mut given =
            SignalConfig { rate: Some(100.0), channels: vec!["x".into()], ..SignalConfig::default() };
        let kept = given.clone();
        agree(&[a, b], &mut given);
        assert_eq!(given, kept);
    }
}
