//! Values of columns, whatever is wrong with the file.

use super::thrift::{check_footer, check_pages};
use ::parquet::basic::{Repetition, Type as Physical};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, DataType};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use selfsup_core::{Error, Result, file};
use std::fs::File;
use std::path::Path;

/// Runs a call into the reader of Parquet: what it reports names the file, and a panic over a damaged file is
/// an error too.
pub(super) fn guard<T>(path: &Path, f: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    match selfsup_core::guard::guarded(f) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(Error::file(path, format_args!("not a whole Parquet file: {e}"))),
        Err(_) => Err(Error::file(path, "not a whole Parquet file: its reader gave up")),
    }
}

pub(super) fn reader(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = file::open(path)?;
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    check_footer(path, length)?;
    let reader = guard(path, || SerializedFileReader::new(file))?;
    // A row of nulls takes no byte, and each takes memory here.
    let rows = reader.metadata().row_groups().iter().map(|g| u64::try_from(g.num_rows()).unwrap_or(u64::MAX));
    let rows = rows.fold(0u64, u64::saturating_add);
    if rows > length.saturating_mul(16).saturating_add(1 << 16) {
        return Err(Error::file(
            path,
            format_args!("not a whole Parquet file: {rows} rows in {length} bytes"),
        ));
    }
    Ok(reader)
}

/// All `rows` values of a column without lists; `None` where one is null.
fn values<T: DataType>(
    mut column: ColumnReaderImpl<T>,
    rows: usize,
    max_def: i16,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut levels, mut found) = (Vec::new(), Vec::new());
    let mut done = 0;
    while done < rows {
        let (records, ..) = column.read_records(rows - done, Some(&mut levels), None, &mut found)?;
        if records == 0 {
            return Err(ParquetError::General(format!("a column ends after {done} of {rows} rows")));
        }
        done += records;
    }
    if max_def == 0 {
        return Ok(found.into_iter().map(Some).collect());
    }
    let mut found = found.into_iter();
    Ok(levels.into_iter().map(|l| if l == max_def { found.next() } else { None }).collect())
}

/// A column of integers or of text.
pub(super) enum Column {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<ByteArray>>),
}

/// The values of leaf `leaf` in row group `group`.
///
/// # Errors
/// Naming the file: a column of lists or of neither numbers nor texts, and every kind of damage.
pub(super) fn column(
    path: &Path,
    reader: &SerializedFileReader<File>,
    group: usize,
    leaf: usize,
) -> Result<Column> {
    bounded(path, reader, group, leaf)?;
    guard(path, || decoded(reader, group, leaf))
}

fn decoded(reader: &SerializedFileReader<File>, group: usize, leaf: usize) -> Result<Column, ParquetError> {
    let row_group = reader.get_row_group(group)?;
    let meta = row_group.metadata();
    let rows = usize::try_from(meta.num_rows())
        .map_err(|_| ParquetError::General("a negative number of rows".into()))?;
    let descr = meta.schema_descr().column(leaf);
    if descr.max_rep_level() != 0 {
        return Err(ParquetError::General(format!(
            "column {} is a list, expected one value a row",
            descr.path()
        )));
    }
    let d = descr.max_def_level();
    Ok(match row_group.get_column_reader(leaf)? {
        ColumnReader::Int64ColumnReader(r) => Column::Numbers(values(r, rows, d)?),
        ColumnReader::Int32ColumnReader(r) => {
            Column::Numbers(values(r, rows, d)?.into_iter().map(|v| v.map(i64::from)).collect())
        }
        ColumnReader::BoolColumnReader(r) => {
            Column::Numbers(values(r, rows, d)?.into_iter().map(|v| v.map(i64::from)).collect())
        }
        // As pandas writes whole numbers of which some are missing.
        ColumnReader::DoubleColumnReader(r) => Column::Numbers(whole(values(r, rows, d)?)?),
        ColumnReader::FloatColumnReader(r) => {
            let wide = values(r, rows, d)?.into_iter().map(|v| v.map(f64::from)).collect();
            Column::Numbers(whole(wide)?)
        }
        ColumnReader::ByteArrayColumnReader(r) => Column::Texts(values(r, rows, d)?),
        _ => {
            return Err(ParquetError::General(format!(
                "column {} is neither numbers nor text nor bytes",
                descr.path()
            )));
        }
    })
}

