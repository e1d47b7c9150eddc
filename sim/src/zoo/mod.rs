//! The zoo: known ways to get the engine wrong, kept as data and applied to a copy of the source.
//!
//! A simulator that is quiet may be right or blind. Each entry breaks one rule of the engine; the
//! simulator must find it, or it is blind there. Entries marked harmless change something that
//! the protocol does not need: the simulator must stay quiet.
//!
//! Must never know: how the engine works, or how runs are made. It edits text and starts programs.

mod edit;
mod entry;
mod tree;
mod trial;

pub use edit::{Edit, Line};
pub use entry::{Entry, ParseError, parse};
pub use tree::{Tree, find_root};
pub use trial::{Capture, Limits, Trial, Verdict, build, check, hunt, replay};

use std::fs;
use std::path::Path;

/// The folder of the workspace that holds the entries.
pub const FOLDER: &str = "sim/zoo";

/// Every entry of every `.txt` file under [`FOLDER`], in the order of the files' names.
///
/// # Errors
/// A file that cannot be read, an entry that cannot be understood, or a name used twice: one line
/// naming the place and what to do.
pub fn load(root: &Path) -> Result<Vec<Entry>, String> {
    let folder = root.join(FOLDER);
    let listing = fs::read_dir(&folder).map_err(|error| format!("{FOLDER}: {error}"))?;
    let mut files: Vec<_> = listing
        .filter_map(|item| item.ok().map(|item| item.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    let mut entries: Vec<Entry> = Vec::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{FOLDER}/{name}: {error}"))?;
        for entry in parse(&text).map_err(|error| format!("{FOLDER}/{name}:{error}"))? {
            if entries.iter().any(|other| other.name == entry.name) {
                return Err(format!(
                    "{FOLDER}/{name}:{}: the name {} is used twice; give one of them another",
                    entry.line, entry.name
                ));
            }
            entries.push(entry);
        }
    }
    Ok(entries)
}
