//! See the library: it is what `cargo bench -p mnemoscope-bench` starts.

fn main() -> std::process::ExitCode {
    mnemoscope_bench::main()
}
