//! Copying in and out, with containers and archives that mean ill.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use tar::{Builder, Header};

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc/deep")).unwrap();
        fs::write(root.join("etc/hosts"), "inside").unwrap();
        symlink("/etc/hosts", root.join("etc/deep/link")).unwrap();
        symlink("deep/link", root.join("etc/first")).unwrap();
        symlink("etc", root.join("alias")).unwrap();
        symlink(dir.path().join("outside"), root.join("out")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::create_dir(dir.path().join("volume")).unwrap();
        fs::write(dir.path().join("volume/v"), "volume").unwrap();
        fs::write(dir.path().join("one-file"), "single").unwrap();
        Bench { dir }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn files(&self) -> Files {
        let mount = |source: &str, target: &str, read_only| MountPoint {
            volume: None,
            anonymous: false,
            source: self.at(source),
            target: target.into(),
            read_only,
            propagation: String::new(),
            mode: String::new(),
        };
        let mounts =
            [mount("volume", "/data", false), mount("volume", "/etc/ro/", true), mount("one-file", "/etc/file", false)];
        Files::new("web", open_root(&self.at("root")).unwrap(), &mounts, false)
    }

    fn untouched(&self) {
        assert_eq!(fs::read_dir(self.at("outside")).unwrap().count(), 0, "something was written outside");
        assert_eq!(fs::read_to_string(self.at("root/etc/hosts")).unwrap(), "inside");
    }
}

