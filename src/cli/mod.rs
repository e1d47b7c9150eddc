//! The command line of `synod`: the server, and a client that speaks to it as any other would.
//!
//! Must never know: anything of a node that its protocol does not tell.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::server::{Given, NodeChoice, run};

/// A consensus key-value store without a leader.
#[derive(Debug, Parser)]
#[command(name = "synod", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// Run a node: `synod node 1`, `synod node 2`, `synod node 3` in three terminals
    Node {
        /// Its number, or _ for the first that is free
        #[arg(value_name = "NUMBER|_")]
        node: NodeChoice,
        #[command(flatten)]
        given: Given,
    },
}

/// Parses the arguments of this process, and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Commands::Node { node, given } => match run(node, &given) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("synod: {error}");
                ExitCode::from(2)
            }
        },
    }
}
