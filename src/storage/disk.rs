//! What a store needs of a file system, and a directory that has it.
//!
//! Every write and sync goes through here, so that a test can fail or crash at each of them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::OpenError;

/// One flat directory. Names are plain file names.
pub trait Disk: Send {
    /// A file in it.
    type File: DiskFile;

    /// Where it is, for people.
    fn path(&self) -> &Path;

    /// The names of all files.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file that is there.
    ///
    /// # Errors
    /// As the operating system says; [`io::ErrorKind::NotFound`] if it is not there.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Makes an empty file; one of that name is replaced.
    ///
    /// # Errors
    /// As the operating system says.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, in place of any file that had it.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Makes the names durable: what was created, renamed and removed.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file on a [`Disk`].
pub trait DiskFile: Send {
    /// How many bytes it has.
    ///
    /// # Errors
    /// As the operating system says.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on, as far as the file goes; returns how much that was.
    ///
    /// # Errors
    /// As the operating system says.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes`, extending the file as needed.
    ///
    /// # Errors
    /// As the operating system says.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes content and length durable.
    ///
    /// # Errors
    /// As the operating system says. What was written since the last sync may then be lost, even
    /// if a later sync succeeds.
    fn sync(&mut self) -> io::Result<()>;
}

/// A real directory, locked against other processes for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Locked; the lock ends with the process, however that ends.
    _lock: File,
}

pub(super) const LOCK: &str = "LOCK";

impl Directory {
    /// Makes the directory if there is none, and locks it.
    ///
    /// # Errors
    /// If another process has it, or the operating system says no.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        let io = |doing, error| OpenError::Io { doing, path: path.to_owned(), error };
        // Whoever made that file had made the names above it durable.
        if !path.join(LOCK).exists() {
            fs::create_dir_all(path).map_err(|error| io("create", error))?;
            sync_above(path).map_err(|error| io("sync what is above", error))?;
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(path.join(LOCK)).map_err(|error| io("open", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // What it says is a courtesy; that it is locked is certain.
                let _ = lock.read_to_string(&mut text);
                return Err(OpenError::Locked {
                    path: path.to_owned(),
                    pid: text.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(io("lock", error)),
        }
        let pid = format!("{}\n", std::process::id());
        lock.set_len(0)
            .and_then(|()| lock.write_all(pid.as_bytes()))
            .map_err(|error| io("write the process id in", error))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }
}

/// Makes durable that there is such a directory, and each one above it: whoever made them may have
/// died before.
fn sync_above(path: &Path) -> io::Result<()> {
    let path = path.canonicalize()?;
    let mut below = fs::metadata(&path)?;
    for above in path.ancestors().skip(1) {
        let this = fs::metadata(above)?;
        if is_mount(&below, &this) {
            break;
        }
        match sync_directory(above) {
            // None that we have made: we could read that.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            done => done?,
        }
        below = this;
    }
    Ok(())
}

/// Whether there is another file system below, so that the name between is not of our making.
#[cfg(unix)]
fn is_mount(below: &fs::Metadata, above: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    below.dev() != above.dev()
}

#[cfg(not(unix))]
fn is_mount(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    false
}

/// On systems where a directory cannot be opened as a file, names are durable with the files.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

impl Disk for Directory {
    type File = File;

    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path.join(name))
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).open(self.path.join(name))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&mut self) -> io::Result<()> {
        sync_directory(&self.path)
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.seek(SeekFrom::Start(offset))?;
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // One call of the system, not two, for each of two writes of every sync.
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::write_all_at(self, bytes, offset);
        #[cfg(not(unix))]
        {
            self.seek(SeekFrom::Start(offset))?;
            self.write_all(bytes)
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
