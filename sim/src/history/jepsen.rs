//! The logs of Jepsen runs against one register: `read`, `write v`, `cas [old new]`.
//!
//! It must never guess: a completion without an open invocation is an error, except `:info`, which
//! may carry a process number of its own and then says nothing about any operation.

use std::io::BufRead;

use super::{Action, BadInput, Binds, History, Model, NEVER, Operation, Outcome, Seen, Value};

fn value(word: &str) -> Result<Option<Value>, String> {
    if word == "nil" {
        return Ok(None);
    }
    word.parse().map(Some).map_err(|_| format!("\"{word}\" is not a number or nil"))
}

fn action(name: &str, argument: &str) -> Result<Action, String> {
    let some = |word: &str| value(word)?.ok_or_else(|| "nil cannot be written".to_owned());
    match name {
        ":read" => Ok(Action::Get),
        ":write" => Ok(Action::Put { value: some(argument)? }),
        ":cas" => {
            let inner = argument.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let (old, new) = inner
                .and_then(|pair| pair.split_once(' '))
                .ok_or_else(|| format!("\"{argument}\" is not [old new]"))?;
            Ok(Action::CompareAndSet { expect: value(old)?, value: some(new)? })
        }
        _ => Err(format!("unknown operation \"{name}\"")),
    }
}

struct Open {
    process: i64,
    op: Operation,
}

#[derive(Default)]
struct Log {
    history: History,
    open: Vec<Open>,
}

impl Log {
    /// Takes what a process has open.
    fn close(&mut self, found: Option<usize>, process: i64) -> Result<Operation, String> {
        let index = found.ok_or_else(|| format!("process {process} has nothing open"))?;
        Ok(self.open.swap_remove(index).op)
    }

    fn line(&mut self, text: &str, time: u64) -> Result<(), String> {
        let Some((_, rest)) = text.split_once("jepsen.util - ") else {
            // Jepsen's own remarks between the operations.
            return Ok(());
        };
        let mut words = rest.split('\t');
        let process = words.next().unwrap_or_default();
        let Ok(process) = process.trim().parse::<i64>() else {
            // The nemesis, not a client.
            return Ok(());
        };
        let (Some(kind), Some(name), Some(argument)) = (words.next(), words.next(), words.next())
        else {
            return Err(format!("process {process} does what? it should be: kind, name, value"));
        };
        let argument = argument.trim();
        let found = self.open.iter().position(|open| open.process == process);
        match kind.trim() {
            ":invoke" => {
                if found.is_some() {
                    return Err(format!("process {process} invokes with an operation open"));
                }
                let op = Operation {
                    id: time,
                    client: i32::try_from(process).unwrap_or(-1),
                    key: 0,
                    binds: Binds::NONE,
                    call: time,
                    ret: NEVER,
                    action: action(name.trim(), argument)?,
                    outcome: Outcome::Unknown,
                };
                self.open.push(Open { process, op });
                Ok(())
            }
            ":ok" => {
                let mut op = self.close(found, process)?;
                op.ret = time;
                op.outcome = match op.action {
                    Action::Get => Outcome::Read(value(argument)?),
                    Action::Append { .. }
                    | Action::CompareAndSet { .. }
                    | Action::Exists
                    | Action::Put { .. }
                    | Action::PutIfAbsent { .. }
                    | Action::Remove => Outcome::Done(Seen::Nothing),
                };
                self.history.ops.push(op);
                Ok(())
            }
            ":fail" => {
                let mut op = self.close(found, process)?;
                // A failed compare-and-set saw a mismatch; other failures tell nothing.
                if matches!(op.action, Action::CompareAndSet { .. }) {
                    op.ret = time;
                    op.outcome = Outcome::Refused(Seen::Nothing);
                    self.history.ops.push(op);
                }
                Ok(())
            }
            ":info" => {
                if let Some(index) = found {
                    self.history.ops.push(self.open.swap_remove(index).op);
                }
                Ok(())
            }
            other => Err(format!("unknown event \"{other}\"")),
        }
    }
}

/// Reads one log.
///
/// # Errors
/// The place of the first line that could not be understood.
pub fn read(
    mut input: impl BufRead,
    file: &str,
    model: Option<Model>,
) -> Result<History, BadInput> {
    let mut log = Log { history: History::new(model.unwrap_or(Model::Kv)), open: Vec::new() };
    let mut number = 0;
    let mut line = String::new();
    loop {
        number += 1;
        let bad = |what| BadInput { file: file.to_owned(), line: number, what };
        line.clear();
        let read = input.read_line(&mut line);
        if read.map_err(|error| bad(format!("cannot be read: {error}")))? == 0 {
            break;
        }
        // Part of a number is a number.
        let whole = line.strip_suffix('\n').ok_or("the line does not end; is the file cut off?");
        log.line(whole.map_err(|what| bad(what.to_owned()))?, number).map_err(bad)?;
    }
    log.open.sort_by_key(|open| open.op.call);
    log.history.ops.extend(log.open.into_iter().map(|open| open.op));
    log.history.ops.sort_by_key(|op| op.call);
    log.history.name_key(0, "the register");
    Ok(log.history)
}
