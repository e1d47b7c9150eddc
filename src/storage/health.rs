//! Fail-stop: a store that failed once, or was found damaged, does nothing any more.

use super::StorageError;

/// How a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    Failed,
    Damaged,
}

/// A store that stops for good when anything fails.
pub(super) trait FailStop {
    fn health(&mut self) -> &mut Health;

    /// Does something with the store if it is well; if that fails, it is so no more.
    fn attempt(
        &mut self,
        what: impl FnOnce(&mut Self) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        match self.health() {
            Health::Well => {}
            Health::Failed => return Err(StorageError::Stopped),
            Health::Damaged => return Err(StorageError::Damaged),
        }
        let done = what(self);
        if done.is_err() {
            *self.health() = Health::Failed;
        }
        done
    }
}
