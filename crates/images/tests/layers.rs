//! What layers may and may not do. Needs root: owners, devices and `trusted.*` attributes are root's to give.

mod common;

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use common::{Archive, Item, assert_bare, gzip, item, listing, named, open};
use images::{Image, ImportSpec, Limits, Refusal, Store};

fn unpacked(store: &Store, archive: Vec<u8>) -> (Image, PathBuf) {
    let image = store.import(&archive[..], &ImportSpec::default()).unwrap();
    let layer = store.layers(&image).remove(0);
    (image, layer)
}

fn whiteout(path: &PathBuf) -> bool {
    let data = std::fs::symlink_metadata(path).unwrap();
    data.file_type().is_char_device() && data.rdev() == 0
}

fn attribute(path: &PathBuf, key: &str) -> Option<Vec<u8>> {
    let mut value = [0; 64];
    let length = rustix::fs::lgetxattr(path, key, &mut value[..]).ok()?;
    Some(value[..length].to_vec())
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".as_slice();
    let mut wrong_sum = Archive::new().file("a", b"x").end();
    wrong_sum[0] = b'b';
    let mut truncated = Archive::new().file("a", &[7; 5000]).unfinished();
    truncated.truncate(2000);
    let mut damaged = gzip(&Archive::new().file("a", &[7; 100_000]).end());
    // In the checksum at its end: damage further in may look like a damaged archive instead.
    let sum = damaged.len() - 6;
    damaged[sum] ^= 0xff;
    let mut cut = zstd::encode_all(&Archive::new().file("a", b"x").end()[..], 1).unwrap();
    cut.truncate(cut.len() - 5);
    let long_path = vec![b'a'; 5000];
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("dots", Archive::new().file("../evil", b"x").end(), "`../evil`: `..` in a path would leave the layer"),
        ("dots within", Archive::new().file("a/../../evil", b"x").end(), "`a/../../evil`: `..`"),
        ("dots as a directory", Archive::new().dir("..").end(), "`..`: `..` in a path"),
        ("pax path with dots", Archive::new().pax(&[("path", b"../evil")]).file("a", b"x").end(), "`../evil`"),
        ("hard link outside", Archive::new().hardlink("a", "../../etc/passwd").end(), "`../../etc/passwd`: `..`"),
        (
            "hard link to the host",
            Archive::new().hardlink("a", "/etc/passwd").end(),
            "`a`: a hard link to `/etc/passwd`, which the layer does not hold",
        ),
        (
            "hard link through a link",
            Archive::new().symlink("l", "/etc").hardlink("a", "l/passwd").end(),
            "a hard link to `l/passwd`, which the layer does not hold",
        ),
        (
            "hard link to a directory",
            Archive::new().dir("d").hardlink("a", "d").end(),
            "`a`: a hard link to `d`, which is no file",
        ),
        ("hard link to nothing", Archive::new().hardlink("a", "").end(), "`a`: a hard link"),
        (
            "write through a dangling link",
            Archive::new().symlink("l", "nowhere").file("l/a", b"x").end(),
            "`l/a`: its directory is a symbolic link that leads nowhere",
        ),
        (
            "loop of links",
            Archive::new().symlink("a", "b").symlink("b", "a").file("a/x", b"x").end(),
            "`a/x`: its directory is a loop",
        ),
        ("below a file", Archive::new().file("a", b"x").file("a/b", b"x").end(), "`a/b`: its directory is a file"),
        ("empty symbolic link", Archive::new().symlink("a", "").end(), "`a`: a symbolic link to nothing"),
        ("overlay's own mark", Archive::new().device(b'3', "a", 0, 0).end(), "`a`: a character device 0:0"),
        ("whiteout of nothing", Archive::new().file(".wh.", b"").end(), "`.wh.`: a whiteout of nothing"),
        ("whiteout of the parent", Archive::new().file("d/.wh...", b"").end(), "`d/.wh...`: a whiteout of nothing"),
        ("root as a file", Archive::new().symlink("./", "x").end(), "only a directory can be the layer's root"),
        (
            "owner that means nobody",
            Archive::new().put(Item { owner: (u64::from(u32::MAX), 0), ..item(b'0', "a") }).end(),
            "`a`: owner 4294967295:0",
        ),
        (
            "owner over 32 bits",
            Archive::new().pax(&[("uid", b"99999999999")]).file("a", b"").end(),
            "`a`: owner 99999999999:0",
        ),
        (
            "long path",
            Archive::new().pax(&[("path", &long_path)]).file("a", b"").end(),
            "its path of 5000 bytes is over the limit of 4095",
        ),
        (
            "long name",
            Archive::new().pax(&[("path", &long_path[..300])]).file("a", b"").end(),
            "a name of more than 255 bytes",
        ),
        (
            "zero byte in a name",
            Archive::new().pax(&[("path", b"a\0b")]).file("a", b"").end(),
            "a name holds a zero byte",
        ),
        (
            "endless long name",
            Archive::new().put(Item { size: Some(1 << 40), ..item(b'L', "x") }).unfinished(),
            "its extended header of 1099511627776 bytes",
        ),
        (
            "endless pax header",
            Archive::new().put(Item { size: Some(1 << 40), ..item(b'x', "x") }).unfinished(),
            "its extended header of 1099511627776 bytes",
        ),
        (
            "malformed pax",
            Archive::new().put(Item { data: b"99 path=a\n".to_vec(), ..item(b'x', "x") }).end(),
            "its pax header is malformed",
        ),
        (
            "wrong capability",
            Archive::new().pax(&[("SCHILY.xattr.security.capability", b"x")]).file("a", b"").end(),
            "`a`: its extended attribute security.capability",
        ),
        ("unknown kind", Archive::new().put(item(b'V', "a")).end(), "`a`: kind `V` is not one of POSIX tar"),
        ("wrong checksum", wrong_sum, "wrong checksum"),
        ("truncated data", truncated, "the archive is truncated"),
        ("truncated header", Archive::new().raw(b"short").unfinished(), "it is truncated or not a tar archive"),
        ("text", vec![b'x'; 2048], "not a tar archive"),
        ("damaged gzip", damaged, "the gzip data is damaged"),
        ("cut zstd", cut, "the zstd data is damaged"),
        ("xz", b"\xfd7zXZ\x00rest".to_vec(), "xz compression is not supported"),
        ("bzip2", b"BZh91AY&SY".to_vec(), "bzip2 compression is not supported"),
        (
            "sparse pieces that overlap",
            Archive::new()
                .pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"0,3,2,3")])
                .file("a", b"abcdef")
                .end(),
            "`a`: its sparse pieces overlap",
        ),
        (
            "sparse file of a million terabytes",
            Archive::new()
                .pax(&[("GNU.sparse.size", b"1000000000000000000"), ("GNU.sparse.map", b"0,1")])
                .file("a", b"x")
                .end(),
            "the layer with its entry `a` is over the limit of",
        ),
        (
            "good entries before a bad one",
            Archive::new()
                .file("a", b"x")
                .dir("d")
                .pax(&[("SCHILY.xattr.security.capability", capability)])
                .file("c", b"x")
                .file("../b", b"x")
                .end(),
            "`../b`",
        ),
    ];
    let (dir, store) = open();
    let outside = dir.path().join("evil");
    for (name, archive, expected) in cases {
        let error = store.import(&archive[..], &named("x")).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: `{error}` does not say `{expected}`");
        assert!(!outside.exists(), "{name}: wrote outside");
        assert!(store.list().is_empty(), "{name}: an image was made");
        assert_bare(&dir.path().join("store"), name);
    }
}

