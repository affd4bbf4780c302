//! What is sent for a local operation.
//!
//! The counterpart of `apply`: only here may local knowledge decide.

use bytes::Bytes;
use pmxcfs_api_types::{FsError, limits::MAX_REQUEST_SIZE};
use pmxcfs_memdb::{Operation, Precheck};

use super::{
    Database, TreeStore,
    wire::{LockMessage, OperationMessage, UNLOCK_REQUEST},
};
use crate::app::{Outgoing, Prepared};

impl<S: TreeStore> Database<S> {
    pub(super) fn prepare_operation(&mut self, operation: Operation) -> Result<Prepared, FsError> {
        if self.store.is_failed() {
            return Err(FsError::Io);
        }
        let precheck = self
            .store
            .change(|tree, _changes| tree.check_before_send(&operation))?;
        match (precheck, operation) {
            (Precheck::NothingToDo, _) => Ok(Prepared::Done(0)),
            (Precheck::FillWithZeros { size }, Operation::Write { path, .. }) => {
                Ok(Prepared::Send {
                    messages: fill_with_zeros(&path, size)?,
                    reply: Some(0),
                })
            }
            (_, operation) => {
                let mut messages: Vec<Outgoing> =
                    self.unlock_request(&operation).into_iter().collect();
                messages.push(message(&operation)?);
                Ok(Prepared::Send {
                    messages,
                    reply: None,
                })
            }
        }
    }

    /// Setting a lock's mtime to 0 asks for its removal; the operation itself then fails for the caller.
    fn unlock_request(&mut self, operation: &Operation) -> Option<Outgoing> {
        let Operation::SetMtime { path, mtime: 0 } = operation else {
            return None;
        };
        let checksum = self.store.change(|tree, _changes| {
            let is_lock = tree.is_lock_directory(path);
            let entry = tree.lookup(path).filter(|_| is_lock)?;
            Some(entry.checksum())
        })?;
        let request = LockMessage {
            checksum,
            path: path.clone(),
        };
        Some(Outgoing {
            subtype: UNLOCK_REQUEST,
            payload: request.encode(),
        })
    }
}

fn message(operation: &Operation) -> Result<Outgoing, FsError> {
    let message = OperationMessage::new(operation)?;
    Ok(Outgoing {
        subtype: message.kind as u16,
        payload: message.encode(),
    })
}

fn fill_with_zeros(path: &Bytes, size: u32) -> Result<Vec<Outgoing>, FsError> {
    let mut messages = Vec::new();
    let mut offset = 0;
    while offset < size {
        let length = (size - offset).min(MAX_REQUEST_SIZE);
        messages.push(message(&Operation::Write {
            path: path.clone(),
            offset: u64::from(offset),
            data: Bytes::from(vec![0; length as usize]),
            truncate: false,
        })?);
        offset += length;
    }
    Ok(messages)
}
