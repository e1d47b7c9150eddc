//! Our own JSON lines: a header line with `"h":1`, then one operation or mark a line.
//!
//! The parser is written by hand, over bytes, because a million lines must be read in the time the
//! checker needs to judge them. It knows the fields and nothing of what is legal. The format is
//! described in `docs/CHECKER.md`.

use std::borrow::Cow;
use std::io::{self, BufRead, Write};

use super::{
    Action, BadInput, Binding, Binds, History, Mark, MarkKind, Model, NEVER, Operation, Outcome,
    STRING_BASE, Seen, Time, Value,
};

/// A token of a line.
#[derive(Clone, Debug, PartialEq)]
enum Token<'a> {
    Bool(bool),
    Int(i64),
    List(Vec<Self>),
    Null,
    Object(Vec<(Cow<'a, str>, Self)>),
    Real,
    Text(Cow<'a, str>),
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Parsed<T> = Result<T, String>;

/// Deeper nesting than any line of ours; a bound, so that hostile input cannot exhaust the stack.
const DEPTH_MAX: u32 = 16;

impl<'a> Cursor<'a> {
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.bytes.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Parsed<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(format!("expected '{}' at column {}", byte as char, self.at + 1))
        }
    }

    fn text(&mut self) -> Parsed<Cow<'a, str>> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    let raw = &self.bytes[start..self.at];
                    self.at += 1;
                    let bad = || format!("bad string at column {start}");
                    if escaped {
                        let quoted = &self.bytes[start - 1..self.at];
                        let text: String = serde_json::from_slice(quoted).map_err(|_| bad())?;
                        return Ok(Cow::Owned(text));
                    }
                    return std::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| bad());
                }
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        Err("a string is not closed; is the line cut off?".to_owned())
    }

    fn number(&mut self) -> Parsed<Token<'a>> {
        let start = self.at;
        let negative = self.bytes.get(self.at) == Some(&b'-');
        if negative {
            self.at += 1;
        }
        let first = self.at;
        let mut value: i64 = 0;
        let mut fits = true;
        while let Some(&digit @ b'0'..=b'9') = self.bytes.get(self.at) {
            match value.checked_mul(10).and_then(|v| v.checked_add(i64::from(digit - b'0'))) {
                Some(next) => value = next,
                None => fits = false,
            }
            self.at += 1;
        }
        if self.at == first {
            return Err(format!("expected a value at column {}", start + 1));
        }
        if let Some(b'.' | b'e' | b'E') = self.bytes.get(self.at) {
            while let Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') = self.bytes.get(self.at)
            {
                self.at += 1;
            }
            return Ok(Token::Real);
        }
        if !fits {
            return Err(format!("the number at column {} is too large", start + 1));
        }
        Ok(Token::Int(if negative { -value } else { value }))
    }

    fn word(&mut self, word: &str, token: Token<'a>) -> Parsed<Token<'a>> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(token)
        } else {
            Err(format!("expected a value at column {}", self.at + 1))
        }
    }

    fn token(&mut self, depth: u32) -> Parsed<Token<'a>> {
        if depth > DEPTH_MAX {
            return Err("nested too deeply".to_owned());
        }
        match self.peek() {
            Some(b'"') => self.text().map(Token::Text),
            Some(b'n') => self.word("null", Token::Null),
            Some(b't') => self.word("true", Token::Bool(true)),
            Some(b'f') => self.word("false", Token::Bool(false)),
            Some(b'[') => {
                self.at += 1;
                let mut items = Vec::new();
                if self.peek() == Some(b']') {
                    self.at += 1;
                    return Ok(Token::List(items));
                }
                loop {
                    items.push(self.token(depth + 1)?);
                    if self.peek() == Some(b',') {
                        self.at += 1;
                        continue;
                    }
                    self.expect(b']')?;
                    return Ok(Token::List(items));
                }
            }
            Some(b'{') => {
                let mut fields = Vec::new();
                self.object(depth, |name, token| {
                    fields.push((name, token));
                    Ok(())
                })?;
                Ok(Token::Object(fields))
            }
            Some(_) => self.number(),
            None => Err("the line ends too early; is the file cut off?".to_owned()),
        }
    }

    fn object(
        &mut self,
        depth: u32,
        mut field: impl FnMut(Cow<'a, str>, Token<'a>) -> Parsed<()>,
    ) -> Parsed<()> {
        self.expect(b'{')?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            let name = self.text()?;
            self.expect(b':')?;
            let token = self.token(depth + 1)?;
            field(name, token)?;
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            return self.expect(b'}');
        }
    }
}

