//! Messages that corosync does not take yet.

use std::time::Duration;

use pmxcfs_services::corosync::SendError;

use super::host::{Configuration, on_host};
use super::member::{Member, message};

const SIZE: usize = 60_000;

/// Corosync lets nobody send that many at once.
const MOST: u32 = 100_000;

/// How many are sent after the first one that had to wait.
const REST: u32 = 2000;

fn numbered(body: &mut [u8], number: u32) -> &[u8] {
    body[..4].copy_from_slice(&number.to_le_bytes());
    body
}

#[test]
fn what_corosync_does_not_take_yet_can_be_sent_later_in_order() {
    on_host(&Configuration::default(), |host| {
        host.runtime().block_on(async {
            let mut member = Member::join("group").await;
            let mut body = message(0, SIZE).to_vec();
            let mut count = MOST;
            let (mut sent, mut received) = (0, 0);
            while received < count {
                while sent < count {
                    match member.cpg.send(numbered(&mut body, sent)) {
                        Ok(()) => sent += 1,
                        Err(SendError::Blocked) => {
                            count = count.min(sent + REST);
                            break;
                        }
                        Err(error @ SendError::Failed(_)) => panic!("{error}"),
                    }
                }
                let soon = Duration::from_millis(1);
                let next = tokio::time::timeout(soon, member.cpg.receive()).await;
                if let Ok(events) = next {
                    member.put_back(events.expect("corosync runs"));
                }
                while let Some(message) = member.take_message() {
                    assert!(
                        message == numbered(&mut body, received),
                        "not number {received}"
                    );
                    received += 1;
                }
            }
            assert!(count < MOST, "corosync took everything at once");
        });
    });
}