#[test]
fn links_that_point_outside_stay_inside() {
    let (dir, store) = open();
    let host = dir.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("secret"), "untouched").unwrap();
    let host_text = host.to_str().unwrap();
    let archive = Archive::new()
        .symlink("up", "../../../../../..")
        .symlink("abs", host_text)
        .symlink("file", &format!("{host_text}/secret"))
        .dir(host_text)
        .file("abs/secret", b"inside")
        .file("up/through", b"inside")
        .file("file", b"replaced")
        .file("/absolute", b"inside")
        .end();
    let (_, layer) = unpacked(&store, archive);
    assert_eq!(std::fs::read_to_string(host.join("secret")).unwrap(), "untouched");
    assert_eq!(listing(&host), ["secret"]);
    let inside = layer.join(host_text.trim_start_matches('/')).join("secret");
    assert_eq!(std::fs::read_to_string(inside).unwrap(), "inside");
    for (name, content) in [("through", "inside"), ("absolute", "inside"), ("file", "replaced")] {
        let path = layer.join(name);
        assert!(path.symlink_metadata().unwrap().is_file(), "{name} is a file of the layer");
        assert_eq!(std::fs::read_to_string(path).unwrap(), content);
    }
}

#[test]
fn limits_stop_bombs() {
    let limits = Limits { entries: 50, layer_bytes: 1 << 20, ratio: 20, ratio_from: 64 << 10, ..Limits::default() };
    let many = (0..60).fold(Archive::new(), |archive, n| archive.file(&format!("f{n}"), b"")).end();
    let large = Archive::new().file("a", &vec![0; 2 << 20]).end();
    let dense = Archive::new().file("a", &vec![0; 900 << 10]).end();
    let cases = [
        ("entries", many, "the archive's number of entries is over the limit of 50 entries"),
        ("bytes", gzip(&large), "is over the limit of 1048576 bytes"),
        ("ratio", gzip(&dense), "20 times its stored size"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let store = Store::open_with(&root, limits).unwrap();
    for (name, archive, expected) in cases {
        let error = store.import(&archive[..], &named("x")).expect_err(name);
        assert!(matches!(error.refusal(), Some(Refusal::OverLimit { .. })), "{name}: {error}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert_bare(&root, name);
    }
}

/// Ten million entries, in a few kilobytes: eighty times the same zstd frame of 125,000 hard links.
#[test]
fn ten_million_entries_are_refused() {
    let start = zstd::encode_all(&Archive::new().file("a", b"").unfinished()[..], 1).unwrap();
    let links = Archive::new().hardlink("b", "a").unfinished().repeat(125_000);
    let archive = [start, zstd::encode_all(&links[..], 1).unwrap().repeat(80)].concat();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    // The default is five million; a lower one keeps the test short, the archive is the same.
    let store = Store::open_with(&root, Limits { entries: 20_000, ..Limits::default() }).unwrap();
    let error = store.import(&archive[..], &named("x")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the archive's number of entries is over the limit of 20000 entries: refused as a possible decompression bomb"
    );
    assert_bare(&root, "ten million entries");
}

/// Through links a tree gets deeper than any path is long. It must go away again.
#[test]
fn a_tree_deeper_than_any_path_can_be_removed() {
    let step = vec!["e".repeat(60); 50].join("/");
    let mut archive = Archive::new().dir("l0");
    // The kernel follows at most 40 links in one path.
    for n in 0..38 {
        let path = format!("l{n}/{step}");
        archive = archive.pax(&[("path", path.as_bytes())]).dir("x");
        archive = archive.pax(&[("linkpath", path.as_bytes())]).symlink(&format!("l{}", n + 1), "x");
    }
    let (dir, store) = open();
    let bad = archive.file("../bad", b"").end();
    store.import(&bad[..], &named("x")).unwrap_err();
    assert_bare(&dir.path().join("store"), "a deep tree");
}

#[test]
fn everything_about_a_file_is_kept() {
    let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".as_slice();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let archive = Archive::new()
        .put(Item { mode: 0o1777, mtime: 77, ..item(b'5', "tmp/") })
        .put(Item { mode: 0o4755, owner: (1000, 1001), mtime: 1234, data: b"su".to_vec(), ..item(b'0', "bin/su") })
        .hardlink("bin/sudo", "bin/su")
        .put(Item { owner: (5, 6), link: b"../bin/su".to_vec(), ..item(b'2', "bin/link") })
        .pax(&[("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.trusted.overlay.redirect", b"/etc")])
        .file("bin/ping", b"p")
        .pax(&[("path", long.as_bytes()), ("mtime", b"99.5"), ("uid", b"3000000000")])
        .file("short", b"long")
        .device(b'3', "dev/null", 1, 3)
        .device(b'4', "dev/sda", 8, 0)
        .put(item(b'6', "dev/fifo"))
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"1000003"),
        ])
        .put(Item {
            data: [b"2\n0\n3\n1000000\n3\n".as_slice(), &[0; 496], b"abcxyz"].concat(),
            ..item(b'0', "GNUSparseFile.0/sparse")
        })
        .file("twice", b"first")
        .file("twice", b"second")
        .end();
    let (_dir, store) = open();
    let (image, layer) = unpacked(&store, archive);
    let data = |path: &str| layer.join(path).symlink_metadata().unwrap();
    assert_eq!((data("tmp").mode() & 0o7777, data("tmp").mtime()), (0o1777, 77));
    let su = data("bin/su");
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.mtime()), (0o4755, 1000, 1001, 1234));
    assert_eq!(data("bin/sudo").ino(), su.ino());
    assert_eq!((data("bin/link").uid(), data("bin/link").gid()), (5, 6));
    assert_eq!(attribute(&layer.join("bin/ping"), "security.capability").as_deref(), Some(capability));
    assert_eq!(attribute(&layer.join("bin/ping"), "trusted.overlay.redirect"), None);
    let deep = data(&long);
    assert_eq!((deep.uid(), deep.mtime(), deep.mtime_nsec()), (3_000_000_000, 99, 500_000_000));
    assert!(data("dev/null").file_type().is_char_device() && data("dev/null").rdev() == rustix::fs::makedev(1, 3));
    assert!(data("dev/sda").file_type().is_block_device() && data("dev/fifo").file_type().is_fifo());
    let sparse = std::fs::read(layer.join("sparse")).unwrap();
    assert_eq!((sparse.len(), &sparse[..4], &sparse[1_000_000..]), (1_000_003, b"abc\0".as_slice(), b"xyz".as_slice()));
    assert!(data("sparse").blocks() < 100);
    assert_eq!(std::fs::read_to_string(layer.join("twice")).unwrap(), "second");
    assert_eq!(layer.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(image.size, 2 + 1 + 4 + 1_000_003 + 5 + 6);
}

