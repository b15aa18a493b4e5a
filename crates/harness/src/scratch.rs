//! A folder for a while.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A folder of its own, which is removed with all that is in it on drop.
///
/// Not tempfile's, which would make a learner's first build a tenth longer.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a folder in `parent`, which is made, too, if it is missing. Its
    /// name begins with `prefix`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(parent: &Path, prefix: &str) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        let process = std::process::id();
        let mut number = 0;
        loop {
            let path = parent.join(format!("{prefix}-{process}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                // Another thread's, or left by a process that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    number += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Fails only if somebody else has removed it, or holds a file open.
        let _ = fs::remove_dir_all(&self.path);
    }
}
