//! `selfsup search`: neighbours of queries among embedded samples, groups of near-duplicates, outliers.

use crate::modality::Modality;
use crate::registry::with_modality;
use crate::say::{say, say_text};
use crate::set::Set;
use crate::verbs::embed::{class, embedded};
use crate::verbs::{field, kind_of_run, open_run};
use selfsup_core::checkpoint::write_text;
use selfsup_core::{Error, Result};
use selfsup_eval::search::{duplicates, nearest, strangeness};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;

/// Neighbours that an outlier is far from.
const NEAR: usize = 10;

/// What is looked for.
#[derive(Clone, Debug)]
pub enum What {
    /// The samples that are most similar to each of these files or folders; so many of each.
    Nearest(Vec<String>, usize),
    /// Groups of samples with at least this cosine similarity.
    Duplicates(f32),
    /// The samples that are furthest from all others, so many.
    Outliers(usize),
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The run's folder.
    pub run: PathBuf,
    /// What is looked for.
    pub what: What,
    /// The samples that are searched, instead of the run's own.
    pub data: Option<String>,
    /// A CSV file to write; to the screen without.
    pub out: Option<PathBuf>,
    /// Samples that cannot be read are named, counted and left out.
    pub skip_bad: bool,
    /// Overrides of the run's configuration.
    pub overrides: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// If the run, a sample or a query cannot be read.
pub fn run(request: &Request) -> Result<()> {
    with_modality!(kind_of_run(&request.run)?, M => run_as::<M>(request))
}

/// Runs the verb for a run of the modality `M`.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Modality>(request: &Request) -> Result<()> {
    let opened = open_run::<M>(&request.run, &request.overrides)?;
    let what = request.data.as_ref().unwrap_or(&opened.config.data.path);
    let (set, gallery) = embedded(&opened, what, request.skip_bad)?;
    let gallery = gallery.view();
    let id = |i: usize| set.records().id(i).map(Value::from);
    let (head, rows): (&[&str], Vec<Vec<Value>>) = match &request.what {
        What::Nearest(queries, top) => {
            if queries.is_empty() {
                let problem =
                    "no queries: name files or folders after the run, or --duplicates or --outliers";
                return Err(Error::input("search", problem));
            }
            let mut rows = Vec::new();
            for query in queries {
                let (asked, features) = embedded(&opened, query, request.skip_bad)?;
                let k = (*top).clamp(1, set.len());
                let found = nearest(features.view(), gallery, k)?;
                let pairs = found.index.chunks_exact(k).zip(found.score.chunks_exact(k));
                for (i, (index, score)) in pairs.enumerate() {
                    let query = Value::from(asked.records().id(i)?);
                    for (rank, (j, similarity)) in index.iter().zip(score).enumerate() {
                        let j = *j as usize;
                        let row =
                            [query.clone(), json!(rank + 1), id(j)?, rounded(*similarity), class(&set, j)];
                        rows.push(row.to_vec());
                    }
                }
            }
            (&["query", "rank", "id", "similarity", "label"], rows)
        }
        What::Duplicates(threshold) => {
            let mut rows = Vec::new();
            for (number, group) in duplicates(gallery, *threshold)?.into_iter().enumerate() {
                for (i, similarity) in group {
                    rows.push(vec![json!(number + 1), id(i)?, rounded(similarity), class(&set, i)]);
                }
            }
            (&["group", "id", "similarity", "label"], rows)
        }
        What::Outliers(count) => {
            let far = strangeness(gallery, NEAR)?;
            let mut order: Vec<usize> = (0..far.len()).collect();
            order.sort_by(|a, b| far[*b].total_cmp(&far[*a]));
            let mut rows = Vec::new();
            for (rank, i) in order.into_iter().take(*count).enumerate() {
                rows.push(vec![json!(rank + 1), id(i)?, rounded(far[i] as f32), class(&set, i)]);
            }
            (&["rank", "id", "distance", "label"], rows)
        }
    };
    answer(request, &set, head, &rows)
}

/// Writes the table, says what it holds, and gives it as JSON where that is asked for.
fn answer(request: &Request, set: &Set, head: &[&str], rows: &[Vec<Value>]) -> Result<()> {
    // Without classes there is no column of them.
    let columns = head.len() - usize::from(set.classes().is_empty());
    let mut table = format!("{}\n", head[..columns].join(","));
    for row in rows {
        let fields: Vec<String> = row[..columns].iter().map(field).collect();
        let _ = writeln!(table, "{}", fields.join(","));
    }
    match &request.out {
        None => say_text!("{table}"),
        Some(out) => {
            write_text(out, &table)?;
            say!("{}: {} rows about {} samples", out.display(), rows.len(), set.len());
        }
    }
    let objects: Vec<Value> = rows
        .iter()
        .map(|row| {
            let pairs =
                head[..columns].iter().zip(row).map(|(name, value)| (name.to_string(), value.clone()));
            Value::Object(pairs.collect())
        })
        .collect();
    crate::say::result(&json!({ "run": request.run, "samples": set.len(), "found": objects }));
    Ok(())
}

fn rounded(similarity: f32) -> Value {
    json!((f64::from(similarity) * 1e5).round() / 1e5)
}