#[test]
fn whiteouts_become_overlays_marks() {
    let archive = Archive::new()
        .file("gone/.wh.file", b"")
        .file("opaque/.wh..wh.opq", b"")
        .file("opaque/new", b"x")
        .file(".wh.dir-after", b"")
        .dir("dir-after")
        .dir("dir-before")
        .file(".wh.dir-before", b"")
        .file(".wh.file-after", b"")
        .file("file-after", b"new")
        .file("file-before", b"new")
        .file(".wh.file-before", b"")
        .file(".wh..wh.plnk", b"")
        .end();
    let (_dir, store) = open();
    let (_, layer) = unpacked(&store, archive);
    assert!(whiteout(&layer.join("gone/file")));
    for dir in ["opaque", "dir-after", "dir-before"] {
        assert_eq!(attribute(&layer.join(dir), "trusted.overlay.opaque").as_deref(), Some(b"y".as_slice()), "{dir}");
    }
    for file in ["file-after", "file-before"] {
        assert_eq!(std::fs::read_to_string(layer.join(file)).unwrap(), "new", "{file}");
    }
    assert!(!listing(&layer).iter().any(|path| path.contains(".wh.")));
}

#[test]
fn a_layer_is_stored_once() {
    let (dir, store) = open();
    let first = store.import(&common::small()[..], &named("a")).unwrap();
    let second = store.import(&gzip(&common::small())[..], &named("b")).unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(store.layers(&first), store.layers(&second));
    assert_eq!(std::fs::read_dir(dir.path().join("store/layers")).unwrap().count(), 1);
    assert_eq!(store.layers_size(), first.size);
}
