//! A member of a group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pmxcfs_dfsm::core::Event;
use pmxcfs_services::corosync::{Cpg, SendError};

use super::host::within;

/// A connection that has joined, and what it has received.
pub(crate) struct Member {
    pub(crate) cpg: Arc<Cpg>,
    received: VecDeque<Event>,
}

impl Member {
    /// Connects and joins, and takes in the membership change that follows.
    pub(crate) async fn join(group: &str) -> Self {
        let cpg = tokio::task::spawn_blocking(Cpg::connect).await;
        let cpg = cpg.expect("no panic").expect("corosync runs");
        within("a join", async {
            while let Err(error) = cpg.join(group) {
                assert!(error.is_try_again(), "{error}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let mut member = Self {
            cpg: Arc::new(cpg),
            received: VecDeque::new(),
        };
        let Event::Membership {
            members,
            has_joined,
        } = member.next().await
        else {
            panic!("a message before the membership");
        };
        assert!(members.contains(&member.cpg.local()), "{members:?}");
        assert!(has_joined);
        member
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Event {
        within("an event", async {
            loop {
                if let Some(event) = self.received.pop_front() {
                    return event;
                }
                let events = self.cpg.receive().await.expect("corosync runs");
                self.received.extend(events);
            }
        })
        .await
    }

    /// Leaves events that came in behind the others for later.
    pub(crate) fn put_back(&mut self, events: Vec<Event>) {
        self.received.extend(events);
    }

    /// The next event, which is a message of this process.
    pub(crate) async fn next_message(&mut self) -> Bytes {
        let event = self.next().await;
        self.own_message(event)
    }

    /// The same, of those that have come in.
    pub(crate) fn take_message(&mut self) -> Option<Bytes> {
        let event = self.received.pop_front()?;
        Some(self.own_message(event))
    }

    fn own_message(&self, event: Event) -> Bytes {
        match event {
            Event::Delivered { sender, message } => {
                assert_eq!(sender, self.cpg.local());
                message
            }
            event => panic!("{event:?}"),
        }
    }

    /// Sends a message, on a thread that may wait and as often as it takes.
    pub(crate) async fn send(&self, message: &Bytes) {
        within("a message to be sent", async {
            loop {
                let (cpg, message) = (Arc::clone(&self.cpg), message.clone());
                let sent = tokio::task::spawn_blocking(move || cpg.send(&message)).await;
                match sent.expect("no panic") {
                    Ok(()) => return,
                    Err(SendError::Blocked) => tokio::time::sleep(Duration::from_millis(1)).await,
                    Err(error @ SendError::Failed(_)) => panic!("{error}"),
                }
            }
        })
        .await;
    }
}

/// A message that cannot be mistaken for another one, or for a part of it.
pub(crate) fn message(number: u32, size: usize) -> Bytes {
    let pattern = (0..size).map(|at| {
        let word =
            number.wrapping_mul(0x9e37_79b1) ^ u32::try_from(at / 4).expect("not that large");
        word.to_le_bytes()[at % 4]
    });
    pattern.collect()
}