/// Whole numbers of numbers with a point; what is not a number is missing.
fn whole(values: Vec<Option<f64>>) -> Result<Vec<Option<i64>>, ParquetError> {
    let one = |(row, v): (usize, Option<f64>)| match v {
        Some(v) if v.fract() == 0.0 && v.abs() < 9e15 => Ok(Some(v as i64)),
        Some(v) if !v.is_nan() => {
            Err(ParquetError::General(format!("row {row} has {v}, expected a whole number or a text")))
        }
        _ => Ok(None),
    };
    values.into_iter().enumerate().map(one).collect()
}

/// The values of a leaf that is a list, and how many each row of the row group has.
pub(super) struct Lists {
    pub values: Vec<Option<ByteArray>>,
    pub counts: Vec<usize>,
}

/// Most values of a list in a row group.
const MOST: i64 = 1 << 24;

/// The lists of leaf `leaf` in row group `group`. A list that is null or empty has no value; an element whose
/// bytes are null is one.
///
/// # Errors
/// Naming the file: a column of something else, and every kind of damage.
pub(super) fn lists(
    path: &Path,
    reader: &SerializedFileReader<File>,
    group: usize,
    leaf: usize,
) -> Result<Lists> {
    bounded(path, reader, group, leaf)?;
    guard(path, || listed(reader, group, leaf))
}

/// Refuses pages that announce more than they can hold.
fn bounded(path: &Path, reader: &SerializedFileReader<File>, group: usize, leaf: usize) -> Result<()> {
    let (start, length) = guard(path, || Ok(reader.metadata().row_group(group).column(leaf).byte_range()))?;
    check_pages(path, start, length)
}

fn listed(reader: &SerializedFileReader<File>, group: usize, leaf: usize) -> Result<Lists, ParquetError> {
    let wrong = |what: String| Err(ParquetError::General(what));
    let row_group = reader.get_row_group(group)?;
    let meta = row_group.metadata();
    let (rows, held) = (meta.num_rows(), meta.column(leaf).num_values());
    if !(0..=MOST).contains(&rows) || !(0..=MOST).contains(&held) {
        return wrong(format!("a row group with {rows} rows and {held} values in lists"));
    }
    let descr = meta.schema_descr().column(leaf);
    let (deepest, max_def) = (descr.max_rep_level(), descr.max_def_level());
    let Some(element) = element_level(reader, descr.path().parts()).filter(|_| deepest == 1) else {
        return wrong(format!("column {} is no list of values", descr.path()));
    };
    let ColumnReader::ByteArrayColumnReader(mut column) = row_group.get_column_reader(leaf)? else {
        return wrong(format!("column {} is a list of other values than bytes", descr.path()));
    };
    let (mut defs, mut reps, mut found) = (Vec::new(), Vec::new(), Vec::new());
    let (mut done, rows) = (0, rows as usize);
    while done < rows {
        let (records, ..) = column.read_records(rows - done, Some(&mut defs), Some(&mut reps), &mut found)?;
        if records == 0 {
            return wrong(format!("a column ends after {done} of {rows} rows"));
        }
        done += records;
    }
    let (mut values, mut counts, mut found) = (Vec::new(), Vec::with_capacity(rows), found.into_iter());
    for (def, rep) in defs.into_iter().zip(reps) {
        if rep == 0 {
            counts.push(0);
        }
        if def >= element {
            values.push(if def == max_def { found.next() } else { None });
            match counts.last_mut() {
                Some(count) => *count += 1,
                None => return wrong("a list that goes on before it begins".into()),
            }
        }
    }
    Ok(Lists { values, counts })
}

/// The level of definition at which the list above a leaf has an element.
fn element_level(reader: &SerializedFileReader<File>, path: &[String]) -> Option<i16> {
    let schema = reader.metadata().file_metadata().schema_descr().root_schema();
    let (mut fields, mut level, mut found) = (schema.get_fields(), 0, None);
    for name in path {
        let field = fields.iter().find(|f| f.name() == name)?;
        match field.get_basic_info().repetition() {
            Repetition::REQUIRED => {}
            Repetition::OPTIONAL => level += 1,
            Repetition::REPEATED => {
                level += 1;
                found = Some(level);
            }
        }
        if field.is_group() {
            fields = field.get_fields();
        }
    }
    found
}

/// The leaves of a table by their paths, with their types.
pub(super) fn leaves(reader: &SerializedFileReader<File>) -> Vec<(Vec<String>, Physical)> {
    let schema = reader.metadata().file_metadata().schema_descr();
    schema.columns().iter().map(|c| (c.path().parts().to_vec(), c.physical_type())).collect()
}
