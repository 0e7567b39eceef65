# The daily commands; `just` alone lists them.

_default:
    @just --list

# Serve a directory
serve directory=".":
    cargo run --release -- serve {{directory}}

# Check and lint everything that was changed
check:
    cargo fmt --all
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Run every test
test:
    cargo test --workspace --locked

# Run the measures of the tree: layers, circles, lengths, documents
tidy:
    cargo test --locked --test tidy

# Run the event loop on the simulated kernel
simulate:
    cargo test --locked --lib server::simulation

# Run Forebay beside the other servers that are installed
bench:
    cargo run --release -p bench -- run --quick

# Everything that must hold before a change lands
ci:
    .ci/run

# Build the documentation as a site
book:
    mdbook build docs

# Run every command that the documents show
documents:
    cargo test --locked -p loadgen --test documents

# Look at every page in a browser, and make the documents' pictures again
pages:
    cargo build --locked -p forebay -p loadgen
    .ci/pages "$PWD/target/debug/forebay" "$PWD/target/debug/loadgen" --pictures docs/pictures
