//! Tables in words: `carts:merged+bag+memory`.

use std::str::FromStr;
use std::time::Duration;

use crate::base::NodeId;
use crate::merged::{Contest, Durability, Field, Kind, Replicas, Schema, Strategy};
use crate::node::TableConfig;

/// Every word of a merged table, for error messages.
const WORDS: &str = "set, ordered-set, bag, bag@OFFSET:LENGTH, siblings, last-modified, \
                     last-version@OFFSET:LENGTH, ignore, later-wins, update-wins, delete-wins, \
                     disk, memory, on@1.2.3, retention@SECONDS";

/// A table of the command line: its name, and behind a colon what it is.
pub(super) fn parse_table(text: &str, defaults: &str) -> Result<TableConfig, String> {
    let (name, words) = match text.split_once(':') {
        None => return Ok(TableConfig::consensus(text)),
        Some((name, "write-once")) => return Ok(TableConfig::write_once(name)),
        Some(parts) => parts,
    };
    let own = words.strip_prefix("merged").filter(|own| own.is_empty() || own.starts_with('+'));
    let Some(own) = own else {
        return Err(format!("'{words}' is neither write-once nor merged"));
    };
    Ok(TableConfig::merged(name, parse_schema(defaults, own)?))
}

/// What words say, the later ones over the earlier; what is in none of them is as by default.
pub(super) fn parse_schema(defaults: &str, own: &str) -> Result<Schema, String> {
    let mut schema = Schema::default();
    for word in defaults.split('+').chain(own.split('+')).map(str::trim) {
        if !word.is_empty() {
            apply(&mut schema, word).ok_or_else(|| {
                format!("'{word}' says nothing of a merged table; there are: {WORDS}")
            })?;
        }
    }
    Ok(schema)
}

fn apply(schema: &mut Schema, word: &str) -> Option<()> {
    let (name, of) = word.split_once('@').map_or((word, None), |(name, of)| (name, Some(of)));
    match (name, of) {
        ("set", None) => schema.kind = Kind::Set,
        ("ordered-set", None) => schema.kind = Kind::OrderedSet,
        ("bag", None) => schema.kind = Kind::Bag { secondary: None },
        ("bag", Some(field)) => schema.kind = Kind::Bag { secondary: Some(parse_field(field)?) },
        ("siblings", None) => schema.strategy = Strategy::Siblings,
        ("last-modified", None) => schema.strategy = Strategy::LastModified,
        ("last-version", Some(of)) => schema.strategy = Strategy::LastVersion(parse_field(of)?),
        ("ignore", None) => schema.strategy = Strategy::Ignore,
        ("later-wins", None) => schema.contest = Contest::LaterWins,
        ("update-wins", None) => schema.contest = Contest::UpdateWins,
        ("delete-wins", None) => schema.contest = Contest::DeleteWins,
        ("disk", None) => schema.durability = Durability::Disk,
        ("memory", None) => schema.durability = Durability::Memory,
        ("on", Some(nodes)) => {
            let nodes: Result<Vec<NodeId>, _> =
                nodes.split('.').map(|node| u16::from_str(node).map(NodeId)).collect();
            schema.replicas = Replicas::Only(nodes.ok()?);
        }
        ("retention", Some(seconds)) => {
            schema.retention = Duration::from_secs(seconds.parse().ok()?);
        }
        _ => return None,
    }
    Some(())
}

fn parse_field(text: &str) -> Option<Field> {
    let (offset, len) = text.split_once(':')?;
    Some(Field { offset: offset.parse().ok()?, len: len.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M-01, M-28: a table says what differs from the defaults, which say what differs from ours.
    #[test]
    fn words_say_what_a_table_is() {
        let schema = |defaults, own| parse_schema(defaults, own);
        assert_eq!(schema("", ""), Ok(Schema::default()));
        let loose = Schema {
            strategy: Strategy::LastModified,
            durability: Durability::Memory,
            ..Schema::default()
        };
        assert_eq!(schema("last-modified+memory", ""), Ok(loose.clone()));
        let strict = Schema { durability: Durability::Disk, ..loose };
        assert_eq!(schema("last-modified+memory", "disk"), Ok(strict));
        let all = "bag@4:2+last-version@0:4+update-wins+on@1.3+retention@60";
        let expected = Schema {
            kind: Kind::Bag { secondary: Some(Field { offset: 4, len: 2 }) },
            strategy: Strategy::LastVersion(Field { offset: 0, len: 4 }),
            contest: Contest::UpdateWins,
            replicas: Replicas::Only(vec![NodeId(1), NodeId(3)]),
            durability: Durability::Disk,
            retention: Duration::from_secs(60),
        };
        assert_eq!(schema("", all), Ok(expected));
    }

    #[test]
    fn words_that_say_nothing_are_refused() {
        for text in ["a:merge", "a:merged+sets", "a:merged+bag@1", "a:merged+on@x", "a:mergedbag"] {
            let error = parse_table(text, "").expect_err(text);
            assert!(error.contains('\''), "{error}");
        }
        assert_eq!(parse_table("a", ""), Ok(TableConfig::consensus("a")));
        assert_eq!(parse_table("a:write-once", ""), Ok(TableConfig::write_once("a")));
        assert_eq!(parse_table("a:merged", ""), Ok(TableConfig::merged("a", Schema::default())));
    }
}
