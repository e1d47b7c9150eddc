//! `synod-sim`: the command line of the simulator.

use std::process::ExitCode;

fn main() -> ExitCode {
    synod_sim::commands::main()
}
