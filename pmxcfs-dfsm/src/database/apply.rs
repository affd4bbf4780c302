//! Delivered operations.
//!
//! All members apply the same messages in the same order; nothing here may depend on this node, apart from its answers
//! and notices, and from which member watches the locks.

use pmxcfs_api_types::{FsError, Result, names::COROSYNC_CONF};
use pmxcfs_memdb::{Operation, Stamp};

use super::{
    Database, DatabaseNotice, TreeStore,
    wire::{LockMessage, OperationKind, OperationMessage, UNLOCK, UNLOCK_REQUEST},
};
use crate::{
    app::{Application as _, Context, Delivery, Outgoing, Verdict},
    core::LogLevel,
    wire::DecodeError,
};

impl<S: TreeStore> Database<S> {
    pub(super) fn apply_message(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Verdict {
        let kind = OperationKind::try_from(delivery.subtype).ok();
        if kind.is_none() && !matches!(delivery.subtype, UNLOCK_REQUEST | UNLOCK) {
            let error = DecodeError::Subtype(delivery.subtype);
            return self.ignore(delivery, error, FsError::NotPermitted, context);
        }
        if !context.is_quorate {
            context.log(
                LogLevel::Error,
                "received write while not quorate - trigger resync",
            );
            return Verdict::Leave;
        }
        match kind {
            Some(kind) => match OperationMessage::decode(kind, delivery.payload) {
                Ok(message) => self.apply_operation(&message, delivery, context),
                Err(error) => self.ignore(delivery, error, FsError::Invalid, context),
            },
            None => match LockMessage::decode(delivery.payload) {
                Ok(message) => self.apply_unlock(&message, delivery, context),
                Err(error) => self.ignore(delivery, error, FsError::Invalid, context),
            },
        }
    }

    fn apply_operation(
        &mut self,
        message: &OperationMessage,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Verdict {
        if self.store.is_failed() {
            return Verdict::Fail;
        }
        let operation = match message.operation() {
            Ok(operation) => operation,
            Err(error) => {
                self.fail_waiting(delivery, error);
                return Verdict::Done;
            }
        };
        let result = self.change_tree(&operation, delivery, context);
        if self.store.is_failed() {
            return Verdict::Fail;
        }
        if result.is_ok() && is_corosync_conf(&operation) {
            let reload = delivery.sender == context.local;
            (self.notice)(DatabaseNotice::CorosyncConf { reload });
        }
        Verdict::Done
    }

    /// A request is decided by the member with the lowest node id, whose clock alone counts; the decision is carried out
    /// by all, if the lock is still in the state that was meant.
    fn apply_unlock(
        &mut self,
        message: &LockMessage,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Verdict {
        if self.store.is_failed() {
            return Verdict::Fail;
        }
        let LockMessage { checksum, path } = message;
        let is_decision = delivery.subtype == UNLOCK;
        let decides = context.local.node == context.lowest_node;
        let now_secs = context.now.monotonic_ms / 1000;
        let (is_meant, is_expired) = self
            .store
            .change(|tree, _changes| {
                let is_lock = tree.is_lock_directory(path);
                let entry = tree.lookup(path).filter(|_| is_lock);
                let is_meant = entry.is_some_and(|entry| entry.checksum() == *checksum);
                let is_asked = is_meant && decides && !is_decision;
                let is_expired = is_asked && tree.lock_expired(path, checksum, now_secs);
                (is_meant, is_expired)
            })
            .0;
        if is_expired {
            context.send(Outgoing {
                subtype: UNLOCK,
                payload: message.encode(),
            });
        }
        if is_decision && is_meant {
            let delete = Operation::Delete { path: path.clone() };
            if let Err(error) = self.change_tree(&delete, delivery, context) {
                let text = format!("unable to remove lock {}: {error}", path.escape_ascii());
                context.log(LogLevel::Warn, text);
            }
        }
        if self.store.is_failed() {
            return Verdict::Fail;
        }
        Verdict::Done
    }

    fn change_tree(
        &mut self,
        operation: &Operation,
        delivery: &Delivery<'_>,
        context: &Context<'_>,
    ) -> Result<u32> {
        let caller = delivery.request.and_then(|id| self.callers.remove(&id));
        let stamp = Stamp {
            writer: delivery.sender.node,
            mtime: delivery.time_secs,
        };
        let now_secs = context.now.monotonic_ms / 1000;
        let delivered = self.store.deliver(operation, stamp, now_secs, caller);
        self.answers.extend(delivered.answer);
        delivered.result
    }

    /// C peers leave the group over such a message without applying it, and come back to this member's data.
    fn ignore(
        &mut self,
        delivery: &Delivery<'_>,
        error: DecodeError,
        result: FsError,
        context: &mut Context<'_>,
    ) -> Verdict {
        let text = format!("ignore malformed write of {}: {error}", delivery.sender);
        context.log(LogLevel::Warn, text);
        self.fail_waiting(delivery, result);
        Verdict::Done
    }

    fn fail_waiting(&mut self, delivery: &Delivery<'_>, error: FsError) {
        if let Some(id) = delivery.request {
            self.fail(id, error);
        }
    }
}

fn is_corosync_conf(operation: &Operation) -> bool {
    let path = match operation {
        Operation::Create { path } | Operation::Write { path, .. } => path,
        Operation::Rename { to, .. } => to,
        Operation::Mkdir { .. } | Operation::Delete { .. } | Operation::SetMtime { .. } => {
            return false;
        }
    };
    path == COROSYNC_CONF.as_bytes()
}