/// The fields of an operation line, unset ones as `None`.
#[derive(Default)]
struct Line<'a> {
    i: Option<i64>,
    c: Option<i64>,
    k: Option<Token<'a>>,
    f: Option<Cow<'a, str>>,
    a: Option<Token<'a>>,
    x: Option<Token<'a>>,
    b: Option<Token<'a>>,
    r: Option<Token<'a>>,
    p: Option<Token<'a>>,
    s: Option<i64>,
    e: Option<Token<'a>>,
}

fn int(name: &str, token: &Token<'_>) -> Parsed<i64> {
    if let Token::Int(value) = token {
        return Ok(*value);
    }
    Err(format!("field \"{name}\" must be a whole number"))
}

fn time(name: &str, value: i64) -> Parsed<Time> {
    Time::try_from(value).map_err(|_| format!("field \"{name}\" must not be negative"))
}

fn small(name: &str, token: &Token<'_>) -> Parsed<u32> {
    u32::try_from(int(name, token)?)
        .map_err(|_| format!("field \"{name}\" must be between 0 and {}", u32::MAX))
}

impl History {
    fn value(&mut self, name: &str, token: &Token<'_>) -> Parsed<Value> {
        match token {
            Token::Int(value) => Value::try_from(*value)
                .ok()
                .filter(|value| *value < STRING_BASE - 1)
                .ok_or_else(|| format!("field \"{name}\" is out of range for a value")),
            Token::Text(text) if self.model == Model::KvAppend => Ok(self.intern_append(text)),
            Token::Text(text) => Ok(self.intern(text)),
            Token::Bool(_) | Token::List(_) | Token::Null | Token::Object(_) | Token::Real => {
                Err(format!("field \"{name}\" must be a number or a string"))
            }
        }
    }

    fn maybe(&mut self, name: &str, token: &Token<'_>) -> Parsed<Option<Value>> {
        if *token == Token::Null { Ok(None) } else { self.value(name, token).map(Some) }
    }

    fn binding(&mut self, token: &Token<'_>) -> Parsed<Binding> {
        match token {
            Token::Int(_) => small("b", token).map(Binding::Thing),
            Token::List(pair) if pair.len() == 2 => {
                Ok(Binding::Life { key: small("b", &pair[0])?, birth: self.value("b", &pair[1])? })
            }
            Token::Bool(_)
            | Token::List(_)
            | Token::Null
            | Token::Object(_)
            | Token::Real
            | Token::Text(_) => {
                Err("a binding is a number, or [key, value that began its life]".to_owned())
            }
        }
    }

    fn binds(&mut self, token: Option<&Token<'_>>) -> Parsed<Binds> {
        match token {
            None => Ok(Binds::NONE),
            Some(Token::List(items)) => {
                let bindings: Vec<Binding> =
                    items.iter().map(|item| self.binding(item)).collect::<Parsed<_>>()?;
                Ok(self.bind(&bindings))
            }
            Some(token) => {
                let binding = self.binding(token)?;
                Ok(self.bind(&[binding]))
            }
        }
    }

    fn seen(&mut self, token: Option<&Token<'_>>) -> Parsed<Seen> {
        match token {
            None => Ok(Seen::Nothing),
            Some(Token::Null | Token::Bool(false)) => Ok(Seen::Absent),
            Some(Token::Bool(true)) => Ok(Seen::Present),
            Some(token) => self.value("p", token).map(Seen::Value),
        }
    }

