//! Archives made by hand, byte by byte where a tar writer would refuse.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::Write;
use std::path::Path;

use images::{ImportSpec, Reference, Store};

/// A tar archive under construction.
#[derive(Default)]
pub struct Archive(Vec<u8>);

pub struct Item {
    pub kind: u8,
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u64,
    pub owner: (u64, u64),
    pub mtime: u64,
    pub dev: (u32, u32),
    /// What the header says; the data's length if `None`.
    pub size: Option<u64>,
    pub data: Vec<u8>,
}

pub fn item(kind: u8, name: &str) -> Item {
    Item {
        kind,
        name: name.into(),
        link: Vec::new(),
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        owner: (0, 0),
        mtime: 1_000_000_000,
        dev: (0, 0),
        size: None,
        data: Vec::new(),
    }
}

impl Archive {
    pub fn new() -> Archive {
        Archive::default()
    }

    pub fn put(mut self, item: Item) -> Archive {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..item.name.len()].copy_from_slice(&item.name);
        old.linkname[..item.link.len()].copy_from_slice(&item.link);
        old.linkflag[0] = item.kind;
        header.set_mode(item.mode as u32);
        header.set_uid(item.owner.0);
        header.set_gid(item.owner.1);
        header.set_mtime(item.mtime);
        header.set_size(item.size.unwrap_or(item.data.len() as u64));
        header.set_device_major(item.dev.0).unwrap();
        header.set_device_minor(item.dev.1).unwrap();
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(&item.data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Archive {
        self.put(Item { data: data.to_vec(), ..item(b'0', name) })
    }

    pub fn dir(self, name: &str) -> Archive {
        self.put(item(b'5', name))
    }

    pub fn symlink(self, name: &str, target: &str) -> Archive {
        self.put(Item { link: target.into(), ..item(b'2', name) })
    }

    pub fn hardlink(self, name: &str, target: &str) -> Archive {
        self.put(Item { link: target.into(), ..item(b'1', name) })
    }

    pub fn device(self, kind: u8, name: &str, major: u32, minor: u32) -> Archive {
        self.put(Item { dev: (major, minor), ..item(kind, name) })
    }

    /// A pax header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Archive {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            write!(data, "{length} {key}=").unwrap();
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.put(Item { data, ..item(b'x', "pax") })
    }

    pub fn raw(mut self, bytes: &[u8]) -> Archive {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    /// Without the blocks of zeros that end an archive.
    pub fn unfinished(self) -> Vec<u8> {
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive with a file, a directory and a link.
pub fn small() -> Vec<u8> {
    Archive::new()
        .dir("bin/")
        .file("bin/tool", b"#!/bin/sh\n")
        .symlink("bin/alias", "tool")
        .file("etc/conf", b"a=1\n")
        .end()
}

pub fn named(name: &str) -> ImportSpec {
    ImportSpec { reference: Some(Reference::parse(name).unwrap()), ..ImportSpec::default() }
}

/// Every path below a directory, sorted.
pub fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let entry = entry.unwrap();
            found.push(entry.path().strip_prefix(dir).unwrap().to_string_lossy().into_owned());
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// What a store without images has on disk.
pub fn assert_bare(root: &Path, when: &str) {
    let left: Vec<String> =
        listing(root).into_iter().filter(|path| !["lock", "names.json"].contains(&path.as_str())).collect();
    assert_eq!(left, ["blobs", "images", "layers", "tmp"], "{when}: something was left behind");
}

pub fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}