fn names(bytes: &[u8]) -> String {
    let path = |entry: io::Result<Entry<'_, &[u8]>>| entry.unwrap().path().unwrap().display().to_string();
    Archive::new(bytes).entries().unwrap().map(path).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_a_path_is() {
    let bench = Bench::new();
    let files = bench.files();
    let show = |path: &str| match files.stat(path) {
        Ok(stat) => format!("{} {} {:x} {}", stat.name, stat.size, stat.mode >> 20, stat.link_target),
        Err(error) => format!("{} {error}", error.status()),
    };
    assert_eq!(show("/etc/hosts"), "hosts 6 0 ");
    assert_eq!(show("etc/hosts"), "hosts 6 0 ");
    assert_eq!(show("/alias/hosts"), "hosts 6 0 ");
    assert!(show("/etc/").starts_with("etc ") && show("/etc/").ends_with(" 800 "), "{}", show("/etc/"));
    assert!(show("/").starts_with("/ "));
    assert!(show("/alias").ends_with(" 80 /etc"), "{}", show("/alias"));
    assert!(show("/alias/").ends_with(" 800 "), "{}", show("/alias/"));
    assert!(show("/etc/first").ends_with(" /etc/hosts"), "{}", show("/etc/first"));
    assert_eq!(show("/data/v"), "v 6 0 ");
    assert_eq!(show("/etc/file"), "file 6 0 ");
    for path in
        ["/none", "/etc/hosts/", "/etc/hosts/x", "/out/", "/out/x", "/etc/file/../../one-file", "/data/../one-file"]
    {
        assert_eq!(show(path), format!("404 Could not find the file {path} in container web"));
    }
}

#[test]
fn copied_out() {
    let bench = Bench::new();
    let get = |path: &str| {
        let mut out = Vec::new();
        bench.files().get(path, &mut out).map(|()| names(&out)).unwrap_or_else(|error| error.to_string())
    };
    assert_eq!(get("/etc/hosts"), "hosts");
    assert_eq!(get("/etc"), "etc/ etc/deep/ etc/deep/link etc/first etc/hosts");
    assert_eq!(get("/alias/"), "alias/ alias/deep/ alias/deep/link alias/first alias/hosts");
    assert_eq!(get("/alias"), "alias");
    assert_eq!(get("/data/."), "data/ data/v");
    assert_eq!(get("/etc/file"), "file");
    assert!(get("/").contains("etc/hosts"), "{}", get("/"));
    assert_eq!(get("/out/x"), "Could not find the file /out/x in container web");
}

/// An archive of `kind path[ -> target][ = text]`.
fn archive(entries: &[&str]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for entry in entries {
        let (head, text) = entry.split_once(" = ").unwrap_or((entry, ""));
        let (head, target) = head.split_once(" -> ").unwrap_or((head, ""));
        let (kind, path) = head.split_once(' ').unwrap();
        let mut header = Header::new_gnu();
        header.set_entry_type(match kind {
            "d" => EntryType::Directory,
            "l" => EntryType::Symlink,
            "h" => EntryType::Link,
            "c" => EntryType::Char,
            "p" => EntryType::Fifo,
            _ => EntryType::Regular,
        });
        header.set_mode(if kind == "d" { 0o750 } else { 0o640 });
        header.set_uid(11);
        header.set_gid(12);
        header.set_mtime(1000);
        header.set_size(text.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        // By hand, for the library refuses to write what an attacker would.
        let name = &mut header.as_gnu_mut().unwrap().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        let link = &mut header.as_gnu_mut().unwrap().linkname;
        link[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        tar.append(&header, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn put(bench: &Bench, path: &str, entries: &[&str], how: Put) -> String {
    match bench.files().put(path, &archive(entries)[..], how) {
        Ok(()) => String::new(),
        Err(error) => format!("{} {error}", error.status()),
    }
}

#[test]
fn copied_in() {
    let bench = Bench::new();
    let entries =
        ["d dir", "f dir/f = text", "h dir/g -> dir/f", "l dir/l -> /x", "p dir/p", "c null", "f a/b/c = deep"];
    assert_eq!(put(&bench, "/alias", &entries, Put::default()), "");
    let f = fs::metadata(bench.at("root/etc/dir/f")).unwrap();
    assert_eq!((f.uid(), f.gid(), f.mode() & 0o7777, f.mtime(), f.nlink()), (11, 12, 0o640, 1000, 2));
    let dir = fs::metadata(bench.at("root/etc/dir")).unwrap();
    assert_eq!((dir.uid(), dir.mode() & 0o7777, dir.mtime()), (11, 0o750, 1000));
    assert_eq!(fs::read_link(bench.at("root/etc/dir/l")).unwrap(), Path::new("/x"));
    assert_eq!(fs::metadata(bench.at("root/etc/null")).unwrap().rdev(), makedev(1, 3));
    assert_eq!(fs::read_to_string(bench.at("root/etc/a/b/c")).unwrap(), "deep");
    // A second time, over what is there, for somebody else.
    assert_eq!(put(&bench, "/etc/", &entries, Put { owner: Some((5, 6)), keep_kinds: true }), "");
    assert_eq!(fs::metadata(bench.at("root/etc/dir/f")).unwrap().uid(), 5);
    assert_eq!(put(&bench, "/data", &["f w = x"], Put::default()), "");
    assert_eq!(fs::read_to_string(bench.at("volume/w")).unwrap(), "x");
    bench.untouched();
}

#[test]
fn directories_and_others_trade_places_only_if_allowed() {
    let bench = Bench::new();
    let keep = Put { keep_kinds: true, ..Put::default() };
    assert_eq!(
        put(&bench, "/", &["f etc = x"], keep),
        "400 cannot overwrite directory \"/etc\" with non-directory \"etc\""
    );
    assert_eq!(
        put(&bench, "/etc", &["d hosts"], keep),
        "400 cannot overwrite non-directory \"/etc/hosts\" with directory \"hosts\""
    );
    bench.untouched();
    assert_eq!(put(&bench, "/", &["f etc = x", "d alias"], Put::default()), "");
    assert_eq!(fs::read_to_string(bench.at("root/etc")).unwrap(), "x");
    assert!(bench.at("root/alias").is_dir() && !bench.at("root/alias").is_symlink());
}

#[test]
fn what_is_refused() {
    let bench = Bench::new();
    for (path, entries, want) in [
        ("/none", vec!["f x"], "404 Could not find the file /none in container web"),
        ("/etc/hosts", vec!["f x"], "400 extraction point is not a directory"),
        ("/etc/ro", vec!["f x"], "403 mounted volume is marked read-only"),
        ("/etc", vec!["f ../x"], "400 invalid archive entry \"../x\": it leads out of the extraction point"),
        ("/etc", vec!["f a/../../x"], "400 invalid archive entry \"a/../../x\": it leads out of the extraction point"),
        (
            "/etc",
            vec!["h x -> ../../one-file"],
            "400 invalid archive entry \"../../one-file\": it leads out of the extraction point",
        ),
        // Links, of the image or of the archive itself, end inside: below the root there is no such place.
        ("/out", vec!["f x"], "404 Could not find the file /out in container web"),
        ("/", vec!["f out/x"], "500 unpack out/x: No such file or directory (os error 2)"),
        ("/", vec!["l up -> ../../../outside", "f up/x"], "500 unpack up/x: No such file or directory (os error 2)"),
        ("/", vec!["h x -> out/y"], "500 unpack x: No such file or directory (os error 2)"),
    ] {
        assert_eq!(put(&bench, path, &entries, Put::default()), want, "{path} {entries:?}");
    }
    bench.untouched();
    let junk = bench.files().put("/etc", &[1u8; 700][..], Put::default()).unwrap_err();
    assert!(junk.status() == 400 && junk.to_string().contains("the archive is broken"), "{junk}");
    let mut short = archive(&["f x = 0123456789"]);
    short.truncate(515);
    let cut = bench.files().put("/etc", &short[..], Put::default()).unwrap_err();
    assert!(cut.status() == 400 && cut.to_string().contains("the archive is broken"), "{cut}");
    let read_only = Files::new("web", open_root(&bench.at("root")).unwrap(), &[], true);
    let error = read_only.put("/etc", &archive(&["f x"])[..], Put::default()).unwrap_err();
    assert_eq!(error.to_string(), "container rootfs is marked read-only");
}
