//! The messages for an operation of this node.
//!
//! The counterpart of `apply`: only here may local knowledge decide.

use bytes::Bytes;
use pmxcfs_api_types::{Result, limits::MAX_REQUEST_SIZE};
use pmxcfs_memdb::{Operation, Precheck, Tree};

use super::wire::{LockMessage, OperationMessage, UNLOCK_REQUEST};
use crate::app::Outgoing;

/// The messages for an operation, in order. None if there is nothing to do.
///
/// # Errors
/// As [`Tree::check_before_send`].
pub(super) fn messages(tree: &Tree, operation: Operation) -> Result<Vec<Outgoing>> {
    match (tree.check_before_send(&operation)?, operation) {
        (Precheck::NothingToDo, _) => Ok(Vec::new()),
        (Precheck::FillWithZeros { size }, Operation::Write { path, .. }) => {
            fill_with_zeros(&path, size)
        }
        (_, operation) => {
            let unlock = unlock_request(tree, &operation);
            let messages = unlock.into_iter().map(Ok).chain([message(&operation)]);
            messages.collect()
        }
    }
}

/// Setting a lock's mtime to 0 asks for its removal; the operation itself then fails for the caller.
fn unlock_request(tree: &Tree, operation: &Operation) -> Option<Outgoing> {
    let Operation::SetMtime { path, mtime: 0 } = operation else {
        return None;
    };
    let entry = tree.lookup(path).filter(|_| tree.is_lock_directory(path))?;
    let request = LockMessage {
        checksum: entry.checksum(),
        path: path.clone(),
    };
    Some(Outgoing {
        subtype: UNLOCK_REQUEST,
        payload: request.encode(),
    })
}

fn message(operation: &Operation) -> Result<Outgoing> {
    let message = OperationMessage::new(operation)?;
    Ok(Outgoing {
        subtype: message.kind as u16,
        payload: message.encode(),
    })
}

fn fill_with_zeros(path: &Bytes, size: u32) -> Result<Vec<Outgoing>> {
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
