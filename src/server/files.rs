//! Files that people name: read whole, and within bounds, whatever they turn out to be.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::settings::SettingsError;

/// Bytes of a file of settings, a password among them.
const FILE_MAX: usize = 1 << 20;

/// Bytes of a password.
const PASSWORD_MAX: usize = 1_024;

/// All of a file.
///
/// # Errors
/// It cannot be read, or is longer than a mebibyte.
pub fn read_file(path: &Path) -> Result<Vec<u8>, SettingsError> {
    let wrong = |why: String| SettingsError::File { path: path.to_owned(), why };
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut bytes = Vec::new();
    // One byte more tells whether there is more.
    let read = file.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| wrong(error.to_string()))?;
    if bytes.len() > FILE_MAX {
        return Err(wrong(format!("longer than {FILE_MAX} bytes, the limit")));
    }
    Ok(bytes)
}

/// The first line that is not empty, without white space around it, so that an editor may end it.
///
/// # Errors
/// The file cannot be read, or has no such line, or one that is too long.
pub fn read_password(path: &Path) -> Result<Vec<u8>, SettingsError> {
    let text = read_file(path)?;
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    match lines.find(|line| !line.is_empty()) {
        Some(password) if password.len() <= PASSWORD_MAX => Ok(password.to_vec()),
        Some(_) | None => Err(SettingsError::File {
            path: path.to_owned(),
            why: format!(
                "the first line that is not empty is the password, 1 to {PASSWORD_MAX} bytes"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_that_is_not_empty() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        let read = |text: &[u8]| {
            std::fs::write(&file, text).expect("written");
            read_password(&file).map_err(|error| error.to_string())
        };
        for text in ["open sesame", "open sesame\n", "\n \r\n open sesame \r\nnot this\n"] {
            assert_eq!(read(text.as_bytes()).as_deref(), Ok(&b"open sesame"[..]));
        }
        for text in [&b""[..], b"\n \n", &[b'x'; PASSWORD_MAX + 1]] {
            assert!(read(text).is_err_and(|why| why.contains("1 to 1024 bytes")));
        }
        let error = read_file(Path::new("/dev/zero")).expect_err("endless").to_string();
        assert_eq!(error, "/dev/zero: longer than 1048576 bytes, the limit");
    }
}
