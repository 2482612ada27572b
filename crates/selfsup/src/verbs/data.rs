//! `selfsup data`.

use selfsup_core::{Error, Result};
use selfsup_datasets::registry::CARDS;

/// Prints the data sets that have a name.
///
/// # Errors
/// Never.
pub fn list() -> Result<()> {
    for card in CARDS {
        println!("{:<24}{}\n{:24}licence: {}; source: {}", card.name, card.about, "", card.licence, card.source);
    }
    println!("\nAny folder of images, idx or CIFAR files, tar shards and Parquet files can be given by path.");
    Ok(())
}

/// Fetches a data set into the cache.
///
/// # Errors
/// If there is no data set of that name, or it cannot be fetched.
pub fn fetch(name: &str) -> Result<()> {
    let Some(card) = CARDS.iter().find(|c| c.name == name) else {
        let known = CARDS.iter().map(|c| c.name).collect::<Vec<_>>().join(", ");
        return Err(Error::input(name, format!("no data set of that name (known: {known})")));
    };
    let records = selfsup_datasets::open(name)?;
    println!("{name}: {} records, {}", records.len(), card.source);
    Ok(())
}

/// Looks through a data set and decodes every image.
///
/// # Errors
/// If nothing can be opened; with unreadable images after all have been looked at.
pub fn inspect(what: &str) -> Result<()> {
    let images = super::probe::images(what)?;
    let found = crate::images::inspect(&images)?;
    print!("{found}");
    match found.bad {
        0 => Ok(()),
        bad => Err(Error::input(what, format!("{bad} of {} images cannot be read", found.images))),
    }
}