    fn add_line(&mut self, line: &Line<'_>, ordinal: u64) -> Parsed<()> {
        let name = line.f.as_deref().ok_or("field \"f\", the operation, is missing")?;
        let call = line.s.ok_or("field \"s\", the call time, is missing")?;
        let call = time("s", call)?;
        let key = match &line.k {
            None => None,
            Some(token) => Some(small("k", token)?),
        };
        let kind = match name {
            "erase" | "down" => Some(MarkKind::Down),
            "gone" => Some(MarkKind::Gone),
            _ => None,
        };
        if let Some(kind) = kind {
            let token = line.b.as_ref().ok_or("field \"b\", the binding, is missing")?;
            let binding = self.binding(token)?;
            self.marks.push(Mark { time: call, key, binding, kind });
            return Ok(());
        }
        let key = key.ok_or("field \"k\", the key, is missing")?;
        let ret = match &line.e {
            None | Some(Token::Null) => NEVER,
            Some(token) => time("e", int("e", token)?)?,
        };
        if ret < call {
            return Err(format!("the operation returns at {ret}, before its call at {call}"));
        }
        let append = self.model == Model::KvAppend;
        let mut written = |what: &str| match &line.a {
            Some(token) => self.value("a", token),
            None => Err(format!("{what} needs field \"a\", the value")),
        };
        let action = match name {
            "get" | "read" => Action::Get,
            "exists" => Action::Exists,
            "remove" => Action::Remove,
            "put" | "insert" | "write" => Action::Put { value: written("put")? },
            "put_if_absent" | "pia" => Action::PutIfAbsent { value: written("put_if_absent")? },
            "append" if append => Action::Append { value: written("append")? },
            "append" => return Err("append needs the model kv-append".to_owned()),
            "compare_and_set" | "cas" => {
                let value = written("compare_and_set")?;
                let token = line.x.as_ref().ok_or("compare_and_set needs field \"x\"")?;
                Action::CompareAndSet { expect: self.maybe("x", token)?, value }
            }
            _ => return Err(format!("unknown operation \"{name}\"")),
        };
        let outcome = match (&line.r, ret) {
            (None, NEVER) => Outcome::Unknown,
            (None, _) => return Err("an operation that returned needs field \"r\"".to_owned()),
            (Some(_), NEVER) => {
                return Err("a result without a return time; give field \"e\"".to_owned());
            }
            (Some(token), _) => self.outcome(action, token, line.p.as_ref())?,
        };
        let binds = self.binds(line.b.as_ref())?;
        let id = match line.i {
            None => ordinal,
            Some(id) => u64::try_from(id).map_err(|_| "field \"i\" must not be negative")?,
        };
        let client = line.c.and_then(|c| i32::try_from(c).ok()).unwrap_or(-1);
        self.ops.push(Operation { id, client, key, binds, call, ret, action, outcome });
        Ok(())
    }

    fn outcome(
        &mut self,
        action: Action,
        result: &Token<'_>,
        previous: Option<&Token<'_>>,
    ) -> Parsed<Outcome> {
        let seen = self.seen(previous)?;
        Ok(match (action, result) {
            (Action::Get, token) => Outcome::Read(self.maybe("r", token)?),
            (Action::Exists, Token::Bool(live)) => Outcome::Exists(*live),
            (Action::Exists, _) => return Err("exists needs \"r\" true or false".to_owned()),
            // The recorded `remove` answers whether it found the key.
            (Action::Remove, Token::Bool(true)) if seen == Seen::Nothing => {
                Outcome::Done(Seen::Present)
            }
            (Action::Remove, Token::Bool(false)) if seen == Seen::Nothing => {
                Outcome::Done(Seen::Absent)
            }
            (Action::Remove, Token::Text(word)) if word == "done" => Outcome::Done(seen),
            (_, Token::Bool(true)) => Outcome::Done(seen),
            (Action::CompareAndSet { .. } | Action::PutIfAbsent { .. }, Token::Bool(false)) => {
                Outcome::Refused(seen)
            }
            (_, Token::Text(word)) if word == "invalid_binding" => Outcome::InvalidBinding,
            (
                Action::Append { .. }
                | Action::CompareAndSet { .. }
                | Action::Put { .. }
                | Action::PutIfAbsent { .. }
                | Action::Remove,
                _,
            ) => return Err("field \"r\" does not fit the operation".to_owned()),
        })
    }
}

