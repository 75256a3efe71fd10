//! The layers of Inception-v3, as a tree: a sequence of nodes, some of which split into branches whose outputs are joined
//! along the channels. Names of layers are torchvision's.

use fewstep_nn::kernels;
use fewstep_nn::tch::{Device, Tensor};

use crate::error::Result;

/// A convolution with its batch normalisation folded in, and a ReLU.
#[derive(Debug)]
pub struct Conv {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: [i64; 2],
}

/// One step.
#[derive(Debug)]
pub enum Node {
    /// Convolution and ReLU.
    Conv(Conv),
    /// Average over 3x3 pixels that leaves the padding out of the average.
    AveragePool,
    /// Maximum over 3x3 pixels; padded where the stride is 1.
    MaxPool {
        /// 1 or 2.
        stride: i64,
    },
    /// Branches side by side, joined along the channels.
    Split(Vec<Vec<Node>>),
}

/// Gives weight `[out, in, h, w]` and bias `[out]` of the convolution of this name and shape.
pub type Fetch<'a> = dyn FnMut(&str, [i64; 4]) -> Result<(Tensor, Tensor)> + 'a;

/// What `nodes` make of `x` `[N, C, H, W]`.
///
/// # Errors
/// If memory does not suffice, say.
pub fn run(nodes: &[Node], x: &Tensor) -> Result<Tensor> {
    nodes.iter().try_fold(x.shallow_clone(), |x, node| {
        Ok(match node {
            Node::Conv(Conv { weight, bias, stride, padding }) => {
                kernels::convolution(&x, weight, Some(bias), [*stride, *stride], *padding)?.f_relu_()?
            }
            Node::AveragePool => x.f_avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None)?,
            Node::MaxPool { stride } => {
                let padding = if *stride == 1 { 1 } else { 0 };
                x.f_max_pool2d([3, 3], [*stride, *stride], [padding, padding], [1, 1], false)?
            }
            Node::Split(branches) => {
                let outputs = branches.iter().map(|branch| run(branch, &x)).collect::<Result<Vec<_>>>()?;
                Tensor::f_cat(&outputs, 1)?
            }
        })
    })
}

/// The same tensor with channels innermost in memory, the layout in which libtorch's convolutions are fastest on a CPU.
///
/// # Errors
/// If memory does not suffice.
pub fn channels_last(x: &Tensor) -> Result<Tensor> {
    Ok(match x.device() {
        Device::Cpu => x.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?,
        _ => x.f_contiguous()?,
    })
}

