//! Arrays and tensors.

use std::path::Path;

use fewstep_eval::Statistics;
use fewstep_io::npz;
use fewstep_io::safetensors::Header;
use fewstep_io::tensors::{Dtype, TensorData, TensorMap};
use fewstep_report::{Cell, Column, Format, Table};
use serde_json::json;

use super::Description;
use crate::error::Result;

/// Statistics of features, or any arrays.
pub fn npz(path: &Path, contents: &npz::Contents) -> Result<Description> {
    let info = if contents.arrays.contains_key("mu") && contents.arrays.contains_key("sigma") {
        statistics(&Statistics::read(path)?)
    } else {
        tensors("arrays", &contents.arrays)
    };
    let skipped: Vec<String> = contents.skipped.iter().map(|(name, reason)| format!("{name} ({reason})")).collect();
    if skipped.is_empty() {
        return Ok(info);
    }
    let names: Vec<&str> = contents.skipped.keys().map(String::as_str).collect();
    Ok(info.told("not read", json!(names), skipped.join(", ")))
}

fn statistics(statistics: &Statistics) -> Description {
    let d = statistics.dim();
    let variance: f64 = statistics.sigma.iter().step_by(d + 1).sum();
    let norm = statistics.mu.iter().map(|v| v * v).sum::<f64>().sqrt();
    let unknown = || "the file does not say".to_owned();
    let images = statistics.num_images.map_or_else(unknown, |n| Format::Integer.write(n as f64));
    let features = statistics.features.as_ref();
    Description::new("statistics of features")
        .fact("dimensions", d)
        .told("images", json!(statistics.num_images), images)
        .told("features", json!(features), features.map_or_else(unknown, ToString::to_string))
        .fact("length of the mean", norm)
        .fact("total variance", variance)
}

/// Every tensor with its range.
pub fn tensors(kind: &str, tensors: &TensorMap) -> Description {
    let number = |name: &str| Column::number(name, Format::Significant(4));
    let columns = vec![
        Column::text("name"),
        Column::text("type"),
        Column::text("shape"),
        number("lowest"),
        number("highest"),
        number("mean"),
    ];
    let mut table = Table::new(columns);
    let mut damaged = 0;
    for (name, tensor) in tensors {
        let range = Range::of(tensor);
        damaged += range.not_finite;
        let mut row = heading(name, tensor.dtype, &tensor.shape);
        row.extend([range.lowest, range.highest, range.mean].map(Cell::from));
        table.push(row);
    }
    let info = Description::new(kind).fact("tensors", tensors.len());
    let info = if damaged > 0 { info.fact("values that are not finite", damaged) } else { info };
    info.table("arrays", table)
}

/// Names, types and shapes alone.
pub fn header_table(info: Description, header: &Header) -> Description {
    let mut table = Table::new(vec![Column::text("name"), Column::text("type"), Column::text("shape")]);
    for (name, (dtype, shape)) in &header.tensors {
        table.push(heading(name, *dtype, shape));
    }
    info.fact("tensors", header.tensors.len()).table("arrays", table)
}

fn heading(name: &str, dtype: Dtype, shape: &[usize]) -> Vec<Cell> {
    vec![name.into(), format!("{dtype:?}").to_lowercase().into(), format!("{shape:?}").into()]
}

/// Of the finite values.
struct Range {
    lowest: Option<f64>,
    highest: Option<f64>,
    mean: Option<f64>,
    not_finite: usize,
}

impl Range {
    fn of(tensor: &TensorData) -> Self {
        let mut values = tensor.to_f64();
        let count = values.len();
        values.retain(|value| value.is_finite());
        Self {
            lowest: values.iter().copied().reduce(f64::min),
            highest: values.iter().copied().reduce(f64::max),
            mean: (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64),
            not_finite: count - values.len(),
        }
    }
}
