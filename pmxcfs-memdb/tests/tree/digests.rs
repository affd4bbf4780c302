//! The digests that C peers compute over two trees made by operations.

use pmxcfs_memdb::{Index, Rules, Stamp};
use sha2::{Digest as _, Sha256};

use crate::harness::Bench;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn small_tree() {
    let mut bench = Bench::new(Rules::Replicated);
    bench.stamp = Stamp {
        writer: 3,
        mtime: 1_700_000_000,
    };
    assert_eq!(bench.mkdir("dir"), Ok(0));
    assert_eq!(bench.create("dir/a.txt"), Ok(0));
    assert_eq!(bench.write("dir/a.txt", 0, b"hello"), Ok(5));
    assert_eq!(bench.create("empty"), Ok(0));
    bench.stamp = Stamp {
        writer: 1,
        mtime: 1_700_000_001,
    };
    assert_eq!(bench.mkdir("priv"), Ok(0));

    let expected = [
        (
            0,
            "",
            6,
            "926254eaeefd74232a48a197335eb0b35a1486128a282ca20a6e2f2590672941",
        ),
        (
            2,
            "dir",
            2,
            "93d0a0b769481c27444a50932be34dd20c29b2eda4f126c36b05d5c9f501389b",
        ),
        (
            3,
            "a.txt",
            4,
            "6cef1b07f12d92c5965abefe49620c6631271e872cf854052b11d9182efeffb4",
        ),
        (
            5,
            "empty",
            5,
            "f67bdc7b35c4c2c3fec3f0d0d3f108e9c0caac343ab73d26cc15d3e96428b810",
        ),
        (
            6,
            "priv",
            6,
            "5a673dd63ddeed52218b14c9df25de475e37dce52cb68a6acd965d5760dbca1b",
        ),
    ];
    let found: Vec<_> = bench.tree.entries().collect();
    assert_eq!(found.len(), expected.len());
    for (entry, (inode, name, version, checksum)) in found.into_iter().zip(expected) {
        assert_eq!(entry.inode, inode);
        assert_eq!(entry.name, name);
        assert_eq!(entry.version, version);
        assert_eq!(hex(&entry.checksum()), checksum, "{name}");
    }
    assert_eq!(
        hex(&bench.tree.snapshot().checksum()),
        "f87f6cf0aceb4135a069dd9074e345f4b4383d6e9415993aa4297948a5acdc50"
    );
    let index = concat!(
        "0600000000000000",
        "0600000000000000",
        "01000000",
        "01f15365",
        "05000000",
        "e8000000",
        "0000000000000000",
        "74f00606411cd77ef6ae63b052e7d9b4f5ad493fdb941ea37d122c882274f938",
        "0200000000000000",
        "faf5ce4d20b2b98ce88543fe7d4d07f1667f183114ec24c005835adb6fafd182",
        "0300000000000000",
        "d215b6bfb54e60546877be6f78110f2fee2cb61997786abb1052e8bc9bb8bef4",
        "0500000000000000",
        "c9612d44649561495023678bc6945ee32c5df3407249295a530cb080ef7535ba",
        "0600000000000000",
        "c7784aa31fd2abed61c2096303ad58fafe521c0aff7774f6d085ea3c2bb8fb0f",
    );
    let encoded = bench.tree.index().bytes().clone();
    assert_eq!(hex(&encoded), index);
    assert_eq!(Index::decode(&encoded), Ok(bench.tree.index()));
}

#[test]
fn hundred_files_of_zeros() {
    let mut bench = Bench::new(Rules::Replicated);
    bench.stamp = Stamp {
        writer: 0,
        mtime: 1234,
    };
    for i in 0..100 {
        let path = format!("testfile{i}");
        assert_eq!(bench.create(&path), Ok(0));
        assert_eq!(bench.write(&path, 0, &[0; 32768]), Ok(32768));
    }
    let index = bench.tree.index();
    assert_eq!(index.root().version, 201);
    assert_eq!(index.entries().last().expect("many").inode, 200);
    assert_eq!(index.entries().len(), 101);
    assert_eq!(
        hex(&Sha256::digest(index.bytes())),
        "913fd95015af9d93f10dd51ba2a7bb11351bcfe040be21e95fcba834adc3ec10"
    );
}

#[test]
fn a_hole_counts_with_its_size_and_without_data() {
    let mut bench = Bench::of(Rules::Replicated, &["f!"]);
    let mut zeros = bench.at("f").clone();
    assert_eq!(bench.truncate("f", 8), Ok(0));
    let hole = bench.at("f").clone();
    zeros.version = hole.version;
    zeros.size = 8;
    assert_eq!(hole.checksum(), zeros.checksum());
    assert_eq!(hole.index_digest(), zeros.index_digest());

    zeros.data = vec![0; 8].into();
    assert_ne!(hole.checksum(), zeros.checksum());
}
