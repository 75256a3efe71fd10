//! Interpolation points as a table, and what reports say of it.

use fewstep_report::{Cell, Column, Format, Table};

use super::InterpolationPoint;
use crate::scorer::FeatureScore;

/// The interpolation points by steps and round; none where there are none.
pub fn interpolation_table<'a>(
    all: impl IntoIterator<Item = (usize, usize, &'a [InterpolationPoint])>,
) -> Option<Table> {
    let all: Vec<_> = all.into_iter().filter(|(.., points)| !points.is_empty()).collect();
    // a point whose images are not finite has none
    let scored = all.iter().flat_map(|(.., points)| *points).find(|point| !point.scores.is_empty());
    let networks = scored.map_or(&[][..], |point| &point.scores);
    let of = |score: &FeatureScore| if networks.len() > 1 { format!(", {}", score.features) } else { String::new() };
    let distance = |name: String| Column::number(name, Format::Significant(4)).lowest();
    let mut columns = vec![
        Column::number("steps", Format::Integer),
        Column::number("round", Format::Integer),
        Column::number("alpha", Format::Significant(2)),
    ];
    let averaged = all.iter().flat_map(|(.., points)| *points).any(|point| point.average.is_some());
    if averaged {
        columns.push(Column::number("updates", Format::Integer));
        columns.push(Column::number("half-life, images", Format::Significant(3)));
    }
    let learned = all.iter().flat_map(|(.., points)| *points).any(|point| point.learned_by.is_some());
    if learned {
        columns.push(Column::text("learned by"));
    }
    let weighted = all.iter().flat_map(|(.., points)| *points).any(|point| last_weight(point).is_some());
    if weighted {
        columns.push(Column::number("last level's weight", Format::Significant(2)));
    }
    columns.extend(networks.iter().map(|score| distance(format!("Frechet distance{}", of(score)))));
    columns.extend(networks.iter().map(|score| distance(format!("KID to the teacher{}", of(score)))));
    columns.push(distance("rollout error".to_owned()));
    let mut table = Table::new(columns);
    for (steps, round, points) in &all {
        table.start_group();
        for point in *points {
            let InterpolationPoint { alpha, scores, rollout_error, average, learned_by, .. } = point;
            let write = |value: Option<f64>| value.map_or(Cell::Missing, Cell::Number);
            let mut row: Vec<Cell> = [*steps as f64, *round as f64, *alpha].map(Cell::from).into();
            if averaged {
                row.push(write(average.map(|average| average.updates as f64)));
                row.push(write(average.map(|average| average.halflife_images)));
            }
            if learned {
                row.push(learned_by.map_or(Cell::Missing, |by| Cell::Text(by.to_string())));
            }
            if weighted {
                row.push(write(last_weight(point)));
            }
            let of_each = |distance: &dyn Fn(&FeatureScore) -> Option<f64>| -> Vec<Cell> {
                (0..networks.len()).map(|network| write(scores.get(network).and_then(distance))).collect()
            };
            row.extend(of_each(&|score| score.data.map(|distances| distances.frechet)));
            row.extend(of_each(&|score| score.teacher.and_then(|distances| distances.kid)));
            row.push(Cell::from(*rollout_error));
            table.push(row);
        }
    }
    (!all.is_empty()).then_some(table)
}

fn last_weight(point: &InterpolationPoint) -> Option<f64> {
    point.average.and_then(|average| average.last_weight)
}

/// What reports say of a table of levels.
pub const LEVELS_TEXT: &str = "Levels between those that phase 1 began with (alpha 0) and the learned ones (alpha 1), interpolated in log \
    sigma, of each objective and scale that levels were learned by. Those are taken whose images have the least Frechet distance, on seeds that nothing else sees.";

/// What reports say of a table of networks.
pub const INTERPOLATION_TEXT: &str = "Tuning lowers the error and makes images smoother. Of the averages of the tuned weights (alpha 1), and \
    of the networks w + alpha (w' - w) between the untuned one (alpha 0) and the best of them, the one is taken whose images have the \
    least Frechet distance, on seeds that nothing else sees, each with its moments matched anew where the method's name ends so.";