fn parse_line<'a>(bytes: &'a [u8], line: &mut Line<'a>) -> Parsed<Option<Header>> {
    let mut cursor = Cursor { bytes, at: 0 };
    let mut header = Header::default();
    let mut is_header = false;
    cursor.object(0, |name, token| {
        match &*name {
            "h" => is_header = true,
            "i" => line.i = Some(int("i", &token)?),
            "c" => line.c = Some(int("c", &token)?),
            "k" => line.k = Some(token),
            "f" => {
                let Token::Text(text) = token else {
                    return Err("field \"f\" must be a string".to_owned());
                };
                line.f = Some(text);
            }
            "a" => line.a = Some(token),
            "x" => line.x = Some(token),
            "b" => line.b = Some(token),
            "r" => line.r = Some(token),
            "p" => line.p = Some(token),
            "s" => line.s = Some(int("s", &token)?),
            "e" => line.e = Some(token),
            "kind" => {
                if let Token::Text(text) = token {
                    header.kind = Some(text.into_owned());
                }
            }
            "expect" => {
                if let Token::Text(text) = token {
                    header.expect = match &*text {
                        "ok" | "linearizable" => Some(true),
                        "illegal" | "not-linearizable" => Some(false),
                        _ => None,
                    };
                }
            }
            "ops" => {
                let ops = u64::try_from(int("ops", &token)?);
                header.ops = Some(ops.map_err(|_| "field \"ops\" must not be negative")?);
            }
            // Other fields carry what recorders want to remember.
            _ => {}
        }
        Ok(())
    })?;
    cursor.space();
    if cursor.at != bytes.len() {
        return Err(format!("unexpected text at column {}", cursor.at + 1));
    }
    Ok(is_header.then_some(header))
}

#[derive(Default)]
struct Header {
    kind: Option<String>,
    /// How many operations follow, marks counted or not: recorders do either.
    ops: Option<u64>,
    expect: Option<bool>,
}

/// Reads histories one after the other from a stream of JSON lines.
pub struct Reader<R> {
    input: R,
    file: String,
    model: Option<Model>,
    line: u64,
    pending: Option<Header>,
    buffer: Vec<u8>,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// A reader of `input`, which is called `file` in errors; `model` overrides the headers.
    pub fn new(input: R, file: &str, model: Option<Model>) -> Self {
        Self {
            input,
            file: file.to_owned(),
            model,
            line: 0,
            pending: None,
            buffer: Vec::new(),
            ended: false,
        }
    }

    fn bad(&self, what: impl Into<String>) -> BadInput {
        BadInput { file: self.file.clone(), line: self.line, what: what.into() }
    }

    fn model_of(&self, header: &Header) -> Result<Model, BadInput> {
        match (self.model, &header.kind) {
            (Some(model), _) => Ok(model),
            (None, None) => Ok(Model::Kv),
            (None, Some(kind)) => Model::parse(kind).ok_or_else(|| {
                self.bad(format!(
                    "unknown kind \"{kind}\"; give --model with one of {}",
                    Model::NAMES
                ))
            }),
        }
    }

