//! Tables of embeddings.

use ::parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use selfsup_core::{Error, Result};
use std::sync::Arc;

/// A Parquet file of embeddings: columns `id` (text), `label` (integer, if there are labels) and `embedding`
/// (a list of `d` floats).
///
/// `values` holds one row of `d` numbers for each of `ids`. The same input gives the same bytes.
///
/// # Errors
/// If the numbers of ids, labels and values do not fit.
pub fn embeddings(ids: &[String], labels: Option<&[u32]>, values: &[f32], d: usize) -> Result<Vec<u8>> {
    let n = ids.len();
    if d == 0 || n.checked_mul(d) != Some(values.len()) {
        return Err(Error::input(
            "embeddings",
            format_args!("{} values for {n} ids, expected {n} times {d}, at least one each", values.len()),
        ));
    }
    if let Some(labels) = labels.filter(|l| l.len() != n) {
        return Err(Error::input(
            "embeddings",
            format_args!("{} labels for {n} ids, expected {n}", labels.len()),
        ));
    }
    write_embeddings(ids, labels, values, d)
        .map_err(|e| Error::Other(format!("embeddings cannot be written as Parquet: {e}")))
}

fn write_embeddings(
    ids: &[String],
    labels: Option<&[u32]>,
    values: &[f32],
    d: usize,
) -> Result<Vec<u8>, ParquetError> {
    let label = if labels.is_some() { "required int64 label;" } else { "" };
    let schema = format!(
        "message embeddings {{ required binary id (STRING); {label} \
         required group embedding (LIST) {{ repeated group list {{ required float element; }} }} }}"
    );
    // Embeddings neither repeat nor compress.
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let mut out = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut out, Arc::new(parse_message_type(&schema)?), Arc::new(properties))?;
    // About 64 MiB a row group.
    let rows = ((16 << 20) / d).clamp(1, 1 << 16);
    for (part, ids) in ids.chunks(rows).enumerate() {
        let from = part * rows;
        let mut group = writer.next_row_group()?;
        if let Some(mut column) = group.next_column()? {
            let ids: Vec<ByteArray> = ids.iter().map(|id| ByteArray::from(id.as_str())).collect();
            column.typed::<ByteArrayType>().write_batch(&ids, None, None)?;
            column.close()?;
        }
        if let Some(labels) = labels
            && let Some(mut column) = group.next_column()?
        {
            let labels: Vec<i64> = labels[from..from + ids.len()].iter().map(|&l| i64::from(l)).collect();
            column.typed::<Int64Type>().write_batch(&labels, None, None)?;
            column.close()?;
        }
        if let Some(mut column) = group.next_column()? {
            let count = ids.len() * d;
            let repeated: Vec<i16> = (0..count).map(|i| i16::from(i % d != 0)).collect();
            column.typed::<FloatType>().write_batch(
                &values[from * d..from * d + count],
                Some(&vec![1; count]),
                Some(&repeated),
            )?;
            column.close()?;
        }
        group.close()?;
    }
    writer.close()?;
    Ok(out)
}
