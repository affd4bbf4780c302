//! An inbox for the callbacks of a connection.

use std::cell::RefCell;
use std::thread::LocalKey;

/// The items that callbacks of one kind have brought during the dispatching call on this thread.
pub(super) type Inbox<T> = RefCell<Vec<T>>;

/// Runs a dispatching call and returns the items that its callbacks brought.
pub(super) fn collect<T: 'static, R>(
    inbox: &'static LocalKey<Inbox<T>>,
    dispatch: impl FnOnce() -> R,
) -> (R, Vec<T>) {
    inbox.with_borrow_mut(Vec::clear);
    let result = dispatch();
    (result, inbox.take())
}

/// To be called by callbacks.
pub(super) fn put<T: 'static>(inbox: &'static LocalKey<Inbox<T>>, item: T) {
    inbox.with_borrow_mut(|items| items.push(item));
}
