//! Images from end to end: load, save, import, commit, diff, names, removal, crashes. Needs root, for layers hold root's things.

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Archive, assert_bare, gzip, item, listing, named, open, small};
use images::{
    ChangeKind, CommitSpec, Digest, Image, ImageId, ImportSpec, InUse, PruneFilters, Reference, Removed, RunConfig,
    Store,
};

fn nobody(_: &ImageId) -> Option<InUse> {
    None
}

fn saved(store: &Store, names: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    store.save(names, &mut out).unwrap();
    out
}

fn config_for(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    // Odd spacing and an unknown field: the bytes must survive as they are.
    let ids = ids.join(",");
    format!(
        r#"{{"os" : "linux","architecture":"amd64","future":{{"x":1}},"created":"2024-05-06T07:08:09Z","config":{{"Cmd":["sh"],"Labels":{{"a":"b"}}}},"rootfs":{{"type":"layers","diff_ids":[{ids}]}},"history":[{{"created_by":"one"}},{{"created_by":"two","empty_layer":true}}]}}"#
    )
    .into_bytes()
}

/// `docker save` as Docker before 25 wrote it.
fn old_layout(layers: &[&[u8]], tags: &str) -> Vec<u8> {
    let config = config_for(layers);
    let mut archive = Archive::new();
    let mut names = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        archive = archive.dir(&format!("l{n}/")).file(&format!("l{n}/VERSION"), b"1.0");
        match layers[..n].iter().position(|earlier| earlier == layer) {
            Some(first) => archive = archive.symlink(&format!("l{n}/layer.tar"), &format!("../l{first}/layer.tar")),
            None => archive = archive.file(&format!("l{n}/layer.tar"), layer),
        }
        names.push(format!("\"l{n}/layer.tar\""));
    }
    let manifest = format!(r#"[{{"Config":"config.json","RepoTags":{tags},"Layers":[{}]}}]"#, names.join(","));
    archive.file("config.json", &config).file("manifest.json", manifest.as_bytes()).end()
}

/// An OCI image layout. `twist` may change what the index and the manifest say.
fn oci_layout(layer: &[u8], stored: &[u8], twist: impl Fn(String) -> String) -> Vec<u8> {
    let config = config_for(&[layer]);
    let manifest = twist(format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":{}}}]}}"#,
        Digest::of(&config),
        config.len(),
        Digest::of(stored),
        stored.len()
    ));
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"example.com/app:v1"}}}}]}}"#,
        Digest::of(manifest.as_bytes()),
        manifest.len()
    );
    [(&config[..]), stored, manifest.as_bytes()]
        .iter()
        .fold(Archive::new(), |archive, blob| {
            let digest = Digest::of(blob);
            archive.file(&format!("blobs/sha256/{}", digest.hex()), blob)
        })
        .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("index.json", index.as_bytes())
        .end()
}

