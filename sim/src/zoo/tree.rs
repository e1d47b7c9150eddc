//! A copy of the workspace that edits are applied to and builds are made from.
//!
//! There is one copy at one place, so that a build after an edit compiles only what the edit
//! touched. Files are written only when they differ, for the same reason.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use synod::fnv1a;

use super::entry::Entry;

/// The copy.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    originals: BTreeMap<PathBuf, Vec<u8>>,
}

/// The root of the workspace that the current folder is in.
///
/// # Errors
/// If it is in none.
pub fn find_root() -> Result<PathBuf, String> {
    let here = env::current_dir().map_err(|error| format!("the current folder: {error}"))?;
    here.ancestors()
        .find(|folder| folder.join(super::FOLDER).is_dir() && folder.join("Cargo.toml").is_file())
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            String::from("this needs the source: run it inside the folder that holds Cargo.toml")
        })
}

impl Tree {
    /// The workspace at `source`, not copied anywhere yet.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(source: &Path) -> io::Result<Self> {
        let mut originals = BTreeMap::new();
        gather(source, Path::new(""), &mut originals)?;
        let root = PathBuf::new();
        Ok(Self { root, originals })
    }

    /// Copies the workspace at `source` to `root`, and removes what an earlier copy left there: a
    /// module that became a folder would be found twice.
    ///
    /// # Errors
    /// A file that cannot be read, written or removed.
    pub fn new(source: &Path, root: &Path) -> io::Result<Self> {
        let tree = Self { root: root.into(), ..Self::read(source)? };
        if root.join(super::FOLDER).is_dir() {
            let present = Self::read(root)?.originals;
            for path in present.keys().filter(|path| !tree.originals.contains_key(*path)) {
                fs::remove_file(root.join(path))?;
            }
        }
        for (path, content) in &tree.originals {
            tree.write(path, content)?;
        }
        Ok(tree)
    }

    /// What a file was before any edit.
    #[must_use]
    pub fn original(&self, path: &Path) -> Option<&[u8]> {
        self.originals.get(path).map(Vec::as_slice)
    }

    /// Where the copy is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the copied files were, as one number: equal trees have equal ones.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let files = self.originals.iter();
        let files = files.filter(|(path, _)| !path.starts_with(super::FOLDER));
        files.fold(0, |hash, (path, content)| {
            let path = fnv1a(path.to_string_lossy().as_bytes());
            fnv1a(&(hash ^ path.rotate_left(1) ^ fnv1a(content)).to_le_bytes())
        })
    }

    /// The files of the copy with the entry's edits, by path.
    ///
    /// # Errors
    /// If an edit fits in no place or in several, or its file is not there.
    pub fn edited(&self, entry: &Entry) -> Result<BTreeMap<PathBuf, String>, String> {
        let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
        for edit in &entry.edits {
            let path = PathBuf::from(&edit.file);
            let source = match files.remove(&path) {
                Some(source) => source,
                None => {
                    let bytes = self
                        .originals
                        .get(&path)
                        .ok_or_else(|| format!("{}: there is no such file", edit.file))?;
                    String::from_utf8_lossy(bytes).into_owned()
                }
            };
            files.insert(path, edit.apply(&source)?);
        }
        Ok(files)
    }

    /// Makes the copy the original with these files replaced.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn set(&self, files: &BTreeMap<PathBuf, String>) -> io::Result<()> {
        for (path, content) in &self.originals {
            match files.get(path) {
                Some(content) => self.write(path, content.as_bytes())?,
                None => self.write(path, content)?,
            }
        }
        Ok(())
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let place = self.root.join(path);
        if fs::read(&place).is_ok_and(|present| present == content) {
            return Ok(());
        }
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(place, content)
    }
}

/// Everything a build could need: no build results, no version control, nothing hidden.
fn gather(source: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
    for item in fs::read_dir(source.join(folder))? {
        let item = item?;
        let name = item.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        if hidden || name == "target" {
            continue;
        }
        let path = folder.join(&name);
        let kind = item.file_type()?;
        if kind.is_dir() {
            gather(source, &path, files)?;
        } else if kind.is_file() {
            files.insert(path, fs::read(item.path())?);
        }
    }
    Ok(())
}
