//! The wheels that libtorch and its libraries come from, pinned by hash.
//!
//! The versions are those that torch 2.11.0's own requirements name (`cuda-toolkit==13.0.2` and the NVIDIA packages beside it).

use super::machine;
use anyhow::{Context, Result};

/// What a user can have: libtorch for the CPU, and what is added for GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `include/` and `lib/`.
    Cpu,
    /// `cuda/`.
    Cuda,
}

impl Part {
    /// The file that says which wheels this part was unpacked from.
    pub fn stamp(self) -> &'static str {
        match self {
            Part::Cpu => "installed-cpu.txt",
            Part::Cuda => "installed-cuda.txt",
        }
    }

    /// The entries of `.libtorch/` that this part owns.
    pub fn folders(self) -> &'static [&'static str] {
        match self {
            Part::Cpu => &["lib", "include", "build-version"],
            Part::Cuda => &["cuda"],
        }
    }
}

/// One wheel: its file name (which holds name, version and tags), the hash it must have, and its size for the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wheel {
    pub file: &'static str,
    pub sha256: &'static str,
    pub megabytes: u32,
}

/// The last three fields of a wheel's name.
pub struct Tags {
    pub implementation: &'static str,
    pub abi: &'static str,
    pub platform: &'static str,
}

impl Wheel {
    /// What pip calls it: `name==version`.
    pub fn requirement(&self) -> Result<String> {
        let [name, version, ..] = self.fields()?;
        Ok(format!("{}=={version}", name.replace('_', "-")))
    }

    /// The tags to ask pip for. Of several platforms in one name the first will do.
    pub fn tags(&self) -> Result<Tags> {
        let [_, _, python, abi, platforms] = self.fields()?;
        let platform = platforms.split('.').next().unwrap_or(platforms);
        Ok(Tags { implementation: python.trim_end_matches(char::is_numeric), abi, platform })
    }

    /// name, version, python, abi, platforms.
    fn fields(&self) -> Result<[&'static str; 5]> {
        let fields: Vec<&str> = self.file.trim_end_matches(".whl").split('-').collect();
        fields.try_into().ok().with_context(|| format!("{} is no wheel's name", self.file))
    }
}

/// The wheels of a part for this machine.
pub fn of(part: Part) -> Result<Vec<Wheel>> {
    Ok(select(part, machine()?))
}

/// The wheels of a part for a machine. The torch wheel belongs to both parts: it holds libraries of both.
pub fn select(part: Part, machine: &str) -> Vec<Wheel> {
    let all: &[Wheel] = match part {
        Part::Cpu => &CPU,
        Part::Cuda => &CUDA,
    };
    let torch = TORCH.iter().filter(|wheel| wheel.file.contains(machine));
    torch.chain(all.iter().filter(|wheel| wheel.file.contains(machine))).copied().collect()
}

const fn wheel(file: &'static str, sha256: &'static str, megabytes: u32) -> Wheel {
    Wheel { file, sha256, megabytes }
}

#[rustfmt::skip]
const TORCH: [Wheel; 2] = [
    wheel("torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl", "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756", 531),
    wheel("torch-2.11.0-cp312-cp312-manylinux_2_28_aarch64.whl", "f99924682ef0aa6a4ab3b1b76f40dc6e273fca09f367d15a524266db100a723f", 420),
];

/// What `libtorch_cpu.so` links besides itself (`readelf -d`).
#[rustfmt::skip]
const CPU: [Wheel; 4] = [
    wheel("nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548", 2),
    wheel("nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55", 2),
    wheel("nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl", "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8", 11),
    wheel("nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_aarch64.whl", "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151", 10),
];

/// What `libtorch_cuda.so` and its companions link besides.
#[rustfmt::skip]
const CUDA: [Wheel; 30] = [
    // of whose library libtorch_cpu.so has need already; its headers are for what is compiled here
    CPU[0],
    CPU[1],
    wheel("nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl", "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171", 423),
    wheel("nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_aarch64.whl", "c86fc7f7ae36d7528288c5d88098edcb7b02c633d262e7ddbb86b0ad91be5df2", 543),
    wheel("nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl", "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575", 90),
    wheel("nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", "d27f20a0ca67a4bb34268a5e951033496c5b74870b868bacd046b1b8e0c3267b", 43),
    wheel("nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_x86_64.whl", "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf", 366),
    wheel("nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_aarch64.whl", "6ed29ffaee1176c612daf442e4dd6cfeb6a0caa43ddcbeb59da94953030b1be4", 434),
    wheel("nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3", 214),
    wheel("nvidia_cufft-12.0.0.61-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", "2708c852ef8cd89d1d2068bdbece0aa188813a0c934db3779b9b1faa8442e5f5", 214),
    wheel("nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44", 1),
    wheel("nvidia_cufile-1.15.1.6-py3-none-manylinux_2_27_aarch64.whl", "bdc0deedc61f548bddf7733bdc216456c2fdb101d020e1ab4b88d232d5e2f6d1", 1),
    wheel("nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl", "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc", 60),
    wheel("nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_aarch64.whl", "133df5a7509c3e292aaa2b477afd0194f06ce4ea24d714d616ff36439cee349a", 62),
    wheel("nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl", "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112", 201),
    wheel("nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_aarch64.whl", "02c2457eaa9e39de20f880f4bd8820e6a1cfb9f9a34f820eb12a155aa5bc92d2", 223),
    wheel("nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b", 146),
    wheel("nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", "80bcc4662f23f1054ee334a15c72b8940402975e0eab63178fc7e670aa59472c", 162),
    wheel("nvidia_cusparselt_cu13-0.8.0-py3-none-manylinux2014_x86_64.whl", "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd", 170),
    wheel("nvidia_cusparselt_cu13-0.8.0-py3-none-manylinux2014_aarch64.whl", "400c6ed1cf6780fc6efedd64ec9f1345871767e6a1a0a552a1ea0578117ea77c", 221),
    wheel("nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_x86_64.whl", "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42", 196),
    wheel("nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_aarch64.whl", "01c873ba1626b54caa12272ed228dc5b2781545e0ae8ba3f432a8ef1c6d78643", 197),
    wheel("nvidia_nvjitlink-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl", "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b", 41),
    wheel("nvidia_nvjitlink-13.0.88-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", "e931536ccc7d467a98ba1d8b89ff7fa7f1fa3b13f2b0069118cd7f47bff07d0c", 39),
    // headers alone, for what is compiled with those of the others
    wheel("nvidia_cuda_crt-13.0.88-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4", 1),
    wheel("nvidia_cuda_crt-13.0.88-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", "ee2ea2a97073e02ee62bb27841f437332be2c248e3eac013df07997ada39c003", 1),
    wheel("nvidia_cuda_cccl-13.0.85-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649", 3),
    wheel("nvidia_cuda_cccl-13.0.85-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", "6f0203e29fed809ee2b7fe9b1344df66ecab990c37d6a2e0e189b26d6c97ed7c", 3),
    wheel("nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80", 60),
    wheel("nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", "6dc2a197f38e5d0376ad52cd1a2a3617d3cdc150fd5966f4aee9bcebb1d68fe9", 60),
];
