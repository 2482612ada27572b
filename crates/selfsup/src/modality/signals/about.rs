//! What `data inspect` says of signals: lengths, rates, channels with their units, gaps, annotations.

use super::series::recording;
use selfsup_datasets::Records;
use selfsup_signals::prepare::SignalConfig;
use std::collections::{BTreeMap, BTreeSet};

/// Kinds of annotations that are counted by name.
const LABELS: usize = 12;

/// Lines about the signals of a set; those that cannot be read are counted elsewhere.
pub(super) fn lines(records: &dyn Records, config: &SignalConfig) -> Vec<String> {
    let (mut seconds, mut samples) = (Vec::new(), Vec::new());
    let (mut missing, mut all) = (0usize, 0usize);
    let mut rates: BTreeMap<String, usize> = BTreeMap::new();
    let mut channels: BTreeMap<String, (usize, BTreeSet<String>)> = BTreeMap::new();
    let mut labels: BTreeMap<String, usize> = BTreeMap::new();
    for i in 0..records.len() {
        let Ok(found) = records.get(i).and_then(|r| recording(&r, config)) else { continue };
        let length = |f: &dyn Fn(&selfsup_signals::Channel) -> Option<f64>| {
            found.channels.iter().filter_map(f).reduce(f64::max)
        };
        match length(&|c| c.seconds()) {
            Some(s) => seconds.push(s),
            None => samples.extend(length(&|c| Some(c.samples.len() as f64))),
        }
        for c in &found.channels {
            missing += c.missing();
            all += c.samples.len();
            let rate = c.rate.map_or("unknown".to_string(), |r| format!("{r} Hz"));
            *rates.entry(rate).or_default() += 1;
            let entry = channels.entry(c.name.trim().to_string()).or_default();
            entry.0 += 1;
            entry.1.insert(c.unit.clone());
        }
        found.annotations.iter().for_each(|a| *labels.entry(a.label.clone()).or_default() += 1);
    }
    let mut lines = Vec::new();
    let mut extent = |values: &mut Vec<f64>, unit: &str, shown: &dyn Fn(f64) -> String| {
        values.sort_by(f64::total_cmp);
        if let (Some(least), Some(most)) = (values.first(), values.last()) {
            let total: f64 = values.iter().sum();
            lines.push(format!(
                "length: {} to {} {unit}, {} in all",
                shown(*least),
                shown(*most),
                shown(total)
            ));
        }
    };
    extent(&mut seconds, "s", &|v| format!("{v:.1}"));
    extent(&mut samples, "samples", &|v| format!("{v:.0}"));
    lines.extend(rates.iter().map(|(rate, n)| format!("rate {rate}: {n} channels")));
    lines.extend(channels.iter().map(|(name, (n, units))| {
        let units: Vec<&str> = units.iter().map(String::as_str).filter(|u| !u.is_empty()).collect();
        let unit = if units.is_empty() { String::new() } else { format!(" ({})", units.join(", ")) };
        format!("channel {name}{unit}: {n}")
    }));
    if missing > 0 {
        lines.push(format!("missing: {:.2}% of the samples", 100.0 * missing as f64 / all.max(1) as f64));
    }
    let mut labels: Vec<(String, usize)> = labels.into_iter().collect();
    labels.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    lines.extend(labels.iter().take(LABELS).map(|(label, n)| format!("annotation {label}: {n}")));
    lines.extend(channels.iter().filter(|(_, (_, units))| units.len() > 1).map(|(name, (_, units))| {
        let units: Vec<&str> = units.iter().map(|u| if u.is_empty() { "none" } else { u }).collect();
        format!(
            "problem: channel {name} has several units ({}): set signal.scale to standard or robust, or leave it out",
            units.join(", ")
        )
    }));
    lines
}
