//! Products of bf16 by a kernel in CUDA C++, which CubeCL compiles and launches as one of its own.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cuda::CudaRuntime;
use cubecl::ir::StorageType;
use cubecl::prelude::*;
use cubecl::server::{ExecutionMode, KernelArguments, MetadataBindingInfo};
use cubecl::{CompilationError, Compiler, CubeTask};

use crate::gpu::product::Causal;

type CudaCompiler = <CudaRuntime as Runtime>::Compiler;

/// The kernel, as CUDA compiles it.
const SOURCE: &str = include_str!("gemm.cu");
const THREADS: u32 = 256;
const TILE_ROWS: usize = 128;

/// What the kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Form {
    a_along_k: bool,
    b_along_k: bool,
    /// Columns of a tile.
    n_columns: usize,
    biased: bool,
    /// Whether the result is of bf16.
    rounded: bool,
}

impl Form {
    fn source(self) -> String {
        let Self { a_along_k, b_along_k, n_columns, biased, rounded } = self;
        let choices = [
            ("A_ALONG_K", usize::from(a_along_k)),
            ("B_ALONG_K", usize::from(b_along_k)),
            ("BN", n_columns),
            ("BIASED", usize::from(biased)),
            ("ROUNDED", usize::from(rounded)),
        ];
        let defined = choices.map(|(name, choice)| format!("#define {name} {choice}\n"));
        defined.concat() + SOURCE
    }
}

impl KernelMetadata for Form {
    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(*self).cube_dim(CubeDim::new_1d(THREADS))
    }

    fn address_type(&self) -> StorageType {
        u32::as_type_native_unchecked().storage_type()
    }
}

impl CubeTask<CudaCompiler> for Form {
    fn compile(
        &self,
        compiler: &mut CudaCompiler,
        options: &<CudaCompiler as Compiler>::CompilationOptions,
        mode: ExecutionMode,
        address_type: StorageType,
    ) -> Result<CompiledKernel<CudaCompiler>, CompilationError> {
        // CubeCL reads the size of its own shared memory, which is none, off a kernel in its language.
        let cube_dim = CubeDim::new_1d(THREADS);
        let settings = KernelSettings::default().cube_dim(cube_dim);
        let empty = KernelBuilder::default().build(settings);
        let repr = compiler.compile(empty, options, mode, address_type)?;
        Ok(CompiledKernel {
            entrypoint_name: "gemm".to_owned(),
            debug_name: Some("gemm"),
            source: self.source(),
            repr: Some(repr),
            cube_dim,
            debug_info: None,
        })
    }
}

/// How a matrix lies, seen as `[rows, columns]`.
struct Lies {
    /// Whether columns are neighbours; else rows are.
    by_row: bool,
    /// Numbers from one row, or column, to the next.
    ld: usize,
    /// Numbers from one matrix of a batch to the next.
    stride: usize,
}

impl Lies {
    /// `None` where the kernel cannot read it in steps of eight numbers.
    fn of(matrix: &CubeTensor<CudaRuntime>) -> Option<Self> {
        let (shape, strides) = (matrix.meta.shape(), matrix.meta.strides());
        let rank = shape.num_dims();
        let (rows, columns) = (rank - 2, rank - 1);
        let (by_row, ld, along) = if strides[columns] == 1 {
            (true, strides[rows], shape[columns])
        } else if strides[rows] == 1 {
            (false, strides[columns], shape[rows])
        } else {
            return None;
        };
        let stride = if rank > 2 { strides[0] } else { 0 };
        let in_steps = [ld, along, stride].iter().all(|n| n.is_multiple_of(8));
        (in_steps && matrix.dtype == DType::BF16).then_some(Self { by_row, ld, stride })
    }
}

/// `[.., m, k]` times `[.., k, n]` of bf16, plus a bias of `n` numbers for each matrix, into `out`, of single precision or
/// bf16; and whether this kernel can do it.
pub(crate) fn multiply(
    [lhs, rhs]: [&CubeTensor<CudaRuntime>; 2],
    bias: Option<&CubeTensor<CudaRuntime>>,
    out: &CubeTensor<CudaRuntime>,
    causal: Causal,
) -> bool {
    let (Some(a), Some(b)) = (Lies::of(lhs), Lies::of(rhs)) else { return false };
    let shape = out.meta.shape();
    let rank = shape.num_dims();
    let [m, n, k] = [shape[rank - 2], shape[rank - 1], lhs.meta.shape()[rank - 1]];
    let batch = if rank > 2 { shape[0] } else { 1 };
    if !n.is_multiple_of(2) || batch > 65_535 || m.div_ceil(TILE_ROWS) > 65_535 {
        return false;
    }
    let form = Form {
        a_along_k: a.by_row,
        b_along_k: !b.by_row,
        n_columns: if n <= 64 { 64 } else { 128 },
        biased: bias.is_some(),
        rounded: out.dtype == DType::BF16,
    };
    let sizes = [m, n, k, a.ld, b.ld, a.stride, b.stride].map(|size| size as u64);
    let info: Vec<u64> = sizes.into_iter().chain([causal.number()]).collect();
    // All of it is handed over by value, as the last argument.
    let length = info.len();
    let buffers = [Some(lhs), Some(rhs), bias, Some(out)].into_iter().flatten();
    let buffers = buffers.map(|tensor| tensor.handle.clone().binding()).collect();
    let arguments = KernelArguments::new()
        .with_buffers(buffers)
        .with_info(MetadataBindingInfo::new(info, length));
    let tiles = [n.div_ceil(form.n_columns), m.div_ceil(TILE_ROWS), batch];
    let [x, y, z] = tiles.map(|tiles| tiles as u32);
    // SAFETY: the kernel reads and writes what these sizes and strides say, which are those of the tensors, and it
    // ends: its loops are over `k` and over constants.
    unsafe {
        out.client.launch_unchecked(Box::new(form), CubeCount::Static(x, y, z), arguments);
    }
    true
}