#[test]
fn an_old_archive_is_loaded_and_saved_again_byte_for_byte() {
    let (_dir, store) = open();
    let layer = small();
    let loaded = store.load(&gzip(&old_layout(&[&layer, &layer], r#"["app:1","example.com/app"]"#))[..]).unwrap();
    let id = Digest::of(&config_for(&[&layer, &layer]));
    assert_eq!((loaded[0].id, loaded[0].names.join(" ")), (id, "app:1 example.com/app:latest".to_owned()));
    let image = store.resolve("app:1").unwrap();
    assert_eq!(image.raw_config(), config_for(&[&layer, &layer]));
    assert_eq!(
        (image.tags.join(" "), image.created()),
        ("app:1 example.com/app:latest".to_owned(), "2024-05-06T07:08:09Z")
    );
    assert_eq!(image.labels()["a"], "b");
    assert_eq!(store.layers(&image).len(), 2);
    let history = store.history(&image);
    let steps: Vec<(&str, u64)> =
        history.iter().map(|line| (line.step.created_by.as_deref().unwrap_or(""), line.size)).collect();
    assert_eq!(steps, [("", 14), ("two", 0), ("one", 14)]);

    let archive = saved(&store, &["app:1"]);
    assert_eq!(archive, saved(&store, &["app:1"]), "the same image, the same bytes");
    let (_other_dir, other) = open();
    assert_eq!(other.load(&archive[..]).unwrap()[0].names, ["app:1"]);
    assert_eq!(saved(&other, &["app:1"]), archive);
    let again = other.resolve("app:1").unwrap();
    assert_eq!((again.id, again.manifest_digest()), (image.id, image.manifest_digest()));
}

#[test]
fn an_oci_layout_keeps_its_compressed_layer_and_manifest() {
    let layer = small();
    for stored in [gzip(&layer), zstd::encode_all(&layer[..], 3).unwrap()] {
        let archive = oci_layout(&layer, &stored, |manifest| manifest);
        let (_dir, store) = open();
        assert_eq!(
            store.load(&zstd::encode_all(&archive[..], 1).unwrap()[..]).unwrap()[0].names,
            ["example.com/app:v1"]
        );
        let image = store.resolve("example.com/app:v1").unwrap();
        let out = saved(&store, &["example.com/app:v1"]);
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(&out[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut data).unwrap();
            found.insert(entry.path().unwrap().to_string_lossy().into_owned(), data);
        }
        assert_eq!(found[&format!("blobs/sha256/{}", Digest::of(&stored).hex())], stored);
        let manifest = &found[&format!("blobs/sha256/{}", image.manifest_digest().hex())];
        assert_eq!(Digest::of(manifest), image.manifest_digest());
        let (_other_dir, other) = open();
        other.load(&out[..]).unwrap();
        assert_eq!(saved(&other, &["example.com/app:v1"]), out);
    }
}

#[test]
fn bad_archives_are_refused_and_leave_nothing() {
    let layer = small();
    let stored = gzip(&layer);
    let other = gzip(&Archive::new().file("other", b"x").end());
    let swapped = |from: &str, to: String| oci_layout(&layer, &stored, move |text| text.replace(from, &to));
    let layer_size = format!("\"size\":{}}}]", stored.len());
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("neither", small(), "neither manifest.json (docker save) nor index.json"),
        ("empty", Vec::new(), "neither manifest.json"),
        ("bad json", Archive::new().file("manifest.json", b"{").end(), "manifest.json is not readable"),
        (
            "missing config",
            Archive::new().file("manifest.json", br#"[{"Config":"c","Layers":[]}]"#).end(),
            "names `c` but does not hold it",
        ),
        (
            "config outside",
            Archive::new().file("manifest.json", br#"[{"Config":"../../etc/passwd","Layers":[]}]"#).end(),
            "`../../etc/passwd`: `..` leads out of the archive",
        ),
        ("member outside", Archive::new().file("../x", b"").end(), "`../x`: `..` leads out of the archive"),
        (
            "link outside",
            Archive::new()
                .symlink("config.json", "/etc/passwd")
                .file("manifest.json", br#"[{"Config":"config.json","Layers":[]}]"#)
                .end(),
            "names `config.json` but does not hold it",
        ),
        ("device", Archive::new().device(b'3', "manifest.json", 1, 3).end(), "holds only files, directories and links"),
        ("bad tag", old_layout(&[&layer], r#"["UPPER"]"#), "must be lowercase"),
        (
            "wrong diff id",
            oci_layout(&Archive::new().file("x", b"y").end(), &stored, |text| text),
            "but the image's configuration says",
        ),
        ("size lie", swapped(&layer_size, "\"size\":7}]".to_owned()), "its descriptor says 7"),
        ("missing layer", swapped(&Digest::of(&stored).hex(), Digest::of(&other).hex()), "but does not hold it"),
        ("no layers", swapped(r#""layers":["#, r#""layers":[],"x":["#.to_owned()), "0 layers, its configuration 1"),
        (
            "hostile layer",
            old_layout(&[&Archive::new().file("../x", b"").end()], r#"["a:1"]"#),
            "`../x`: `..` in a path",
        ),
        (
            "two layers, the second hostile",
            old_layout(&[&layer, &Archive::new().file("../x", b"").end()], r#"["a:1"]"#),
            "`../x`: `..` in a path",
        ),
        (
            "another system",
            {
                let config = br#"{"os":"windows","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;
                Archive::new().file("c", config).file("manifest.json", br#"[{"Config":"c","Layers":[]}]"#).end()
            },
            "image operating system \"windows\" cannot be used on this platform",
        ),
        (
            "wrong digest",
            {
                let mut archive = oci_layout(&layer, &stored, |text| text);
                let at = archive.windows(stored.len()).position(|part| part == stored).unwrap();
                archive[at + stored.len() / 2] ^= 1;
                archive
            },
            "its digest is",
        ),
    ];
    let (dir, store) = open();
    for (name, archive, expected) in cases {
        let error = store.load(&archive[..]).expect_err(name);
        assert!(error.refusal().is_some(), "{name}: {error:?}");
        assert!(error.to_string().contains(expected), "{name}: `{error}` does not say `{expected}`");
        assert_bare(&dir.path().join("store"), name);
    }
}

#[test]
fn an_import_takes_changes() {
    let (_dir, store) = open();
    let spec = ImportSpec {
        changes: vec!["CMD [\"/bin/tool\"]".to_owned(), "ENV A=b".to_owned(), "EXPOSE 80".to_owned()],
        message: "from elsewhere".to_owned(),
        ..named("tool:1")
    };
    let image = store.import(&small()[..], &spec).unwrap();
    let config = &image.config.config;
    assert_eq!(
        (config.cmd.as_deref().unwrap(), config.env.join(" ").as_str()),
        (["/bin/tool".to_owned()].as_slice(), "A=b")
    );
    assert!(config.exposed_ports.contains_key("80/tcp"));
    assert_eq!(store.history(&image)[0].step.comment.as_deref(), Some("from elsewhere"));
    assert_eq!(store.resolve("tool:1").unwrap().id, image.id);
    assert_eq!(Digest::of(image.raw_config()), image.id);
    let bad = ImportSpec { changes: vec!["RUN x".to_owned()], ..named("bad") };
    assert!(store.import(&small()[..], &bad).unwrap_err().to_string().contains("RUN is not a valid change command"));
}

/// An upper directory as overlayfs leaves it.
fn upper(dir: &Path) -> std::path::PathBuf {
    let upper = dir.join("upper");
    std::fs::create_dir_all(upper.join("bin")).unwrap();
    std::fs::create_dir_all(upper.join("etc")).unwrap();
    std::fs::create_dir_all(upper.join("new/deep")).unwrap();
    let node = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("bin/alias"), node, rustix::fs::Mode::empty(), 0).unwrap();
    rustix::fs::setxattr(upper.join("etc"), "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    std::fs::write(upper.join("bin/tool"), "changed").unwrap();
    std::fs::set_permissions(upper.join("bin/tool"), PermissionsExt::from_mode(0o4711)).unwrap();
    std::fs::write(upper.join("new/deep/file"), "new").unwrap();
    std::fs::hard_link(upper.join("new/deep/file"), upper.join("new/again")).unwrap();
    std::fs::write(upper.join("hosts"), "made by the engine").unwrap();
    upper
}

#[test]
fn a_commit_turns_overlays_marks_into_whiteouts_and_back() {
    let (dir, store) = open();
    let base = store.import(&small()[..], &named("base")).unwrap();
    let upper = upper(dir.path());
    let spec = CommitSpec {
        config: RunConfig { cmd: Some(vec!["/bin/tool".to_owned()]), ..RunConfig::default() },
        changes: vec!["LABEL who=me".to_owned()],
        author: "A. U. Thor".to_owned(),
        comment: "changed".to_owned(),
        created_by: "/bin/sh".to_owned(),
        reference: Some(Reference::parse("base:changed").unwrap()),
        exclude: vec!["/hosts".to_owned()],
    };
    let image = store.commit(&base, &upper, &spec).unwrap();
    assert_eq!(image.parent, Some(base.id));
    assert_eq!(image.labels()["who"], "me");
    assert_eq!(image.config.author.as_deref(), Some("A. U. Thor"));
    let layers = store.layers(&image);
    assert_eq!((layers.len(), &layers[0]), (2, &store.layers(&base)[0]));
    // What went through the layer archive is what the container had, its mark included.
    let (was, is) = (listing(&upper), listing(&layers[1]));
    assert_eq!(is, was.into_iter().filter(|path| path != "hosts").collect::<Vec<_>>());
    let expected = store_changes(&store, &base, &upper, &["hosts"]);
    assert_eq!(store_changes(&store, &base, &layers[1], &[]), expected);
    let tool = layers[1].join("bin/tool").metadata().unwrap();
    assert_eq!(tool.permissions().mode() & 0o7777, 0o4711);
    let nlink = std::os::unix::fs::MetadataExt::nlink(&layers[1].join("new/again").metadata().unwrap());
    assert_eq!(nlink, 2);
    // And it survives a registry or an archive.
    let archive = saved(&store, &["base:changed"]);
    let (_other_dir, other) = open();
    other.load(&archive[..]).unwrap();
    let copy = other.resolve("base:changed").unwrap();
    assert_eq!(listing(&other.layers(&copy)[1]), is);
    // Nothing changed: no layer.
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let same = store.commit(&base, &empty, &CommitSpec::default()).unwrap();
    assert_eq!(same.diff_ids(), base.diff_ids());
    assert!(store.history(&same)[0].step.empty_layer);
}

fn store_changes(store: &Store, base: &Image, upper: &Path, exclude: &[&str]) -> Vec<(ChangeKind, String)> {
    let changes = images::diff(&store.layers(base), upper, exclude).unwrap();
    changes.into_iter().map(|change| (change.kind, change.path)).collect()
}

#[test]
fn a_diff_says_what_a_container_changed() {
    use ChangeKind::{Added, Deleted, Modified};
    let (dir, store) = open();
    let base = store.import(&small()[..], &named("base")).unwrap();
    let upper = upper(dir.path());
    let changes = store_changes(&store, &base, &upper, &["hosts"]);
    let expected = [
        (Modified, "/bin"),
        (Deleted, "/bin/alias"),
        (Modified, "/bin/tool"),
        (Modified, "/etc"),
        (Deleted, "/etc/conf"),
        (Added, "/new"),
        (Added, "/new/again"),
        (Added, "/new/deep"),
        (Added, "/new/deep/file"),
    ];
    assert_eq!(changes, expected.map(|(kind, path)| (kind, path.to_owned())));
    // A directory that was only copied up is no change; nor is one in which the engine made a mount point.
    let quiet = dir.path().join("quiet");
    std::fs::create_dir_all(quiet.join("etc")).unwrap();
    std::fs::write(quiet.join("etc/hosts"), "").unwrap();
    assert_eq!(store_changes(&store, &base, &quiet, &["etc/hosts"]), []);
    assert_eq!(
        store_changes(&store, &base, &quiet, &[]),
        [(Modified, "/etc".to_owned()), (Added, "/etc/hosts".to_owned())]
    );
}

#[test]
fn an_export_holds_the_whole_tree() {
    let (_dir, store) = open();
    let archive = Archive::new()
        .dir("etc/")
        .file("etc/conf", b"a=1\n")
        .hardlink("etc/copy", "etc/conf")
        .symlink("link", "etc/conf")
        .device(b'3', "null", 1, 3)
        .put(item(b'6', "fifo"))
        .pax(&[("path", [b'n'; 150].as_slice())])
        .file("x", b"long")
        .end();
    let image = store.import(&archive[..], &named("x")).unwrap();
    let layer = store.layers(&image).remove(0);
    let mut out = Vec::new();
    let root = std::fs::File::open(&layer).unwrap();
    images::export_tree(std::os::fd::AsFd::as_fd(&root), &mut out).unwrap();
    let again = store.import(&out[..], &named("y")).unwrap();
    let copy = store.layers(&again).remove(0);
    assert_ne!(layer, copy);
    assert_eq!(listing(&layer), listing(&copy));
    assert_eq!(
        images::diff(&[layer], &copy, &[]).unwrap().iter().filter(|change| change.kind != ChangeKind::Modified).count(),
        0
    );
    assert_eq!(image.size, again.size);
}

#[test]
fn names_are_resolved_as_docker_resolves_them() {
    let (_dir, store) = open();
    let image = store.import(&small()[..], &named("app:1")).unwrap();
    store.tag("app:1", "localhost:5000/app").unwrap();
    let hex = image.id.hex();
    for name in [
        "app:1",
        "docker.io/library/app:1",
        "localhost:5000/app:latest",
        &hex,
        &hex[..12],
        &format!("sha256:{}", &hex[..8]),
    ] {
        assert_eq!(store.resolve(name).unwrap().id, image.id, "{name}");
    }
    let cases = [
        ("app", "No such image: app:latest"),
        ("app:2", "No such image: app:2"),
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("", "invalid reference format"),
        ("feed", "No such image: feed:latest"),
    ];
    for (name, expected) in cases {
        assert_eq!(store.resolve(name).unwrap_err().to_string(), expected, "{name}");
    }
    let digest = format!("x@sha256:{hex}");
    assert!(
        store
            .tag("app:1", &digest)
            .unwrap_err()
            .to_string()
            .contains("refusing to create a tag with a digest reference")
    );
    // Two of seventeen ids begin with the same digit.
    for n in 0..17 {
        store.import(&small()[..], &ImportSpec { message: format!("{n}"), ..ImportSpec::default() }).unwrap();
    }
    let ids: Vec<String> = store.list().iter().map(|image| image.id.hex()).collect();
    let twice = ids.iter().find(|id| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1).unwrap();
    let error = store.resolve(&twice[..1]).unwrap_err().to_string();
    assert!(error.contains("is ambiguous") && error.contains(&twice[..12]), "{error}");
}

#[test]
fn removal_follows_dockers_rules() {
    let (dir, store) = open();
    let image = store.import(&small()[..], &named("app:1")).unwrap();
    let short = image.id.short();
    let stopped = |_: &ImageId| Some(InUse { container: "c0ffee0123456789".to_owned(), running: false });
    let running = |_: &ImageId| Some(InUse { container: "c0ffee0123456789".to_owned(), running: true });
    let refused = |name: &str, force: bool, user: &dyn Fn(&ImageId) -> Option<InUse>| {
        store.remove(name, force, user).unwrap_err().to_string()
    };
    assert_eq!(
        refused("app:1", false, &stopped),
        format!(
            "conflict: unable to remove repository reference \"app:1\" (must force) - container c0ffee012345 is using its referenced image {short}"
        )
    );
    assert_eq!(
        refused(&short, false, &stopped),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container c0ffee012345"
        )
    );
    assert_eq!(
        refused(&short, true, &running),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container c0ffee012345"
        )
    );
    assert_eq!(refused("nope", false, &nobody), "No such image: nope:latest");

    store.tag("app:1", "other/app").unwrap();
    assert_eq!(
        refused(&short, false, &nobody),
        format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories")
    );
    assert_eq!(store.remove("other/app", false, &stopped).unwrap(), [Removed::Untagged("other/app:latest".to_owned())]);

    let child = store.commit(&image, &upper(dir.path()), &CommitSpec::default()).unwrap();
    assert_eq!(
        refused(&short, true, &nobody),
        format!("conflict: unable to delete {short} (cannot be forced) - image has dependent child images")
    );
    // By name, its name goes and the image stays for its child.
    assert_eq!(store.remove("app:1", false, &nobody).unwrap(), [Removed::Untagged("app:1".to_owned())]);
    assert_eq!(store.list().len(), 2);
    let removed = store.remove(&child.id.to_string(), false, &nobody).unwrap();
    let texts: Vec<String> = removed
        .iter()
        .map(|removed| match removed {
            Removed::Untagged(name) => format!("Untagged: {name}"),
            Removed::Deleted(id) => format!("Deleted: {id}"),
        })
        .collect();
    // The child, its layer, then the parent that nobody names any more, and its layer.
    assert_eq!(texts.len(), 4, "{texts:?}");
    assert_eq!(texts[0], format!("Deleted: {}", child.id));
    assert_eq!(texts[2], format!("Deleted: {}", image.id));
    assert_eq!(texts[3], format!("Deleted: {}", image.diff_ids()[0]));
    assert_bare(&dir.path().join("store"), "all removed");

    store.import(&small()[..], &named("app:1")).unwrap();
    let removed = store.remove("app:1", true, &stopped).unwrap();
    assert_eq!(removed.len(), 3, "forced: {removed:?}");
    assert_bare(&dir.path().join("store"), "removed by force");
}

#[test]
fn pruning_takes_what_its_filters_allow() {
    let (dir, store) = open();
    let spec = |name: Option<&str>, label: &str| ImportSpec {
        changes: vec![format!("LABEL kind={label}")],
        reference: name.map(|name| Reference::parse(name).unwrap()),
        ..ImportSpec::default()
    };
    let layer = |n: &str| Archive::new().file(n, n.as_bytes()).end();
    let used = store.import(&layer("used")[..], &spec(None, "a")).unwrap().id;
    store.import(&layer("dangling")[..], &spec(None, "b")).unwrap();
    store.import(&layer("named")[..], &spec(Some("named"), "c")).unwrap();
    let in_use = |id: &ImageId| (*id == used).then(|| InUse { container: "c".repeat(64), running: false });
    let prune = |filters: &[(&str, &str)]| {
        let filters: BTreeMap<String, Vec<String>> =
            filters.iter().map(|(key, value)| (key.to_string(), vec![value.to_string()])).collect();
        let (removed, freed) = store.prune(&PruneFilters::parse(&filters).unwrap(), &in_use).unwrap();
        (removed.len(), freed)
    };
    assert_eq!(prune(&[("label", "kind=x")]), (0, 0));
    assert_eq!(prune(&[("label!", "kind")]), (0, 0));
    assert_eq!(prune(&[("until", "2001-01-01T00:00:00Z")]), (0, 0));
    assert_eq!(prune(&[("label", "kind=b")]), (2, 8));
    assert_eq!(prune(&[]), (0, 0));
    assert_eq!(prune(&[("dangling", "false")]), (3, 5));
    assert_eq!(store.list().len(), 1);
    for (key, value) in [("colour", "red"), ("dangling", "maybe"), ("until", "soon")] {
        let filters = [(key.to_owned(), vec![value.to_owned()])].into();
        assert!(PruneFilters::parse(&filters).unwrap_err().to_string().contains(key));
    }
    store.remove(&used.to_string(), true, &nobody).unwrap();
    assert_bare(&dir.path().join("store"), "pruned");
}

#[test]
fn leftovers_of_a_crash_are_gone_after_opening() {
    let (dir, store) = open();
    let root = dir.path().join("store");
    let image = store.import(&small()[..], &named("app")).unwrap();
    assert!(matches!(Store::open(&root), Err(images::Error::Locked(_))), "two at once");
    drop(store);
    let before = listing(&root);
    let stray = Digest::of(b"stray").hex();
    std::fs::create_dir_all(root.join("tmp/layer123/fs/deep/er")).unwrap();
    std::fs::write(root.join("tmp/.tmpABC"), "half a file").unwrap();
    std::fs::write(root.join("blobs").join(&stray), "stray").unwrap();
    std::fs::create_dir_all(root.join("layers").join(&stray).join("fs/a")).unwrap();
    let store = Store::open(&root).unwrap();
    assert_eq!(listing(&root), before);
    assert_eq!(store.resolve("app").unwrap().id, image.id);
    assert_eq!(store.resolve("app").unwrap().tags, ["app:latest"]);
    drop(store);
    // A disk that lost a layer costs that image, not the store.
    std::fs::remove_dir_all(root.join("layers")).unwrap();
    let store = Store::open(&root).unwrap();
    assert!(store.list().is_empty() && store.resolve("app").is_err());
    store.import(&small()[..], &named("app")).unwrap();
    drop(store);
    std::fs::write(root.join("names.json"), "{").unwrap();
    let error = Store::open(&root).err().unwrap().to_string();
    assert!(error.contains("names.json is damaged"), "{error}");
}

const CHILD: &str = "IMAGES_TEST_STORE";

/// The child of the next test: changes a store without end.
#[test]
fn a_store_killed_at_any_time_opens() {
    if let Some(root) = std::env::var_os(CHILD) {
        let store = Store::open(Path::new(&root)).unwrap();
        let layer = small();
        for n in 0.. {
            let extra = Archive::new().file("n", format!("{n}").as_bytes()).end();
            store.load(&old_layout(&[&layer, &extra], r#"["a:1","b:1"]"#)[..]).unwrap();
            store.tag("a:1", "c:1").unwrap();
            store.import(&extra[..], &named("d:1")).unwrap();
            store.remove("d:1", true, &nobody).unwrap();
            store.prune(&PruneFilters::default(), &nobody).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    Store::open(&root).unwrap().import(&small()[..], &named("kept")).unwrap();
    let mut seen = 0;
    for round in 0..25_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_store_killed_at_any_time_opens", "--nocapture"])
            .env(CHILD, &root)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(40 + round * 37 % 210));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&root).unwrap_or_else(|error| panic!("round {round}: {error}"));
        seen += store.list().len() - 1;
        for image in store.list() {
            assert_eq!(Digest::of(image.raw_config()), image.id, "round {round}");
            for layer in store.layers(&image) {
                assert!(!listing(&layer).is_empty(), "round {round}: {}", layer.display());
            }
        }
        assert_eq!(saved(&store, &["kept"]).len() % 512, 0);
        let left: Vec<String> = listing(&root.join("tmp"));
        assert!(
            left.is_empty() && !listing(&root).iter().any(|path| path.ends_with(".damaged")),
            "round {round}: {left:?}"
        );
    }
    assert!(seen > 0, "no child came far enough to add an image");
}

/// Another tool reads what is saved, in both of its layouts, and writes what is loaded. Needs `skopeo`.
#[test]
fn skopeo_agrees_about_archives() {
    let (dir, store) = open();
    let image = store.import(&small()[..], &named("app:1")).unwrap();
    let file = dir.path().join("saved.tar");
    store.save(&["app:1"], std::fs::File::create(&file).unwrap()).unwrap();
    let skopeo = |args: &[String]| {
        let output = Command::new("skopeo").arg("--insecure-policy").args(args).output().expect("skopeo is needed");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    for (from, to) in [("docker-archive", "docker-archive"), ("oci-archive", "oci-archive")] {
        let out = dir.path().join(format!("{to}.tar"));
        let source = format!("{from}:{}", file.display());
        skopeo(&["copy".to_owned(), source, format!("{to}:{}:example.com/again:1", out.display())]);
        let (_other_dir, other) = open();
        let loaded = other.load(std::fs::File::open(&out).unwrap()).unwrap();
        assert_eq!(
            (loaded[0].id, loaded[0].names.as_slice()),
            (image.id, ["example.com/again:1".to_owned()].as_slice())
        );
    }
}
