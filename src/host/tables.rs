//! The node's tables, as its clients know them by name.
//!
//! Must never know: what the tables are.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};

use crate::node::TableConfig;

/// On any thread.
#[derive(Clone, Debug)]
pub(super) struct Tables(Arc<RwLock<Arc<[TableConfig]>>>);

/// On the node's thread, where they are looked at with each command.
pub(super) type LocalTables = Rc<RefCell<Rc<[TableConfig]>>>;

impl Tables {
    pub(super) fn new(tables: &[TableConfig]) -> Self {
        Self(Arc::new(RwLock::new(tables.into())))
    }

    pub(super) fn get(&self) -> Arc<[TableConfig]> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, tables: &[TableConfig]) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tables.into();
    }
}
