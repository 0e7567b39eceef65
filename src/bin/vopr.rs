//! `forebay-vopr`: runs whole servers in a simulated machine, from seeds, and makes what fails small. See
//! docs/testing.md.

fn main() -> std::process::ExitCode {
    forebay::server::data::vopr::program::main()
}
