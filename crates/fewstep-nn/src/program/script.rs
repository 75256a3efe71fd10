//! TorchScript files: opened, called, and their complaints in one line.

use std::path::Path;

use tch::{CModule, Device, IValue, Kind, Tensor};

use crate::error::{Error, Result, torch_line, torch_message};

/// An open TorchScript program with constant weights.
#[derive(Debug)]
pub struct Script {
    module: CModule,
    name: String,
}

impl Script {
    /// Opens a file that `torch.jit.save` wrote. This may execute what is in it.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        let name = path.display().to_string();
        let fail = |reason: String| Error::Program { path: name.clone(), reason };
        if !path.is_file() {
            return Err(fail("does not exist: check the path".to_owned()));
        }
        let opened = CModule::load_on_device(path, device)
            .and_then(|mut module| module.f_set_eval().and_then(|()| Ok((module.named_parameters()?, module))));
        let (weights, module) = opened.map_err(|error| {
            fail(format!(
                "is no TorchScript file that libtorch can open ({}); write it with torch.jit.save",
                torch_line(&error)
            ))
        })?;
        for (_, mut weight) in weights {
            let _ = weight.f_requires_grad_(false)?;
        }
        Ok(Self { module, name })
    }

    /// The file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tensor of floats that `forward` answers; `names` are those of its arguments.
    pub fn call(&self, arguments: &[IValue], names: &[&str]) -> Result<Tensor> {
        let answer = self.module.forward_is(arguments).map_err(|error| {
            let (called, why) = (called(arguments, names), torch_message(&error));
            self.error(format!(
                "fails when it is called as {called} ({why}); see whether the JSON beside it says so of its arguments"
            ))
        })?;
        let kind = match answer {
            IValue::Tensor(tensor) => Ok(tensor),
            // diffusers' models with return_dict=False
            IValue::Tuple(mut one) if one.len() == 1 => match one.pop() {
                Some(IValue::Tensor(tensor)) => Ok(tensor),
                _ => Err("a tuple without a tensor".to_owned()),
            },
            IValue::Tuple(several) => Err(format!("a tuple of {}", several.len())),
            IValue::GenericDict(_) => Err("a dictionary".to_owned()),
            _ => Err("something else".to_owned()),
        };
        match kind {
            Ok(tensor) if tensor.is_floating_point() => Ok(tensor),
            Ok(tensor) => Err(self.error(format!("answers {}, where floats are needed", described(&tensor)))),
            Err(found) => Err(self.error(format!("answers {found}, where one tensor is needed"))),
        }
    }

    /// What is wrong with the program.
    pub fn error(&self, reason: String) -> Error {
        Error::Program { path: self.name.clone(), reason }
    }
}

/// A call in words: `forward(x f32 [2, 4, 32, 32], noise f32 [2])`.
pub fn called(arguments: &[IValue], names: &[&str]) -> String {
    let words = arguments.iter().zip(names).map(|(argument, name)| match argument {
        IValue::Tensor(tensor) => format!("{name} {}", described(tensor)),
        _ => format!("{name} None"),
    });
    format!("forward({})", words.collect::<Vec<_>>().join(", "))
}

fn described(tensor: &Tensor) -> String {
    let kind = match tensor.kind() {
        Kind::Float => "f32".to_owned(),
        Kind::Half => "f16".to_owned(),
        Kind::BFloat16 => "bf16".to_owned(),
        Kind::Double => "f64".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        other => format!("{other:?}"),
    };
    format!("{kind} {:?}", tensor.size())
}
