//! Which of CubeK's routines multiplies fastest on a CUDA device, at the sizes of a training step.
//!
//! CubeK would try its routines for each shape at run time, which compiles some thirty kernels and takes minutes of every
//! process. `src/gpu/product.rs` names the ones that are used instead.
//!
//! `cargo bench -p mnemoscope-engine --features cuda --bench products`, with beginnings of "precision routine"
//! behind `--` to try only those.

#![expect(clippy::print_stdout, reason = "a bench reports to the person who runs it")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::Runtime as _;
use cubecl::prelude::CubeElement as _;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::{Strategy, launch_ref};
use cubek::matmul::routines::BlueprintStrategy::Inferred;
use cubek::matmul::routines::TileSizeSelection;
use cubek::matmul::routines::double_buffering::DoubleBufferingArgs;
use cubek::matmul::routines::double_unit::DoubleUnitSelectionArgs;
use cubek::matmul::routines::ordered_double_buffering::OrderedSelectionArgs;
use cubek::matmul::routines::simple::SimpleArgs;
use cubek::matmul::routines::simple_unit::SimpleUnitSelectionArgs;
use cubek::std::InputBinding;
use mnemoscope_engine::burn::tensor::DType;
use mnemoscope_engine::testing::numbers;

type Cuda = cubecl::cuda::CudaRuntime;
type Array = CubeTensor<Cuda>;

/// A product of a training step: batch, rows, inner, columns, and whether either factor lies the other way round.
struct Product {
    name: &'static str,
    sizes: [usize; 4],
    turned: [bool; 2],
}

const PRODUCTS: [Product; 6] = [
    Product { name: "square 4096", sizes: [1, 4096, 4096, 4096], turned: [false, false] },
    Product { name: "up", sizes: [1, 8192, 512, 2048], turned: [false, false] },
    Product { name: "d_x of up", sizes: [1, 8192, 2048, 512], turned: [false, true] },
    Product { name: "d_weight of up", sizes: [4, 512, 2048, 2048], turned: [true, false] },
    Product { name: "scores", sizes: [128, 512, 64, 512], turned: [false, true] },
    Product { name: "d_k", sizes: [128, 512, 512, 64], turned: [true, false] },
];

fn routines() -> Vec<(&'static str, Strategy)> {
    // Each routine has a type of its own, so the arguments are made anew for each.
    macro_rules! simple {
        ($rows:expr) => {
            Inferred(SimpleArgs { multi_rows: $rows, ..Default::default() })
        };
    }
    macro_rules! double {
        ($specialized:expr) => {
            Inferred(DoubleBufferingArgs { specialized: $specialized, ..Default::default() })
        };
    }
    macro_rules! ordered {
        () => {
            Inferred(OrderedSelectionArgs {
                partition_k: Some(2),
                row_count: Some(8),
                rows_per_plane: Some(2),
                ..Default::default()
            })
        };
    }
    let tile_size = TileSizeSelection::MaxTileSize;
    vec![
        ("cyclic cmma", Strategy::SimpleCyclicCmma(simple!(false))),
        ("double mma", Strategy::DoubleCyclicMma(double!(false))),
        ("ordered mma", Strategy::OrderedDoubleMma(ordered!())),
        ("special tma mma", Strategy::SpecializedTmaMma(Default::default())),
        ("cyclic mma rows", Strategy::SimpleCyclicMma(simple!(true))),
        ("double tma mma", Strategy::DoubleTmaMma(double!(false))),
        ("cyclic cmma rows", Strategy::SimpleCyclicCmma(simple!(true))),
        ("double cmma", Strategy::DoubleCyclicCmma(double!(false))),
        ("ordered cmma", Strategy::OrderedDoubleCmma(ordered!())),
        ("special mma", Strategy::SpecializedCyclicMma(Default::default())),
        ("double mma spec", Strategy::DoubleCyclicMma(double!(true))),
        ("async mma", Strategy::DoubleAsyncCyclicMma(double!(false))),
        ("tma mma rows", Strategy::SimpleTmaMma(simple!(true))),
        ("special tma cmma", Strategy::SpecializedTmaCmma(Default::default())),
        ("unit", Strategy::SimpleUnit(Inferred(SimpleUnitSelectionArgs { tile_size }))),
        ("double unit", Strategy::DoubleUnit(Inferred(DoubleUnitSelectionArgs { tile_size }))),
    ]
}