/// Name, output channels, kernel, stride and whether the resolution is kept by padding.
struct Spec(&'static str, i64, [i64; 2], i64, bool);

/// A padded convolution of stride 1.
fn same(name: &'static str, c_out: i64, h: i64, w: i64) -> Spec {
    Spec(name, c_out, [h, w], 1, true)
}

/// A square convolution without padding.
fn valid(name: &'static str, c_out: i64, size: i64, stride: i64) -> Spec {
    Spec(name, c_out, [size, size], stride, false)
}

/// Convolutions after one another, under `prefix`.
fn chain(fetch: &mut Fetch, prefix: &str, c_in: i64, specs: &[Spec]) -> Result<Vec<Node>> {
    let mut c_in = c_in;
    let mut nodes = Vec::with_capacity(specs.len());
    for &Spec(name, c_out, [h, w], stride, padded) in specs {
        let (weight, bias) = fetch(&format!("{prefix}{name}"), [c_out, c_in, h, w])?;
        let padding = if padded { [h / 2, w / 2] } else { [0, 0] };
        nodes.push(Node::Conv(Conv { weight: channels_last(&weight)?, bias, stride, padding }));
        c_in = c_out;
    }
    Ok(nodes)
}

/// The network up to the last 8x8 map.
pub fn body(fetch: &mut Fetch) -> Result<Vec<Node>> {
    let mut nodes = chain(
        fetch,
        "",
        3,
        &[valid("Conv2d_1a_3x3", 32, 3, 2), valid("Conv2d_2a_3x3", 32, 3, 1), same("Conv2d_2b_3x3", 64, 3, 3)],
    )?;
    nodes.push(Node::MaxPool { stride: 2 });
    nodes.extend(chain(fetch, "", 64, &[same("Conv2d_3b_1x1", 80, 1, 1), valid("Conv2d_4a_3x3", 192, 3, 1)])?);
    nodes.push(Node::MaxPool { stride: 2 });
    nodes.push(block_a(fetch, "Mixed_5b.", 192, 32)?);
    nodes.push(block_a(fetch, "Mixed_5c.", 256, 64)?);
    nodes.push(block_a(fetch, "Mixed_5d.", 288, 64)?);
    nodes.push(block_b(fetch, "Mixed_6a.", 288)?);
    for (name, width) in [("Mixed_6b.", 128), ("Mixed_6c.", 160), ("Mixed_6d.", 160), ("Mixed_6e.", 192)] {
        nodes.push(block_c(fetch, name, 768, width)?);
    }
    nodes.push(block_d(fetch, "Mixed_7a.", 768)?);
    nodes.push(block_e(fetch, "Mixed_7b.", 1280, Node::AveragePool)?);
    // The original graph pools with the maximum here, which everyone's numbers contain.
    nodes.push(block_e(fetch, "Mixed_7c.", 2048, Node::MaxPool { stride: 1 })?);
    Ok(nodes)
}

/// 35x35 blocks.
fn block_a(f: &mut Fetch, p: &str, c: i64, pool: i64) -> Result<Node> {
    Ok(Node::Split(vec![
        chain(f, p, c, &[same("branch1x1", 64, 1, 1)])?,
        chain(f, p, c, &[same("branch5x5_1", 48, 1, 1), same("branch5x5_2", 64, 5, 5)])?,
        chain(
            f,
            p,
            c,
            &[same("branch3x3dbl_1", 64, 1, 1), same("branch3x3dbl_2", 96, 3, 3), same("branch3x3dbl_3", 96, 3, 3)],
        )?,
        pooled(f, p, c, Node::AveragePool, pool)?,
    ]))
}

/// 35x35 to 17x17.
fn block_b(f: &mut Fetch, p: &str, c: i64) -> Result<Node> {
    Ok(Node::Split(vec![
        chain(f, p, c, &[valid("branch3x3", 384, 3, 2)])?,
        chain(
            f,
            p,
            c,
            &[same("branch3x3dbl_1", 64, 1, 1), same("branch3x3dbl_2", 96, 3, 3), valid("branch3x3dbl_3", 96, 3, 2)],
        )?,
        vec![Node::MaxPool { stride: 2 }],
    ]))
}

/// 17x17 blocks of inner width `w`.
fn block_c(f: &mut Fetch, p: &str, c: i64, w: i64) -> Result<Node> {
    Ok(Node::Split(vec![
        chain(f, p, c, &[same("branch1x1", 192, 1, 1)])?,
        chain(f, p, c, &[same("branch7x7_1", w, 1, 1), same("branch7x7_2", w, 1, 7), same("branch7x7_3", 192, 7, 1)])?,
        chain(
            f,
            p,
            c,
            &[
                same("branch7x7dbl_1", w, 1, 1),
                same("branch7x7dbl_2", w, 7, 1),
                same("branch7x7dbl_3", w, 1, 7),
                same("branch7x7dbl_4", w, 7, 1),
                same("branch7x7dbl_5", 192, 1, 7),
            ],
        )?,
        pooled(f, p, c, Node::AveragePool, 192)?,
    ]))
}

/// 17x17 to 8x8.
fn block_d(f: &mut Fetch, p: &str, c: i64) -> Result<Node> {
    Ok(Node::Split(vec![
        chain(f, p, c, &[same("branch3x3_1", 192, 1, 1), valid("branch3x3_2", 320, 3, 2)])?,
        chain(
            f,
            p,
            c,
            &[
                same("branch7x7x3_1", 192, 1, 1),
                same("branch7x7x3_2", 192, 1, 7),
                same("branch7x7x3_3", 192, 7, 1),
                valid("branch7x7x3_4", 192, 3, 2),
            ],
        )?,
        vec![Node::MaxPool { stride: 2 }],
    ]))
}

/// 8x8 blocks, which differ in their pool.
fn block_e(f: &mut Fetch, p: &str, c: i64, pool: Node) -> Result<Node> {
    let mut narrow = chain(f, p, c, &[same("branch3x3_1", 384, 1, 1)])?;
    narrow.push(Node::Split(vec![
        chain(f, p, 384, &[same("branch3x3_2a", 384, 1, 3)])?,
        chain(f, p, 384, &[same("branch3x3_2b", 384, 3, 1)])?,
    ]));
    let mut wide = chain(f, p, c, &[same("branch3x3dbl_1", 448, 1, 1), same("branch3x3dbl_2", 384, 3, 3)])?;
    wide.push(Node::Split(vec![
        chain(f, p, 384, &[same("branch3x3dbl_3a", 384, 1, 3)])?,
        chain(f, p, 384, &[same("branch3x3dbl_3b", 384, 3, 1)])?,
    ]));
    Ok(Node::Split(vec![chain(f, p, c, &[same("branch1x1", 320, 1, 1)])?, narrow, wide, pooled(f, p, c, pool, 192)?]))
}

/// A pool and a 1x1 convolution.
fn pooled(f: &mut Fetch, p: &str, c: i64, pool: Node, c_out: i64) -> Result<Vec<Node>> {
    let mut nodes = vec![pool];
    nodes.extend(chain(f, p, c, &[same("branch_pool", c_out, 1, 1)])?);
    Ok(nodes)
}
