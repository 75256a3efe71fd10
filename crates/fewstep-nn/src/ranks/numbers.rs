//! Numbers that processes give one another, as a search asks for them.

use fewstep_core::group::{Group, GroupError};
use tch::Tensor;

use super::Ranks;
use crate::error::{Error, Result};

fn group_error(error: Error) -> GroupError {
    match error {
        Error::Process { reason, code } => GroupError { reason, code },
        other => GroupError { reason: other.to_string(), code: None },
    }
}

impl Group for Ranks {
    fn rank(&self) -> usize {
        self.rank()
    }

    fn size(&self) -> usize {
        self.size()
    }

    fn gather(&self, own: &[f64]) -> std::result::Result<Vec<Vec<f64>>, GroupError> {
        let bytes: Vec<u8> = own.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let all = self.gather_bytes(&bytes).map_err(group_error)?;
        let numbers = |bytes: &Vec<u8>| bytes.as_chunks::<8>().0.iter().map(|word| f64::from_ne_bytes(*word)).collect();
        Ok(all.iter().map(numbers).collect())
    }

    fn gather_known(&self, own: &[f64], lengths: &[usize]) -> std::result::Result<Vec<Vec<f64>>, GroupError> {
        let Some(joined) = &self.0 else { return Ok(vec![own.to_vec()]) };
        let most = lengths.iter().copied().max().unwrap_or(0);
        let mut padded = own.to_vec();
        padded.resize(most, 0.0);
        let gathered = || -> Result<Vec<f64>> {
            Ok(Vec::try_from(self.gathered(joined, &Tensor::f_from_slice(&padded)?)?.f_reshape([-1])?)?)
        };
        let all = gathered().map_err(group_error)?;
        Ok(all.chunks(most.max(1)).zip(lengths).map(|(row, length)| row[..*length].to_vec()).collect())
    }
}