fn matrices(sizes: [usize; 3], turned: bool, dtype: DType) -> Array {
    let [batch, rows, columns] = sizes;
    let lies = if turned { [batch, columns, rows] } else { sizes };
    let device = Default::default();
    let client = Cuda::client(&device);
    let data = numbers(7, batch * rows * columns);
    let handle = client.create_from_slice(f32::as_bytes(&data));
    let array = CubeTensor::new_contiguous(client, device, lies.into(), handle, DType::F32);
    let mut array = if dtype == DType::F32 { array } else { cast(array, dtype) };
    if turned {
        array.meta.swap(1, 2);
    }
    array
}

/// One launch; `Err` says why there is none.
fn launch(routine: &Strategy, lhs: &Array, rhs: &Array, out: &Array) -> Result<(), String> {
    let mut elems = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: lhs.dtype.into(),
        rhs: rhs.dtype.into(),
        out: out.dtype.into(),
    });
    let (lhs_type, rhs_type) = (lhs.dtype.into(), rhs.dtype.into());
    let launched = catch_unwind(AssertUnwindSafe(|| {
        launch_ref(
            routine,
            &out.client,
            InputBinding::new(lhs.clone().binding(), lhs_type),
            InputBinding::new(rhs.clone().binding(), rhs_type),
            out.clone().binding(),
            &mut elems,
        )
    }));
    launched.map_err(|_panic| "panics".to_owned())?.map_err(|refused| format!("{refused:?}"))
}

fn wait(out: &Array) -> Result<(), String> {
    futures_lite::future::block_on(out.client.sync()).map_err(|error| format!("{error:?}"))
}

/// Floating-point operations in a second, and the sum of the result's first row.
fn rate(routine: &Strategy, product: &Product, dtype: DType) -> Result<(f64, f64), String> {
    const N: u32 = 20;
    let [batch, m, k, n] = product.sizes;
    let lhs = matrices([batch, m, k], product.turned[0], dtype);
    let rhs = matrices([batch, k, n], product.turned[1], dtype);
    let out = matrices([batch, m, n], false, DType::F32);
    for _ in 0..2 {
        launch(routine, &lhs, &rhs, &out)?;
    }
    wait(&out)?;
    let begin = Instant::now();
    for _ in 0..N {
        launch(routine, &lhs, &rhs, &out)?;
    }
    wait(&out)?;
    let secs = begin.elapsed().as_secs_f64() / f64::from(N);
    let bytes = out.client.read_one(out.handle.clone()).map_err(|error| format!("{error:?}"))?;
    let first: f64 = f32::from_bytes(&bytes)[..n].iter().map(|&x| f64::from(x)).sum();
    Ok((2.0 * (batch * m * k * n) as f64 / secs, first))
}

fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|begin| name.starts_with(begin));
    let precisions = [("f32", DType::F32), ("bf16", DType::BF16)];
    std::panic::set_hook(Box::new(|_info| {}));
    for (precision, dtype) in precisions {
        for (name, routine) in routines() {
            if !wanted(&format!("{precision} {name}")) {
                continue;
            }
            let begin = Instant::now();
            let mut line = format!("{precision:<5}{name:<19}");
            for product in &PRODUCTS {
                line += &match rate(&routine, product, dtype) {
                    Ok((rate, sum)) => format!(" {:>6.1} ({sum:+.3})", rate / 1e12),
                    Err(why) => format!(" {:.12}", why.replace(['\n', ' '], "")),
                };
            }
            println!("{line}  {:.1} s", begin.elapsed().as_secs_f64());
        }
    }
    let names: Vec<&str> = PRODUCTS.iter().map(|product| product.name).collect();
    println!("TFLOP/s (and the sum of a row) of {}", names.join(", "));
}
