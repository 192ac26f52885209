//! The product in CUDA C++ without a GPU: `emulate.cpp` runs its threads on the processor.
//!
//! It compiles sixteen programs in C++, so `cargo test` leaves it out: `cargo test --test gemm`.

use std::path::Path;
use std::process::Command;

use rayon::prelude::*;

/// What stands in front of the kernel, as `src/gpu/cuda/gemm.rs` writes it.
struct Form {
    a_along_k: u8,
    b_along_k: u8,
    n_columns: u8,
    biased: u8,
    rounded: u8,
}

fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for a_along_k in [0, 1] {
        for b_along_k in [0, 1] {
            for n_columns in [64, 128] {
                for (biased, rounded) in [(0, 0), (1, 1)] {
                    forms.push(Form { a_along_k, b_along_k, n_columns, biased, rounded });
                }
            }
        }
    }
    forms
}

#[test]
fn every_form_multiplies_as_it_should() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let [source, kernel] =
        ["tests/gemm/emulate.cpp", "src/gpu/cuda/gemm.cu"].map(|it| here.join(it));
    let folder = tempfile::tempdir().unwrap();
    forms().into_par_iter().enumerate().for_each(|(number, form)| {
        let Form { a_along_k, b_along_k, n_columns, biased, rounded } = form;
        let program = folder.path().join(format!("emulate-{number}"));
        let defined = [
            format!("A_ALONG_K={a_along_k}"),
            format!("B_ALONG_K={b_along_k}"),
            format!("BN={n_columns}"),
            format!("BIASED={biased}"),
            format!("ROUNDED={rounded}"),
            format!("GEMM={:?}", kernel.display().to_string()),
        ];
        let mut compiler = Command::new("c++");
        compiler.args(["-std=c++17", "-O1", "-w", "-o"]).arg(&program).arg(&source);
        compiler.args(defined.iter().map(|it| format!("-D{it}")));
        let compiled = compiler.output().expect("a C++ compiler; Debian's g++ is one");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let run = Command::new(&program).output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{}: {said}", defined[..5].join(" "));
    });
}
