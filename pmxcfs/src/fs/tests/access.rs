//! Plugins, permissions, quorum.

use super::*;

fn mode(mode: u32) -> NewAttributes {
    NewAttributes {
        mode: Some(mode),
        ..NewAttributes::default()
    }
}

#[test]
fn plugins_hide_the_tree_and_refuse_changes() {
    let bench = Bench::new();
    bench.peer_makes(".text", "in the tree");
    let text = bench.walk(".text").unwrap();
    assert!(text.is_generated && text.size == 9 && text.mode == 0o440);
    assert_eq!(bench.read_id(text.id).unwrap(), "generated");
    let link = bench.walk("local").unwrap();
    assert_eq!(bench.fs.link_target(link.id), Ok("nodes/node"));
    assert_eq!(bench.fs.link_target(text.id), Err(FsError::Invalid));
    assert_eq!(bench.walk("local/x").unwrap_err(), FsError::NotDirectory);

    let made = bench.create(ROOT_ID, "f", IfExists::Refuse).unwrap();
    assert_eq!(bench.remove(ROOT_ID, ".text"), Err(FsError::Access));
    assert_eq!(bench.mkdir(ROOT_ID, ".text").unwrap_err(), FsError::Exists);
    for (from, to) in [(".text", "g"), ("f", ".text"), ("local", "g")] {
        let result = bench.rename((ROOT_ID, from), (ROOT_ID, to));
        assert_eq!(result, Err(FsError::Access));
    }
    assert_eq!(bench.open_cut(text.id), Err(FsError::Io));
    let handle = bench.open(text.id).unwrap();
    assert_eq!(
        bench.write(handle, WriteAt::Offset(0), "x"),
        Err(FsError::Io)
    );
    assert_eq!(bench.read(made.handle).unwrap(), "");
    // Below the root the name is like any other.
    let directory = bench.mkdir(ROOT_ID, "d").unwrap().id;
    bench.mkdir(directory, ".text").unwrap();
}

#[test]
fn chmod_and_chown_change_nothing() {
    let bench = Bench::new();
    let made = bench.create(ROOT_ID, "f", IfExists::Refuse).unwrap();
    let id = made.attributes.id;
    assert_eq!(bench.set(id, None, mode(0o640)).unwrap(), made.attributes);
    assert_eq!(bench.set(id, None, mode(0o600)), Err(FsError::NotPermitted));
    let private = bench.mkdir(ROOT_ID, "priv").unwrap();
    assert_eq!(private.mode, 0o700);
    assert!(bench.set(private.id, None, mode(0o600)).is_ok());
    assert_eq!(
        bench.set(private.id, None, mode(0o700)),
        Err(FsError::NotPermitted)
    );
    let owner = |uid, gid| NewAttributes {
        uid,
        gid,
        ..NewAttributes::default()
    };
    assert!(bench.set(id, None, owner(Some(0), Some(GID))).is_ok());
    assert_eq!(
        bench.set(id, None, owner(Some(1), None)),
        Err(FsError::NotPermitted)
    );
    let text = bench.id(".text");
    assert!(bench.set(text, None, mode(0o640)).is_ok());
    let utime = NewAttributes {
        mtime: Some(7),
        is_utime: true,
        ..NewAttributes::default()
    };
    assert_eq!(bench.set(text, None, utime), Err(FsError::Access));
    assert_eq!(bench.set(id, None, utime).unwrap().mtime, 7);
}

