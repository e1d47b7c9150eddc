//! The documentation of commands is made of the table that a node reads commands by.

use synod::resp::document;

/// `SYNOD_REWRITE=1` writes it anew.
#[test]
fn the_document_is_made_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/COMMANDS.md");
    if std::env::var_os("SYNOD_REWRITE").is_some() {
        std::fs::write(path, document()).expect("written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == document(), "run SYNOD_REWRITE=1 cargo test --test commands");
}
