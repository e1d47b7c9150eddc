//! The command line of `synod`: the server, and a client that speaks to it as any other would.
//!
//! Must never know: anything of a node that its protocol does not tell.

mod client;
mod commands;
mod follow;
mod hold;
mod join;
mod options;
mod rows;
mod show;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use self::client::Failure;
use self::options::{
    AddReplicaOptions, ClientOptions, CreateOptions, DropOptions, EventsOptions, FenceOptions,
    GetOptions, HandOverOptions, KeysOptions, MergeOptions, OutcomeOptions, PutOptions,
    ReconnectOptions, RemoveOptions, ReplicaOptions, ResolveOptions, RowsOptions, SessionOptions,
    TableOptions, WatchOptions,
};
use crate::server::{Given, NodeChoice, Settings, SettingsError, run};

const EXIT: &str = "\
Exit status: 0 done; 1 definitely not (no such key, something else is there, a node is not ready);
2 nothing was asked (bad arguments, no server); 3 refused, without effect; 4 it may have taken
effect, may still, or may never.";

/// A consensus key-value store without a leader.
#[derive(Debug, Parser)]
#[command(
    name = "synod", version, arg_required_else_help = true, propagate_version = true,
    args_override_self = true,
    after_help = format!("\
Examples:
  synod node 1                         in three terminals, with 1, 2 and 3: a cluster
  synod put greeting hello             then, in a fourth
  synod get greeting
  synod status
  redis-cli -p 4101 GET greeting       any client of Redis talks to any node

{EXIT}")
)]
struct Arguments {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// Run a node: `synod node 1`, `synod node 2`, `synod node 3` in three terminals
    #[command(after_help = "\
Examples:
  synod node 1                              one of three on this machine; 2 and 3 likewise
  synod node _                              the first that is not running yet
  synod node 0                              a cluster of one
  synod node 1 --memory                     nothing is written to disk
  synod node 1 --peers 1=10.0.0.1:4201,2=10.0.0.2:4201,3=10.0.0.3:4201
                                            one of three machines; the others:
  synod node 2 --join 10.0.0.1:4101,10.0.0.3:4101
                                            ask a node that runs who belongs to the cluster
  synod node 1 --config synod.toml          see docs/RUNNING.md for what a file can say")]
    Node {
        /// Its number, or _ for the first that is free
        #[arg(value_name = "NUMBER|_")]
        node: NodeChoice,
        #[command(flatten)]
        given: Box<Given>,
    },
    /// Read a value
    #[command(after_help = "\
Examples:
  synod get greeting
  synod get greeting --entry           with its generation, version and bindings
  synod get config --table settings --local > config.txt
  synod get ann --table accounts --local --seen 17     not from before that place
Of a primary table, what its primary has committed is read, as any write that is acknowledged; with
--local, what the node's replica knows to be.
The value is written as it is; on a terminal, what would control the terminal is escaped.")]
    Get(GetOptions),
    /// Write a value, and what the key's life depends on
    #[command(after_help = "\
Examples:
  synod put greeting hello
  synod put photo - < photo.jpg        the value from standard input
  synod put leader me --if-absent --session s1.1.1
  synod put greeting bye --if hello    only if `hello` is there
  synod put token x --for 30s          gone half a minute later
Not knowing whether it was done, it asks again under the same name: it takes effect once at most.
To a primary table it is passed on to the primary, whoever that is.")]
    Put(PutOptions),
    /// Remove a key
    #[command(
        alias = "rm",
        after_help = "\
Examples:
  synod remove greeting
  synod remove leader --generation 1:3.1.1     only that life of it
  synod remove ann --value red --table tags    of a bag that element"
    )]
    Remove(RemoveOptions),
    /// Decide whatever is still in flight about a key, and read it
    #[command(after_help = "\
Example:
  synod put k v || synod fence k       after exit status 4: what is told now stays")]
    Fence(FenceOptions),
    /// Find out what became of a write to a primary table; if nothing has, see to it that nothing
    /// will
    #[command(after_help = "\
Example:
  synod outcome 77 1 --seen 17 --table accounts
`put` and `remove` say this line when they end with status 4. Of a write that was done it shows
where, as they would have; the exit status is 1 if it was not, and never will be.")]
    Outcome(OutcomeOptions),
    /// List keys, in order
    #[command(after_help = "\
Examples:
  synod keys
  synod keys --after k --limit 100
  synod keys --json | jq -r .          one JSON string a line")]
    Keys(KeysOptions),
    /// Tell whether a key is present, and of each end of its life: removed, or erased because a
    /// binding ended
    #[command(after_help = "\
Examples:
  synod watch leader                   until interrupted
  until synod put leader me --if-absent; do synod watch leader --count 1; done
With --count 1 it waits until the key is gone, and not at all if it is not there: `absent` counts as
an end. If its node is lost, it goes on with another one; an end that nobody was left to tell of is
told as `unseen`.")]
    Watch(WatchOptions),
    /// List values of a merged table that were written without knowing of each other
    #[command(after_help = "\
