//! Porcupine's key-value logs: one EDN map a line, with `get`, `put` and `append` on strings.
//!
//! Only the subset of EDN these files use is understood: flat maps of keywords to numbers,
//! keywords, strings without escapes, and `nil`.

use std::collections::HashMap;
use std::io::BufRead;

use super::{Action, BadInput, Binds, History, Key, Model, NEVER, Operation, Outcome, Seen};

fn fields(line: &str) -> Result<HashMap<&str, &str>, String> {
    let inner = line
        .trim()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .ok_or("expected one {...} map on the line")?;
    let mut map = HashMap::new();
    let mut rest = inner.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once(' ').ok_or("a field has no value")?;
        let after = after.trim_start();
        let end = if let Some(text) = after.strip_prefix('"') {
            text.find('"').ok_or("a string is not closed")? + 2
        } else {
            after.find(',').unwrap_or(after.len())
        };
        map.insert(name, after[..end].trim_end());
        rest = after[end..].trim_start_matches([',', ' ']);
    }
    Ok(map)
}

fn text<'a>(map: &HashMap<&str, &'a str>, name: &str) -> Result<&'a str, String> {
    let raw = map.get(name).ok_or_else(|| format!("field {name} is missing"))?;
    raw.strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or_else(|| format!("field {name} must be a string"))
}

#[derive(Default)]
struct Log {
    history: History,
    keys: HashMap<String, Key>,
    open: Vec<(i64, Operation)>,
}

impl Log {
    fn line(&mut self, line: &str, time: u64) -> Result<(), String> {
        let map = fields(line)?;
        let process: i64 = map
            .get(":process")
            .and_then(|word| word.parse().ok())
            .ok_or("field :process must be a number")?;
        let found = self.open.iter().position(|(open, _)| *open == process);
        match map.get(":type").copied() {
            Some(":invoke") => {
                if found.is_some() {
                    return Err(format!("process {process} invokes with an operation open"));
                }
                let name = text(&map, ":key")?;
                let next = Key::try_from(self.keys.len()).map_err(|_| "too many keys")?;
                let key = *self.keys.entry(name.to_owned()).or_insert(next);
                if key == next {
                    self.history.name_key(key, name);
                }
                let action = match map.get(":f").copied() {
                    Some(":get") => Action::Get,
                    Some(":put") => {
                        Action::Put { value: self.history.intern_append(text(&map, ":value")?) }
                    }
                    Some(":append") => {
                        Action::Append { value: self.history.intern_append(text(&map, ":value")?) }
                    }
                    _ => return Err("field :f must be :get, :put or :append".to_owned()),
                };
                let op = Operation {
                    id: time,
                    client: i32::try_from(process).unwrap_or(-1),
                    key,
                    binds: Binds::NONE,
                    call: time,
                    ret: NEVER,
                    action,
                    outcome: Outcome::Unknown,
                };
                self.open.push((process, op));
                Ok(())
            }
            Some(":ok") => {
                let index = found.ok_or_else(|| format!("process {process} has nothing open"))?;
                let mut op = self.open.swap_remove(index).1;
                op.ret = time;
                op.outcome = if op.action == Action::Get {
                    let value = self.history.intern_append(text(&map, ":value")?);
                    Outcome::Read(Some(value))
                } else {
                    Outcome::Done(Seen::Nothing)
                };
                self.history.ops.push(op);
                Ok(())
            }
            Some(":fail") => {
                let index = found.ok_or_else(|| format!("process {process} has nothing open"))?;
                self.open.swap_remove(index);
                Ok(())
            }
            Some(":info") => {
                if let Some(index) = found {
                    self.history.ops.push(self.open.swap_remove(index).1);
                }
                Ok(())
            }
            _ => Err("field :type must be :invoke, :ok, :fail or :info".to_owned()),
        }
    }
}

/// Reads one log.
///
/// # Errors
/// The place of the first line that could not be understood.
pub fn read(input: impl BufRead, file: &str, model: Option<Model>) -> Result<History, BadInput> {
    let mut log = Log { history: History::new(model.unwrap_or(Model::KvAppend)), ..Log::default() };
    let mut number = 0;
    for line in input.lines() {
        number += 1;
        let bad = |what| BadInput { file: file.to_owned(), line: number, what };
        let line = line.map_err(|error| bad(format!("cannot be read: {error}")))?;
        if !line.trim().is_empty() {
            log.line(&line, number).map_err(bad)?;
        }
    }
    log.history.ops.extend(log.open.into_iter().map(|(_, op)| op));
    log.history.ops.sort_by_key(|op| op.call);
    Ok(log.history)
}
