//! See the library: it is what `cargo bench --bench compare` starts.

fn main() -> std::process::ExitCode {
    mnemoscope_bench::main()
}