Examples:
  synod conflicts --table carts        a line for each: its key, then its values, the latest first
  synod resolve ann --table carts      more of one, and `synod resolve --help`: how to end it
The exit status is 0 if there are none, 1 if there are.")]
    Conflicts(TableOptions),
    /// End a conflict in a merged table, on all nodes; or show it
    #[command(after_help = "\
Examples:
  synod resolve ann --table carts                      shows each value and its write
  synod resolve ann --table carts --keep 1.5c0e.0.7    keeps the value of that write
  synod resolve ann --table carts --value tea+milk     puts another instead
  synod resolve ann --table carts --remove
  synod resolve ann --table carts --remove --of 1.5c0e.0.7,2.91ab.0.4
It shows what the key shows, and ends that alone: a value that comes in between stays, nothing is
done, and the exit status is 1. With --of it is what you have seen before that has to be there.")]
    Resolve(ResolveOptions),
    /// List rows of a merged table, in order of keys
    #[command(after_help = "\
Examples:
  synod rows --table tags              a line for each: its key, then its value, or all in conflict
  synod rows --table tags --prefix a --value red
  synod rows --table tags --json       with writes, and when they were")]
    Rows(RowsOptions),
    /// Tell how a node's copy of a merged table stands with the others, and of its latest merges
    Merged(TableOptions),
    /// Merge copies of a merged table that were left apart, since it is `manual`
    Merge(MergeOptions),
    /// Tell who is primary of a table, who counts, and how far others are behind, as the primary
    /// sees it; it is found among the servers
    #[command(after_help = "\
Examples:
  synod primary --table accounts
  synod primary --table accounts --json | jq .replicas
  synod primary --table accounts --server db2:4101     what that node knows
If none of the servers is the primary, it says so, and what one of them knows.")]
    Primary(TableOptions),
    /// Have the primary of a table hand over to another replica; it is found among the servers
    #[command(after_help = "\
Examples:
  synod hand-over --table accounts
  synod hand-over --to 3 --table accounts")]
    HandOver(HandOverOptions),
    /// Make a node the primary of a table although it did not count: for when all that did have
    /// lost their disks, and with what only they had
    #[command(after_help = "\
Example:
  synod force 3 --table accounts       node 3 is primary; what it has not is lost
It is refused until all that counted are known to be gone. One that is only cut off seems to be,
too: stop it first, or it may go on telling clients on its side that their writes are done.")]
    Force(ReplicaOptions),
    /// Have a node's replica of a primary table join, if it is none
    #[command(after_help = "\
Example:
  synod join 3 --table accounts")]
    Join(ReplicaOptions),
    /// Have a node's replica of a primary table leave, until it is told to join
    #[command(after_help = "\
Example:
  synod leave 3 --table accounts       writes wait for node 3 no more")]
    Leave(ReplicaOptions),
    /// Tell of quorums reached and lost, and of the node's readiness; or of merges
    Events(EventsOptions),
    /// Ask every node how it is
    #[command(after_help = "\
Examples:
  synod status
  synod status --server db1:4101,db2:4101,db3:4101
  until synod status >/dev/null; do sleep 1; done
The exit status is 0 if all nodes asked are ready and hear a quorum.")]
    Status(ClientOptions),
    /// List the tables
    Tables(ClientOptions),
    /// Make a merged or a primary table while the nodes run; others are declared: --tables of
    /// `synod node`
    #[command(after_help = "\
Examples:
  synod create carts
  synod create tags bag+memory         see docs/MERGED.md for the words
  synod create prices last-modified+on@1.2
  synod create accounts primary        a primary table; see docs/PRIMARY.md for the words
  synod create orders primary+quorum+on@1.2.3
A merged table is there on the node asked when this returns, and on the others as soon as they hear
of it. A primary table is made if a quorum agrees; every node that is asked for it has it then.")]
    Create(CreateOptions),
    /// Have a node keep a copy of a merged table that was made while the nodes ran
    AddReplica(AddReplicaOptions),
    /// Drop a table that was made while the nodes ran, with all that it holds anywhere
    Drop(DropOptions),
    /// Have a node dial its peers now, or one of them, where it has no link
    #[command(after_help = "\
Examples:
  synod reconnect
  synod reconnect 3 --server db1:4101  node 1 dials node 3")]
    Reconnect(ReconnectOptions),
    /// Hold a session that keys can be bound to, while a command runs or until interrupted
    #[command(after_help = "\
Example:
  synod session -- sh -c 'synod put leader me --if-absent --session $SYNOD_SESSION && serve'
The exit status is that of the command. SIGTERM, SIGINT and SIGHUP are passed on to it; when it has
ended, or the session is lost, whatever it has started is told to end, and killed 5 s later.")]
    Session(SessionOptions),
    /// Write a script that completes this command line in a shell
    #[command(after_help = "\
Example:
  synod completions bash > /etc/bash_completion.d/synod")]
    Completions {
        /// Which
        shell: Shell,
    },
}

