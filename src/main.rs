//! The program: see `moe_gps::cli` for what it can be told.

fn main() -> std::process::ExitCode {
    moe_gps::cli::main()
}