    /// Part of a history could be judged like a whole one, and wrongly.
    fn check_whole(&self, history: &History, announced: Option<u64>) -> Result<(), BadInput> {
        let (ops, marks) = (&history.ops, history.marks.len());
        let fits = |announced: u64| [0, marks].map(|m| (ops.len() + m) as u64).contains(&announced);
        if let Some(announced) = announced.filter(|announced| !fits(*announced)) {
            return Err(self.bad(format!(
                "the header announces {announced} operations, and {} and {marks} marks follow; is \
                 the file cut off?",
                ops.len()
            )));
        }
        if ops.is_sorted_by(|one, next| one.id < next.id) {
            return Ok(());
        }
        let mut ids: Vec<u64> = ops.iter().map(|op| op.id).collect();
        ids.sort_unstable();
        match ids.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(self.bad(format!(
                "operation {} is there twice in the history that ends here; was a part pasted?",
                pair[0]
            ))),
            None => Ok(()),
        }
    }

    /// The next history, `None` at the end of the stream.
    ///
    /// # Errors
    /// The place of the first line that could not be understood.
    pub fn next_history(&mut self) -> Result<Option<History>, BadInput> {
        if self.ended {
            return Ok(None);
        }
        let mut history = History::default();
        let (mut begun, mut announced) = (false, None);
        if let Some(header) = self.pending.take() {
            history.model = self.model_of(&header)?;
            (history.expect, announced) = (header.expect, header.ops);
            begun = true;
        }
        loop {
            self.buffer.clear();
            let read = self.input.read_until(b'\n', &mut self.buffer);
            if read.map_err(|error| self.bad(format!("cannot be read: {error}")))? == 0 {
                self.ended = true;
                self.check_whole(&history, announced)?;
                return Ok(begun.then_some(history));
            }
            self.line += 1;
            if self.buffer.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let mut line = Line::default();
            let header = parse_line(&self.buffer, &mut line).map_err(|what| BadInput {
                file: self.file.clone(),
                line: self.line,
                what,
            })?;
            match header {
                Some(header) if begun => {
                    self.pending = Some(header);
                    self.check_whole(&history, announced)?;
                    return Ok(Some(history));
                }
                Some(header) => {
                    history.model = self.model_of(&header)?;
                    (history.expect, announced) = (header.expect, header.ops);
                    begun = true;
                }
                None => {
                    if !begun {
                        history.model = self.model.unwrap_or_default();
                        begun = true;
                    }
                    let ordinal = history.ops.len() as u64;
                    history.add_line(&line, ordinal).map_err(|what| BadInput {
                        file: self.file.clone(),
                        line: self.line,
                        what,
                    })?;
                }
            }
        }
    }
}

fn write_value(out: &mut dyn Write, history: &History, value: Value) -> io::Result<()> {
    match history.text(value) {
        Some(text) => write!(out, "{}", serde_json::Value::from(text)),
        None => write!(out, "{value}"),
    }
}

fn write_maybe(out: &mut dyn Write, history: &History, value: Option<Value>) -> io::Result<()> {
    match value {
        Some(value) => write_value(out, history, value),
        None => out.write_all(b"null"),
    }
}

fn write_binding(out: &mut dyn Write, history: &History, binding: Binding) -> io::Result<()> {
    match binding {
        Binding::Thing(thing) => write!(out, "{thing}"),
        Binding::Life { key, birth } => {
            write!(out, "[{key},")?;
            write_value(out, history, birth)?;
            out.write_all(b"]")
        }
    }
}

fn write_seen(out: &mut dyn Write, history: &History, seen: Seen) -> io::Result<()> {
    match seen {
        Seen::Nothing => Ok(()),
        Seen::Absent => out.write_all(b",\"p\":null"),
        Seen::Present => out.write_all(b",\"p\":true"),
        Seen::Value(value) => {
            out.write_all(b",\"p\":")?;
            write_value(out, history, value)
        }
    }
}