/// How a command ended, short of having failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    /// It is not so: an answer, and not the one hoped for.
    Not,
    /// What the command that was run said.
    Status(u8),
}

/// Why a command failed.
#[derive(Debug)]
enum Trouble {
    Failed(Failure),
    /// What was given makes no sense.
    Given(String),
    /// Standard output or input.
    Stream(std::io::Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<SettingsError> for Trouble {
    fn from(error: SettingsError) -> Self {
        Self::Given(error.to_string())
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Stream(error)
    }
}

/// Parses the arguments of this process, and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    let matches = Arguments::command().try_get_matches();
    let matches = matches.unwrap_or_else(|error| blame(error).exit());
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let verdict = match arguments.command {
        Commands::Node { node, mut given } => {
            let settings = match settle(node, &mut given, &matches) {
                Ok(settings) => settings,
                Err(trouble) => {
                    fail(&trouble);
                    return ExitCode::from(2);
                }
            };
            return match run(node, &settings) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    show::complain(error);
                    ExitCode::from(2)
                }
            };
        }
        Commands::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "synod",
                &mut std::io::stdout(),
            );
            return ExitCode::SUCCESS;
        }
        Commands::Get(options) => commands::get(&options),
        Commands::Put(options) => commands::put(&options),
        Commands::Remove(options) => commands::remove(&options),
        Commands::Fence(options) => commands::fence(&options),
        Commands::Outcome(options) => commands::outcome(&options),
        Commands::Keys(options) => commands::keys(&options),
        Commands::Watch(options) => follow::watch(&options),
        Commands::Conflicts(options) => rows::conflicts(&options),
        Commands::Resolve(options) => rows::resolve(&options),
        Commands::Rows(options) => rows::rows(&options),
        Commands::Merged(options) => commands::merged(&options),
        Commands::Merge(options) => commands::merge(&options),
        Commands::Primary(options) => commands::primary(&options),
        Commands::HandOver(options) => commands::hand_over(&options),
        Commands::Force(options) => commands::at_replica("SYNOD.FORCE", "primary", &options),
        Commands::Join(options) => commands::at_replica("SYNOD.JOIN", "joins", &options),
        Commands::Leave(options) => commands::at_replica("SYNOD.LEAVE", "leaves", &options),
        Commands::Events(options) => follow::events(&options),
        Commands::Status(options) => commands::status(&options),
        Commands::Tables(options) => commands::tables(&options),
        Commands::Create(options) => commands::create(&options),
        Commands::AddReplica(options) => commands::add_replica(&options),
        Commands::Drop(options) => commands::drop_table(&options),
        Commands::Reconnect(options) => commands::reconnect(&options),
        Commands::Session(options) => hold::session(&options),
    };
    match verdict {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::Not) => ExitCode::from(1),
        Ok(Verdict::Status(status)) => ExitCode::from(status),
        // Whoever read the output has read enough.
        Err(Trouble::Stream(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(trouble) => fail(&trouble),
    }
}

/// What a node is to be, of all that was said and what its cluster says.
fn settle(node: NodeChoice, given: &mut Given, matches: &ArgMatches) -> Result<Settings, Trouble> {
    if let Some(matches) = matches.subcommand_matches("node") {
        given.settle(matches)?;
    }
    let learnt = join::ask(node, given)?;
    let settings = Settings::new(node, given)?;
    // What makes no sense here must not stand when nobody can be asked.
    if let Some(learnt) = learnt {
        learnt.keep();
    }
    Ok(settings)
}

/// Names the variable of the environment that a wrong value comes from: the parser blames the flag.
fn blame(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return error };
    let Some(flag) = flag.split([' ', '=']).next().map(str::to_owned) else { return error };
    let words: Vec<String> = std::env::args().collect();
    let said = |flag: &str| words.iter().any(|word| word.split('=').next() == Some(flag));
    let command = Arguments::command();
    let mut all = command.get_subcommands().flat_map(Command::get_arguments);
    let variable = all.find_map(|argument| {
        let is_it = argument.get_long().is_some_and(|long| flag == format!("--{long}"));
        let short = argument.get_short().map(|short| format!("-{short}"));
        let is_said = said(&flag)
            || short.is_some_and(|short| words.iter().any(|word| word.starts_with(&short)));
        argument.get_env().filter(|_| is_it && !is_said)
    });
    if let Some(variable) = variable.filter(|variable| std::env::var_os(variable).is_some()) {
        let tip = format!("the environment says so, in {}", variable.display());
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn fail(trouble: &Trouble) -> ExitCode {
    match trouble {
        Trouble::Failed(failure) => {
            show::complain(failure);
            ExitCode::from(match failure {
                Failure::Silent(_) | Failure::Unreachable(_) => 2,
                Failure::Lost(_) | Failure::Refused { .. } => 3,
                Failure::Unknown(_) => 4,
            })
        }
        Trouble::Given(why) => {
            show::complain(why);
            ExitCode::from(2)
        }
        Trouble::Stream(error) => {
            show::complain(error);
            ExitCode::from(2)
        }
    }
}
