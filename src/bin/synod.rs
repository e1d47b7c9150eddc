//! The server and its client, on the command line.

/// A node allocates in small pieces on two threads for as long as it runs: `docs/DECISIONS.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    synod::cli::main()
}