/// Writes one operation as a line.
///
/// # Errors
/// Whatever `out` reports.
pub fn write_operation(out: &mut dyn Write, history: &History, op: &Operation) -> io::Result<()> {
    write!(out, "{{\"i\":{},\"c\":{},\"k\":{},\"f\":", op.id, op.client, op.key)?;
    out.write_all(match op.action {
        Action::Append { .. } => b"\"append\"",
        Action::CompareAndSet { .. } => b"\"cas\"",
        Action::Exists => b"\"exists\"",
        Action::Get => b"\"get\"",
        Action::Put { .. } => b"\"put\"",
        Action::PutIfAbsent { .. } => b"\"pia\"",
        Action::Remove => b"\"remove\"",
    })?;
    if let Some(value) = op.action.value() {
        out.write_all(b",\"a\":")?;
        write_value(out, history, value)?;
    }
    if let Action::CompareAndSet { expect, .. } = op.action {
        out.write_all(b",\"x\":")?;
        write_maybe(out, history, expect)?;
    }
    match history.bindings(op.binds) {
        [] => {}
        [Binding::Thing(thing)] => write!(out, ",\"b\":{thing}")?,
        bindings => {
            out.write_all(b",\"b\":[")?;
            for (index, binding) in bindings.iter().enumerate() {
                if index > 0 {
                    out.write_all(b",")?;
                }
                write_binding(out, history, *binding)?;
            }
            out.write_all(b"]")?;
        }
    }
    match op.outcome {
        Outcome::Unknown => {}
        Outcome::Done(seen) if op.action == Action::Remove => match seen {
            Seen::Nothing => out.write_all(b",\"r\":\"done\"")?,
            Seen::Absent => out.write_all(b",\"r\":false")?,
            Seen::Present => out.write_all(b",\"r\":true")?,
            Seen::Value(_) => {
                out.write_all(b",\"r\":true")?;
                write_seen(out, history, seen)?;
            }
        },
        Outcome::Done(seen) => {
            out.write_all(b",\"r\":true")?;
            write_seen(out, history, seen)?;
        }
        Outcome::Exists(live) => write!(out, ",\"r\":{live}")?,
        Outcome::InvalidBinding => out.write_all(b",\"r\":\"invalid_binding\"")?,
        Outcome::Read(value) => {
            out.write_all(b",\"r\":")?;
            write_maybe(out, history, value)?;
        }
        Outcome::Refused(seen) => {
            out.write_all(b",\"r\":false")?;
            write_seen(out, history, seen)?;
        }
    }
    match op.ret {
        NEVER => writeln!(out, ",\"s\":{},\"e\":null}}", op.call),
        ret => writeln!(out, ",\"s\":{},\"e\":{ret}}}", op.call),
    }
}

/// Writes one mark as a line.
///
/// # Errors
/// Whatever `out` reports.
pub fn write_mark(out: &mut dyn Write, history: &History, mark: &Mark) -> io::Result<()> {
    let name = match mark.kind {
        MarkKind::Down => "down",
        MarkKind::Gone => "gone",
    };
    write!(out, "{{\"f\":\"{name}\",\"b\":")?;
    write_binding(out, history, mark.binding)?;
    if let Some(key) = mark.key {
        write!(out, ",\"k\":{key}")?;
    }
    writeln!(out, ",\"s\":{}}}", mark.time)
}

/// Writes a whole history: header, operations, marks.
///
/// # Errors
/// Whatever `out` reports.
pub fn write_history(out: &mut dyn Write, history: &History) -> io::Result<()> {
    let kind = match history.model {
        Model::Kv => "kv",
        Model::KvAppend => "kv-append",
        Model::Register => "register",
    };
    write!(out, "{{\"h\":1,\"kind\":\"{kind}\",\"ops\":{}", history.ops.len())?;
    if let Some(expect) = history.expect {
        let word = if expect { "ok" } else { "illegal" };
        write!(out, ",\"expect\":\"{word}\"")?;
    }
    writeln!(out, "}}")?;
    for op in &history.ops {
        write_operation(out, history, op)?;
    }
    for mark in &history.marks {
        write_mark(out, history, mark)?;
    }
    Ok(())
}
