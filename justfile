# An index of what is done often; `just --list`.

# Every check, as CI runs them
ci:
    .ci/run

# Licences, versions and unused dependencies: what needs more tools than Rust
extra:
    .ci/extra

# The program as it is handed out: slower to build, some faster to run
dist:
    cargo build --profile dist --locked

# Every reader on hostile bytes for a minute, or: just fuzz 600 pt
fuzz *ARGS:
    .ci/fuzz {{ARGS}}

test:
    cargo test

lint:
    cargo fmt --all --check
    cargo clippy --all-targets --locked -- -D warnings

# Refresh the committed API description
openapi:
    cargo run -- openapi > openapi/moe-gps.v1.json
    cargo run -- openapi --operations > openapi/operations.txt

# Refresh the models of the Python client; needs datamodel-code-generator==0.89.0
client:
    python3 clients/python/generate.py

# Refresh the measured errors in the documentation
accuracy:
    cargo run --release -- validate measurements --markdown docs/accuracy.md

# Draw the paper's figures anew into docs/reproduction.md.
reproduction:
    cargo run --release -- reproduce --out docs --traces examples/traces --points examples/predictors.json

# Compute anew what to switch on, into docs/guidelines.md.
guidelines:
    cargo run --release -- guidelines --out docs --recordings ../shared/data/routing

bench *ARGS:
    cargo bench {{ARGS}}

demo:
    cargo run --release -- serve --demo
