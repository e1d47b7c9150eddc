//! Tables in words: `carts:merged+bag+memory`, `accounts:primary+quorum`.

use crate::merged::{Schema, Strategy};
use crate::node::TableConfig;
use crate::primary;

/// A table of the command line: its name, and behind a colon what it is.
pub(super) fn parse_table(text: &str, defaults: &str) -> Result<TableConfig, String> {
    let (name, words) = match text.split_once(':') {
        None => return Ok(TableConfig::consensus(text)),
        Some((name, "write-once")) => return Ok(TableConfig::write_once(name)),
        Some(parts) => parts,
    };
    let of = |discipline: &str| {
        let own = words.strip_prefix(discipline);
        own.filter(|own| own.is_empty() || own.starts_with('+'))
    };
    if let Some(own) = of("merged") {
        return Ok(TableConfig::merged(name, parse_schema(defaults, own)?));
    }
    if let Some(own) = of("primary") {
        let schema = primary::Schema::default().with_words(own)?;
        return Ok(TableConfig::primary_table(name, schema));
    }
    Err(format!("'{words}' is neither write-once nor merged nor primary"))
}

/// What words say, the later ones over the earlier; what is in none of them is as by default.
pub(super) fn parse_schema(defaults: &str, own: &str) -> Result<Schema, String> {
    let schema = Schema::default().with_words(defaults)?.with_words(own)?;
    if schema.strategy == Strategy::Custom {
        return Err("'custom' is for applications, which bring a resolver".to_owned());
    }
    Ok(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_say_nothing_are_refused() {
        for text in [
            "a:merge",
            "a:merged+sets",
            "a:merged+bag@1",
            "a:mergedbag",
            "a:merged+custom",
            "a:primary+most",
            "a:primaryall",
        ] {
            let error = parse_table(text, "").expect_err(text);
            assert!(error.contains('\''), "{error}");
        }
        assert_eq!(parse_table("a", ""), Ok(TableConfig::consensus("a")));
        assert_eq!(parse_table("a:write-once", ""), Ok(TableConfig::write_once("a")));
        assert_eq!(parse_table("a:merged", ""), Ok(TableConfig::merged("a", Schema::default())));
        let schema = primary::Schema::default().with_words("quorum+on@1.2").expect("words");
        let expected = TableConfig::primary_table("a", schema);
        assert_eq!(parse_table("a:primary+quorum+on@1.2", ""), Ok(expected));
        let loose = parse_table("a:merged+memory", "last-modified");
        let schema = Schema::default().with_words("last-modified+memory").expect("words");
        assert_eq!(loose, Ok(TableConfig::merged("a", schema)));
    }
}
