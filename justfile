# The usual verbs. Each is a line of cargo; `just` is a convenience and nothing needs it.

# The list of verbs.
default:
    @just --list

# Formatting, lints, and the rules of the house.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test -p xtask

# Everything that must hold.
test:
    cargo test

# Accept changed snapshots; read the difference afterwards.
bless:
    INSTA_UPDATE=always cargo test
    git diff --stat

# The documentation of the code, with warnings denied.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Every bench, in release: rates of this machine.
bench:
    cargo bench

# Train and measure all plans of a study.
study file:
    cargo run --release -- run {{file}}

# A sweep on a real Slurm of two nodes on this machine; says so where Slurm is not installed.
slurm:
    cargo test --test checks -- slurm

# A run killed at 200 random moments, and every file of a record damaged.
crashes:
    cargo test --test checks -- kills damage

# What is written for TensorBoard, Trackio and Weights & Biases, read by themselves; needs Python and a network.
trackers:
    cargo test --test checks -- trackers

# What a person does with the dashboard, done by Chromium; needs chromium, nodejs, npm and a network.
browser:
    cargo test --release --test checks -- browser

# A thousand short runs: what each costs beside its work; and an index of a hundred thousand.
scale:
    cargo test --release --test checks -- thousand
    cargo bench --bench scale

# Every operation and a small study on every GPU that is found; Mesa's software Vulkan is one.
gpu feature="wgpu":
    cargo test --release -p mnemoscope-engine -p mnemoscope-lab --features mnemoscope-engine/{{feature}},mnemoscope-lab/{{feature}} --test devices

# The product in CUDA C++, its threads emulated by a program in C++; needs a compiler for it.
gemm:
    cargo test --test gemm

# Licences and advisories of the dependencies; needs cargo-deny.
deny:
    cargo deny check

# What decides about a merge.
ci:
    .ci/run