#[test]
fn without_quorum_everything_is_read_only() {
    let bench = Bench::new();
    let made = bench.create(ROOT_ID, "f", IfExists::Refuse).unwrap();
    bench.write(made.handle, WriteAt::End, "text").unwrap();
    bench.is_quorate.store(false, Ordering::Relaxed);
    let id = made.attributes.id;
    assert_eq!(bench.fs.attributes(id, None).unwrap().mode, 0o440);
    assert_eq!(bench.walk("local").unwrap().mode, 0o555);
    assert_eq!(bench.read_id(id).unwrap(), "text");
    assert_eq!(
        bench.write(made.handle, WriteAt::End, "x"),
        Err(FsError::Access)
    );
    assert_eq!(bench.open_cut(id), Err(FsError::Access));
    assert_eq!(bench.mkdir(ROOT_ID, "d").unwrap_err(), FsError::Access);
    assert_eq!(bench.remove(ROOT_ID, "f"), Err(FsError::Access));
    assert_eq!(bench.read(made.handle).unwrap(), "text");
}

#[test]
fn names_have_a_longest_length() {
    let bench = Bench::new();
    let long = "n".repeat(1024);
    let id = bench.mkdir(ROOT_ID, &long).unwrap().id;
    assert_eq!(bench.id(&long), id);
    let longer = "n".repeat(1025);
    assert_eq!(bench.walk(&longer).unwrap_err(), FsError::NameTooLong);
    assert_eq!(
        bench.mkdir(ROOT_ID, &longer).unwrap_err(),
        FsError::NameTooLong
    );
}

#[test]
fn what_a_user_keeps_by_open_handles_has_a_bound() {
    let bench = Bench::new();
    let open = |id, uid| wait(|reply| bench.fs.open(bench.request_of(uid), id, false, reply));
    let content = "x".repeat(1024 * 1024);
    bench.peer_makes("small", "x");
    let small = bench.id("small");
    let mut handles = Vec::new();
    for _ in 0..66 {
        bench.peer_makes("f", &content);
        let id = bench.id("f");
        // Several handles of one version are charged once, and what is in the tree is not.
        match (open(id, 33), open(id, 33)) {
            (Ok(one), Ok(other)) => handles.extend([one, other]),
            refused => assert_eq!(
                refused,
                (Err(FsError::TooMuchOpen), Err(FsError::TooMuchOpen))
            ),
        }
        bench.peer_removes("f");
    }
    assert_eq!(handles.len(), 2 * 65);
    let refused = [
        open(small, 33),
        bench.fs.open_directory(bench.request_of(33), ROOT_ID),
    ];
    assert_eq!(refused, [Err(FsError::TooMuchOpen); 2]);
    assert_eq!(open(bench.id(".text"), 33), Err(FsError::TooMuchOpen));
    for uid in [0, 1000] {
        bench.fs.close(open(small, uid).unwrap());
    }
    assert_eq!(bench.read(handles[0]).unwrap(), content);
    handles.drain(..4).for_each(|handle| bench.fs.close(handle));
    bench.fs.close(open(small, 33).unwrap());
    handles
        .into_iter()
        .for_each(|handle| bench.fs.close(handle));
    assert_eq!(bench.db.read().orphan_bytes_of(33), 0);
}

#[test]
fn listings_and_texts_are_charged_to_who_has_them_open() {
    let bench = Bench::new();
    for name in ["a", "bc"] {
        bench.create(ROOT_ID, name, IfExists::Refuse).unwrap();
    }
    let directory = bench
        .fs
        .open_directory(bench.request_of(33), ROOT_ID)
        .unwrap();
    assert_eq!(bench.fs.handles.bytes_of(33), 0, "nothing has been read");
    bench.fs.list(directory, 0, |_row| true).unwrap();
    let charged = bench.fs.handles.bytes_of(33);
    assert!(charged > 3);
    bench.fs.list(directory, 0, |_row| true).unwrap();
    assert_eq!(bench.fs.handles.bytes_of(33), charged);
    let text = bench.id(".text");
    let text = wait(|reply| bench.fs.open(bench.request_of(33), text, false, reply)).unwrap();
    assert_eq!(bench.fs.handles.bytes_of(33), charged + 9);
    bench.fs.close(directory);
    bench.fs.close(text);
    assert_eq!(bench.fs.handles.bytes_of(33), 0);
}
