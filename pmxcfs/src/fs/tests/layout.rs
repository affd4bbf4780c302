//! What the tables that outlive a process look like: another version of the program reads them.

use std::collections::HashMap;

use pmxcfs_memdb::{Entry, EntryKind, ListedEntry};

use super::super::tables::{HandleRecord, Kept, NewName, Opened, Orphan, Outcome};
use super::*;

/// Everything that the words of the tables can say, as it has been since a version of the layout.
///
/// If this fails, a process would misread what a former one has left: raise `LAYOUT_VERSION` and put the new checksum here.
#[test]
fn another_layout_is_another_version() {
    let mut tables = Tables::create().unwrap();
    let name = |id, parent, name, kind, origin| NewName {
        id,
        parent,
        name,
        kind,
        origin,
    };
    let long = [b'n'; 1024];
    let (directory, file) = (EntryKind::Directory, EntryKind::File);
    let slot = tables.names.add(&name(7, ROOT_ID, b"d", directory, 7));
    tables.names.add(&name(8, 7, &long, file, 8)).unwrap();
    let other = tables.names.add(&name(9, 7, b"other", file, 9)).unwrap();
    tables
        .names
        .add_follower(slot.unwrap(), 7, b"e", 12)
        .unwrap();
    tables.names.set_lookups(other, 3);
    tables.names.displace(other);
    for (opened, id, inode) in [
        (Opened::File, 8, Some(8)),
        (Opened::File, 9, None),
        (Opened::Directory, 7, Some(7)),
        (Opened::Plugin, 4, None),
    ] {
        let record = HandleRecord {
            number: tables.handles.draw(),
            opened_by: 20,
            uid: 33,
            opened,
            id,
            inode,
        };
        tables.handles.add(&record).unwrap();
    }
    for (result, is_alone) in [(Ok(4096), true), (Err(16), false)] {
        let slot = tables.answers.take().unwrap();
        let outcome = Outcome {
            result,
            is_alone,
            version: 12,
        };
        tables.answers.end(slot, 22, outcome);
    }
    let slot = tables.answers.take().unwrap();
    tables.answers.begin(slot, 24);
    tables.agreement().keep(b"what was agreed").unwrap();
    let rows = [ListedEntry {
        inode: 8,
        kind: file,
        name: Bytes::from_static(b"f"),
    }];
    let entry = Entry {
        inode: 8,
        parent: 7,
        version: 11,
        writer: 2,
        mtime: 1_000,
        size: 4,
        kind: file,
        name: Bytes::from_static(b"f"),
        data: Bytes::from_static(b"text"),
    };
    let orphan = Orphan {
        entry,
        is_private: true,
    };
    let kept = Kept {
        texts: HashMap::from([(1, Bytes::from_static(b"generated"))]),
        listings: HashMap::from([(2, rows.into())]),
        orphans: HashMap::from([(8, orphan)]),
    };
    tables.kept_area.keep(&kept).unwrap();
    assert_eq!(tables.killer().checksum(), (1, 3_159_152_452));
}
