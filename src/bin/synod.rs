//! The server and its client, on the command line.

fn main() -> std::process::ExitCode {
    synod::cli::main()
}
