//! Pickles that a machine runs to their end, with contents that no `pickle.dump` would write.

use arbitrary::{Arbitrary, Result, Unstructured};
use serde_json::Value;

/// Names that readers know, and one that they must refuse.
const NAMES: [(&str, &str); 16] = [
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor_v3"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._tensor", "_rebuild_from_type_v2"),
    ("torch.storage", "_load_from_bytes"),
    ("torch", "FloatStorage"),
    ("torch", "UntypedStorage"),
    ("torch", "Size"),
    ("torch", "float32"),
    ("collections", "OrderedDict"),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("os", "system"),
];

/// Place of the class of EDM's objects in [`NAMES`].
const PERSISTENT: usize = 10;

/// Text that readers look for.
const TEXTS: [&str; 20] = [
    "ema",
    "augment_pipe",
    "dataset_kwargs",
    "type",
    "class",
    "module_src",
    "class_name",
    "state",
    "_parameters",
    "_buffers",
    "_modules",
    "model",
    "img_resolution",
    "img_channels",
    "label_dim",
    "sigma_min",
    "storage",
    "cpu",
    "0",
    "weight",
];

/// One step of the machine.
#[derive(Debug, Arbitrary)]
enum Step {
    Int(i32),
    SmallInt(u8),
    Long(i64),
    Float(f64),
    Text(u8),
    OwnText(String),
    /// Text of protocol 0, which is decoded.
    Unicode(String),
    Bytes(Vec<u8>),
    Literal(bool),
    None,
    Name(u8),
    /// A name by text on the stack: a known one, or whatever there is.
    StackName(u8),
    StackGlobal,
    /// A frame of so many bytes, which may not be there.
    Frame(u8),
    Tuple(u8),
    EmptyDict,
    EmptyList,
    EmptyTuple,
    Mark,
    TupleOfMark,
    ListOfMark,
    DictOfMark,
    SetItem,
    SetItems,
    Append,
    Appends,
    Memoize,
    Get(u8),
    Reduce,
    NewObject,
    Build,
    Persistent,
    Dup,
    Pop,
    /// A storage as `torch.save` refers to it.
    Storage {
        kind: u8,
        key: u8,
        numel: i64,
    },
    /// A whole tensor of a storage of that key.
    Tensor {
        key: u8,
        numel: i64,
        offset: i64,
        size: Vec<i64>,
        stride: Vec<i64>,
    },
    /// Anything.
    Raw(u8),
}

/// A pickle of random steps.
#[derive(Debug)]
pub struct Pickle(pub Vec<u8>);

