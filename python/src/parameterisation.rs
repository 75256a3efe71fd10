//! How networks become denoisers.

use fewstep_core::denoiser::Levels;
use fewstep_core::parameterisation::{AlphaNetwork, Alphas, Coefficients, Parameterisation, Prediction, RectifiedFlow};
use pyo3::prelude::*;

use crate::bad;

/// What a network predicts and is told.
#[pyclass(name = "Parameterisation", frozen, module = "fewstep._fewstep")]
pub struct PyParameterisation(pub Parameterisation);

#[pymethods]
impl PyParameterisation {
    /// A network on a table of `alphas_cumprod` that predicts `eps`, `v` or `x0`.
    #[staticmethod]
    fn on_alphas(prediction: &str, alphas_cumprod: Vec<f64>, sigma_data: f64) -> PyResult<Self> {
        let prediction = match prediction {
            "eps" => Prediction::Eps,
            "v" => Prediction::V,
            "x0" => Prediction::X0,
            other => return Err(bad(format!("the prediction {other:?} is none of eps, v and x0"))),
        };
        let network = AlphaNetwork::new(prediction, Alphas::AlphasCumprod { values: alphas_cumprod }, sigma_data);
        Ok(Self(Parameterisation::Alphas(network.map_err(bad)?)))
    }

    /// From the JSON of model descriptions.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        let read: Parameterisation = serde_json::from_str(text).map_err(bad)?;
        read.validate().map_err(bad)?;
        Ok(Self(read))
    }

    fn to_json(&self) -> PyResult<String> {
        serde_json::to_string(&self.0).map_err(bad)
    }

    /// `(c_skip, c_out, c_in, c_noise)` at each level.
    fn coefficients(&self, sigmas: Vec<f64>) -> Vec<(f64, f64, f64, f64)> {
        let of = |sigma: &f64| {
            let Coefficients { c_skip, c_out, c_in, c_noise } = self.0.coefficients(sigma);
            (c_skip, c_out, c_in, c_noise)
        };
        sigmas.iter().map(of).collect()
    }

    /// Least and greatest level that samplers begin and end at.
    #[getter]
    fn sigma_range(&self) -> (f64, f64) {
        self.0.sampling_range()
    }

    /// Whether it is a rectified flow.
    #[getter]
    fn is_flow(&self) -> bool {
        matches!(self.0, Parameterisation::Flow(RectifiedFlow { .. }))
    }
}

impl PyParameterisation {
    pub fn levels(&self) -> Levels {
        Levels::from(&self.0)
    }
}
