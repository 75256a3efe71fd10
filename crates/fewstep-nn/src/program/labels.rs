//! Labels as a program takes them.

use tch::{Device, IValue, Kind, Tensor};

use super::config::{LabelForm, ProgramConfig, Unconditional, UnconditionalWord as Word};
use crate::error::torch_message;

const ZEROS: Option<Unconditional> = Some(Unconditional::Word(Word::Zeros));
const NONE: Option<Unconditional> = Some(Unconditional::Word(Word::None));

/// Which classes are asked for, in the form of the program's argument.
#[derive(Debug)]
pub enum Asked {
    /// None, in place of the argument.
    Nothing,
    /// One row or index a sample.
    Classes(Tensor),
}

impl Asked {
    /// The argument for `labels` `[N or 1, classes]`, one-hot with rows of zeros for no class; `None` for no class at all.
    ///
    /// # Errors
    /// Says what does not fit the program.
    pub(super) fn new(config: &ProgramConfig, labels: Option<&Tensor>, n: i64, device: Device) -> Result<Self, String> {
        let classes = config.classes;
        let Some(taken) = config.labels else {
            return match labels {
                Some(labels) => Err(format!("labels {:?}, but it knows no classes", labels.size())),
                None => Ok(Self::Nothing),
            };
        };
        let torch = |error: tch::TchError| torch_message(&error);
        let rows = match labels {
            None => Tensor::f_zeros([n, classes], (Kind::Float, device)).map_err(torch)?,
            Some(labels) => {
                let size = labels.size();
                if size != [n, classes] && size != [1, classes] {
                    return Err(format!(
                        "labels {size:?} for {n} states, where [{n}, {classes}] or [1, {classes}] are needed"
                    ));
                }
                let labels =
                    labels.f_to_device(device).and_then(|labels| labels.f_to_kind(Kind::Float)).map_err(torch)?;
                labels.f_expand([n, classes], false).and_then(|rows| rows.f_contiguous()).map_err(torch)?
            }
        };
        if (taken.form, taken.unconditional) == (LabelForm::OneHot, ZEROS) {
            return Ok(Self::Classes(rows));
        }
        let classes = indices(&rows).map_err(torch)?;
        let free = classes.iter().filter(|class| **class == Class::Free).count();
        if free > 0 && taken.unconditional.is_none() {
            return Err("no label, but it needs a class (its description has no `labels.unconditional`)".to_owned());
        }
        if taken.unconditional == NONE && free > 0 {
            return if free == classes.len() {
                Ok(Self::Nothing)
            } else {
                Err("labels for some states and none for others, which it takes only one after the other".to_owned())
            };
        }
        match taken.form {
            LabelForm::OneHot => Ok(Self::Classes(rows)),
            LabelForm::Index => {
                let null = if let Some(Unconditional::Index(index)) = taken.unconditional { index } else { 0 };
                let index = classes.iter().map(|class| match class {
                    Class::Free => Ok(null),
                    Class::One(index) => Ok(*index),
                    Class::Soft => Err("labels that are no single class, but it takes an index".to_owned()),
                });
                let index: Vec<i64> = index.collect::<Result<_, _>>()?;
                Ok(Self::Classes(Tensor::from_slice(&index).f_to_device(device).map_err(torch)?))
            }
        }
    }

    /// The labels of some of the samples.
    pub fn narrow(&self, start: i64, count: i64) -> Result<Self, tch::TchError> {
        Ok(match self {
            Self::Nothing => Self::Nothing,
            Self::Classes(rows) => Self::Classes(rows.f_narrow(0, start, count)?),
        })
    }

    /// The argument.
    pub fn argument(&self) -> IValue {
        match self {
            Self::Nothing => IValue::None,
            Self::Classes(rows) => IValue::Tensor(rows.shallow_clone()),
        }
    }
}

/// What a row asks for.
#[derive(Clone, Copy, PartialEq)]
enum Class {
    Free,
    One(i64),
    Soft,
}

fn indices(rows: &Tensor) -> Result<Vec<Class>, tch::TchError> {
    let (largest, index) = rows.f_max_dim(1, false)?;
    let read = |tensor: Tensor| tensor.f_to_kind(Kind::Double).and_then(Vec::<f64>::try_from);
    let [largest, index] = [read(largest)?, read(index)?];
    let others = read(rows.f_abs()?.f_sum_dim_intlist(1, false, Kind::Double)?)?;
    let class = |((largest, index), sum): ((f64, f64), f64)| match (largest, sum) {
        (_, 0.0) => Class::Free,
        (1.0, 1.0) => Class::One(index as i64),
        _ => Class::Soft,
    };
    Ok(largest.into_iter().zip(index).zip(others).map(class).collect())
}