impl<'a> Arbitrary<'a> for Pickle {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut bytes = vec![0x80, 2 + u.int_in_range(0..=3)?];
        for step in u.arbitrary_iter::<Step>()? {
            write(&mut bytes, &step?);
        }
        bytes.push(b'.');
        Ok(Self(bytes))
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A line of Latin-1 with other characters escaped.
fn unicode(out: &mut Vec<u8>, text: &str) {
    out.push(b'V');
    for character in text.chars() {
        match u8::try_from(character) {
            Ok(byte) if byte != b'\n' && byte != b'\\' => out.push(byte),
            _ => out.extend(format!("\\U{:08x}", u32::from(character)).as_bytes()),
        }
    }
    out.push(b'\n');
}

fn long(out: &mut Vec<u8>, value: i64) {
    match i32::try_from(value) {
        Ok(value) => {
            out.push(b'J');
            out.extend(value.to_le_bytes());
        }
        Err(_) => {
            out.extend([0x8a, 8]);
            out.extend(value.to_le_bytes());
        }
    }
}

fn name(out: &mut Vec<u8>, at: usize) {
    let (module, name) = NAMES[at % NAMES.len()];
    out.extend(format!("c{module}\n{name}\n").as_bytes());
}

fn tuple(out: &mut Vec<u8>, values: &[i64]) {
    out.push(b'(');
    for value in values {
        long(out, *value);
    }
    out.push(b't');
}

fn storage(out: &mut Vec<u8>, kind: usize, key: u8, numel: i64) {
    out.push(b'(');
    text(out, "storage");
    name(out, kind);
    text(out, &(key % 4).to_string());
    text(out, "cpu");
    long(out, numel);
    out.extend(b"tQ");
}

fn write(out: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Int(value) => long(out, (*value).into()),
        Step::SmallInt(value) => out.extend([b'K', *value]),
        Step::Long(value) => long(out, *value),
        Step::Float(value) => {
            out.push(b'G');
            out.extend(value.to_be_bytes());
        }
        Step::Text(at) => text(out, TEXTS[*at as usize % TEXTS.len()]),
        Step::OwnText(own) => text(out, own),
        Step::Unicode(own) => unicode(out, own),
        Step::Bytes(bytes) => {
            out.push(b'B');
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
        }
        Step::Literal(value) => out.push(if *value { 0x88 } else { 0x89 }),
        Step::None => out.push(b'N'),
        Step::Name(at) => name(out, *at as usize),
        Step::StackName(at) => {
            let (module, name) = NAMES[*at as usize % NAMES.len()];
            text(out, module);
            unicode(out, name);
            out.push(0x93);
        }
        Step::StackGlobal => out.push(0x93),
        Step::Frame(size) => {
            out.push(0x95);
            out.extend(u64::from(*size).to_le_bytes());
        }
        Step::Tuple(size) => out.push([b')', 0x85, 0x86, 0x87][*size as usize % 4]),
        Step::EmptyDict => out.push(b'}'),
        Step::EmptyList => out.push(b']'),
        Step::EmptyTuple => out.push(b')'),
        Step::Mark => out.push(b'('),
        Step::TupleOfMark => out.push(b't'),
        Step::ListOfMark => out.push(b'l'),
        Step::DictOfMark => out.push(b'd'),
        Step::SetItem => out.push(b's'),
        Step::SetItems => out.push(b'u'),
        Step::Append => out.push(b'a'),
        Step::Appends => out.push(b'e'),
        Step::Memoize => out.push(0x94),
        Step::Get(at) => out.extend([b'h', *at]),
        Step::Reduce => out.push(b'R'),
        Step::NewObject => out.push(0x81),
        Step::Build => out.push(b'b'),
        Step::Persistent => out.push(b'Q'),
        Step::Dup => out.push(b'2'),
        Step::Pop => out.push(b'0'),
        Step::Storage { kind, key, numel } => storage(out, 5 + *kind as usize % 2, *key, *numel),
        Step::Tensor { key, numel, offset, size, stride } => {
            name(out, 0);
            out.push(b'(');
            storage(out, 5, *key, *numel);
            long(out, *offset);
            tuple(out, size);
            tuple(out, stride);
            out.push(0x89);
            name(out, 9);
            out.extend(b")RtR");
        }
        Step::Raw(byte) => out.push(*byte),
    }
}

/// A pickle of JSON, in which an object of `class` and `state` alone is an object of that class of the EDM code with this state.
pub fn of_json(value: &Value) -> Vec<u8> {
    let mut out = vec![0x80, 4];
    write_json(&mut out, value);
    out.push(b'.');
    out
}

fn write_json(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(b'N'),
        Value::Bool(value) => out.push(if *value { 0x88 } else { 0x89 }),
        Value::Number(number) => match number.as_i64() {
            Some(value) => long(out, value),
            None => {
                out.push(b'G');
                out.extend(number.as_f64().unwrap_or(f64::NAN).to_be_bytes());
            }
        },
        Value::String(value) => text(out, value),
        Value::Array(values) => {
            out.extend(b"](");
            values.iter().for_each(|value| write_json(out, value));
            out.push(b'e');
        }
        Value::Object(entries) => match (entries.len(), entries.get("class"), entries.get("state")) {
            (2, Some(Value::String(class)), Some(state)) => {
                name(out, PERSISTENT);
                write_json(out, &serde_json::json!({"type": "class", "class_name": class}));
                text(out, "state");
                write_json(out, state);
                out.extend(b"s\x85R");
            }
            _ => {
                out.extend(b"}(");
                for (key, value) in entries {
                    text(out, key);
                    write_json(out, value);
                }
                out.push(b'u');
            }
        },
    }
}
