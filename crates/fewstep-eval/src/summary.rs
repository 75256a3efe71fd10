//! The numbers of several seed ranges as one, all of them kept.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::measurement::{Measurement, Uncertainty};
use crate::protocol::Aggregate;

/// What is reported of one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The number, its spread over the ranges, and what it depends on; `num_images` are those of one range.
    #[serde(flatten)]
    pub measurement: Measurement,
    /// The number of every range, in order; empty where there was only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<f64>,
    /// How `value` follows from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
}

/// Brings together the measurements of ranges of images, each holding the same metrics in the same order.
///
/// `aggregate` is for FID, the number that protocols are about; other metrics are averaged. The uncertainty is the standard
/// deviation over the ranges (divided by their number less one) and replaces that within one.
///
/// # Errors
/// If there are no ranges or they hold different metrics.
pub fn summarise(ranges: Vec<Vec<Measurement>>, aggregate: Aggregate) -> Result<Vec<Summary>> {
    let names = |range: &[Measurement]| range.iter().map(|m| m.metric.clone()).collect::<Vec<_>>();
    let metrics = ranges.first().map(|first| names(first)).unwrap_or_default();
    if metrics.is_empty() || ranges.iter().any(|range| names(range) != metrics) {
        return Err(Error::Input("ranges of images can only be summarised where all hold the same metrics".to_owned()));
    }
    let mut columns: Vec<Vec<Measurement>> = metrics.iter().map(|_| Vec::new()).collect();
    for (column, measurement) in ranges.into_iter().flat_map(|range| range.into_iter().enumerate()) {
        columns[column].push(measurement);
    }
    Ok(columns.into_iter().filter_map(|column| one(column, aggregate)).collect())
}

/// One metric; `None` only for an empty column.
fn one(column: Vec<Measurement>, aggregate: Aggregate) -> Option<Summary> {
    let values: Vec<f64> = column.iter().map(|m| m.value).collect();
    let mut measurements = column.into_iter();
    let mut first = measurements.next()?;
    if values.len() == 1 {
        return Some(Summary { measurement: first, ranges: Vec::new(), aggregate: None });
    }
    let aggregate = if first.metric == "fid" { aggregate } else { Aggregate::Mean };
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let square: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (square / (values.len() - 1) as f64).sqrt();
    first.value = aggregate.of(&values);
    first.uncertainty = Some(Uncertainty { value: deviation, source: "seed ranges".to_owned() });
    Some(Summary { measurement: first, ranges: values, aggregate: Some(aggregate) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(fid: f64, recall: f64) -> Vec<Measurement> {
        let measured = |metric: &str, value| Measurement {
            metric: metric.to_owned(),
            value,
            uncertainty: None,
            num_images: 10,
            features: None,
            reference: None,
            warnings: vec!["few".to_owned()],
        };
        vec![measured("fid", fid), measured("recall", recall)]
    }

    #[test]
    fn fid_is_the_least_and_others_are_averaged() {
        let found = summarise(vec![range(3.0, 0.5), range(1.0, 0.7), range(2.0, 0.6)], Aggregate::Least).unwrap();
        assert_eq!((found[0].measurement.value, &found[0].ranges[..]), (1.0, &[3.0, 1.0, 2.0][..]));
        assert_eq!(found[0].aggregate, Some(Aggregate::Least));
        let spread = found[0].measurement.uncertainty.clone().unwrap();
        assert_eq!((spread.value, spread.source.as_str()), (1.0, "seed ranges"));
        assert!((found[1].measurement.value - 0.6).abs() < 1e-12);
        assert_eq!(found[1].aggregate, Some(Aggregate::Mean));
        assert_eq!((found[0].measurement.num_images, found[0].measurement.warnings.len()), (10, 1));
    }

    #[test]
    fn one_range_stays_as_it_is_and_unequal_ones_are_refused() {
        let found = summarise(vec![range(3.0, 0.5)], Aggregate::Least).unwrap();
        assert_eq!((found[0].measurement.clone(), found[0].ranges.len()), (range(3.0, 0.5)[0].clone(), 0));
        let json = serde_json::to_string(&found[0]).unwrap();
        assert!(!json.contains("ranges") && json.contains("\"metric\":\"fid\""), "{json}");
        assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), found[0]);
        let mut short = range(1.0, 0.7);
        short.pop();
        assert!(summarise(vec![range(3.0, 0.5), short], Aggregate::Mean).is_err());
        assert!(summarise(Vec::new(), Aggregate::Mean).is_err());
    }
}
