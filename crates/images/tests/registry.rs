//! Pull and push against Debian's `docker-registry` and against hand-made liars, each test in a network namespace of its own.
//! Needs root (namespaces, layers), `unshare`, `ip` and `docker-registry`.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Archive, assert_bare, gzip, listing, named, open, small};
use images::{Access, Credentials, Digest, Error, Image, Platform, Progress, Reference, Refusal, Result, Store};

const INSIDE: &str = "IMAGES_TEST_NETNS";

/// Runs the test again inside a fresh network namespace whose loopback is up and has one address that is not loopback's.
fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let script = "ip link set lo up && ip addr add 192.0.2.1/32 dev lo && exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare is needed (util-linux)");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{errors}");
}

/// As a task of its own, which a daemon's runtime may move between threads.
fn run<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::spawn(work).await.unwrap() })
}

fn pull_with(store: &Store, name: &str, access: &Access) -> (Result<Image>, Vec<Progress>) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let reference = Reference::parse(name).unwrap();
    let platform = Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: String::new() };
    let (store, access) = (store.clone(), access.clone());
    let result = run(async move { store.pull(&reference, &platform, &access, sender).await });
    let mut lines = Vec::new();
    while let Ok(line) = receiver.try_recv() {
        lines.push(line);
    }
    (result, lines)
}

fn pull(store: &Store, name: &str) -> Result<Image> {
    pull_with(store, name, &Access::default()).0
}

fn push_with(store: &Store, name: &str, access: &Access) -> (Result<images::Pushed>, Vec<String>) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let reference = Reference::parse(name).unwrap();
    let (store, access) = (store.clone(), access.clone());
    let result = run(async move { store.push(&reference, &access, sender).await });
    let mut lines = Vec::new();
    while let Ok(line) = receiver.try_recv() {
        lines.push(line.status);
    }
    (result, lines)
}

fn statuses(lines: &[Progress]) -> Vec<&str> {
    lines.iter().map(|line| line.status.as_str()).collect()
}

/// Debian's registry, killed when dropped.
struct Registry {
    child: Child,
    storage: PathBuf,
}

impl Registry {
    fn start(dir: &Path, port: u16, htpasswd: Option<&str>) -> Registry {
        let storage = dir.join("registry");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            storage.display()
        );
        if let Some(line) = htpasswd {
            let file = dir.join("htpasswd");
            std::fs::write(&file, line).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
        }
        let file = dir.join("registry.yml");
        std::fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is needed (apt install docker-registry)");
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Registry { child, storage }
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.storage.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(&hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn saved(store: &Store, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    store.save(&[name], &mut out).unwrap();
    out
}

#[test]
fn an_image_comes_back_from_a_registry_byte_for_byte() {
    alone("an_image_comes_back_from_a_registry_byte_for_byte", || {
        let (dir, store) = open();
        let registry = Registry::start(dir.path(), 5000, None);
        let name = "localhost:5000/team/app:v1";
        // Large enough to arrive in many pieces, and not compressible.
        let mut noise = vec![0; 3 << 20];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
        let base = store.import(&Archive::new().file("noise", &noise).end()[..], &named(name)).unwrap();
        let upper = dir.path().join("upper");
        std::fs::create_dir_all(upper.join("more")).unwrap();
        let spec = images::CommitSpec { reference: Some(Reference::parse(name).unwrap()), ..Default::default() };
        let image = store.commit(&base, &upper, &spec).unwrap();

        let (pushed, lines) = push_with(&store, name, &Access::default());
        let pushed = pushed.unwrap();
        assert_eq!(pushed.digest, image.manifest_digest());
        assert_eq!(lines[0], "The push refers to repository [localhost:5000/team/app]");
        assert_eq!(lines.iter().filter(|line| *line == "Pushed").count(), 2, "{lines:?}");
        assert!(lines.last().unwrap().starts_with(&format!("v1: digest: {} size: ", pushed.digest)));
        let (_, again) = push_with(&store, name, &Access::default());
        assert_eq!(again.iter().filter(|line| *line == "Layer already exists").count(), 2, "{again:?}");

        let (other_dir, other) = open();
        let (pulled, lines) = pull_with(&other, name, &Access::default());
        let pulled = pulled.unwrap();
        assert_eq!((pulled.id, pulled.raw_config()), (image.id, image.raw_config()));
        assert_eq!(saved(&other, name), saved(&store, name), "manifest, configuration and layers are the same bytes");
        assert_eq!(listing(&other.layers(&pulled)[0]), listing(&store.layers(&image)[0]));
        let said = statuses(&lines);
        assert_eq!((said[0], lines[0].id.as_deref()), ("Pulling from team/app", Some("v1")));
        for expected in ["Pulling fs layer", "Downloading", "Download complete", "Extracting", "Pull complete"] {
            assert!(said.contains(&expected), "{expected}: {said:?}");
        }
        let digest = format!("Digest: {}", pushed.digest);
        assert_eq!(
            said[said.len() - 2..],
            [digest.as_str(), "Status: Downloaded newer image for localhost:5000/team/app:v1"]
        );
        assert_eq!(pulled.digests, [format!("localhost:5000/team/app@{}", pushed.digest)]);

        let (again, lines) = pull_with(&other, name, &Access::default());
        assert_eq!(again.unwrap().id, image.id);
        assert_eq!(statuses(&lines).iter().filter(|status| **status == "Already exists").count(), 2);
        assert_eq!(lines.last().unwrap().status, "Status: Image is up to date for localhost:5000/team/app:v1");
        let by_digest = format!("localhost:5000/team/app@{}", pushed.digest);
        assert_eq!(pull(&other, &by_digest).unwrap().id, image.id);
        assert_eq!(other.resolve(&by_digest).unwrap().id, image.id);

        other.remove(name, true, &|_| None).unwrap();
        assert_bare(&other_dir.path().join("store"), "removed after a pull");
        let missing = pull(&other, "localhost:5000/team/app:v2").unwrap_err();
        assert!(matches!(missing.refusal(), Some(Refusal::NotInRegistry(_))), "{missing:?}");
        assert_eq!(
            missing.to_string(),
            "manifest for localhost:5000/team/app:v2 not found: manifest unknown: manifest unknown"
        );

        // A blob that rotted in the registry, its length unchanged.
        let archive = saved(&store, name);
        let layer = registry.blob(&layer_digests(&archive)[0]);
        let mut bytes = std::fs::read(&layer).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&layer, bytes).unwrap();
        let error = pull(&other, name).unwrap_err();
        assert!(matches!(error.refusal(), Some(Refusal::BadRegistry { .. })), "{error:?}");
        assert!(error.to_string().contains("arrives as sha256:"), "{error}");
        assert_bare(&other_dir.path().join("store"), "a rotten blob");
    });
}

/// The layers of a saved archive's first image.
fn layer_digests(archive: &[u8]) -> Vec<Digest> {
    let mut tar = tar::Archive::new(archive);
    let mut entries = tar.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|entry| entry.path().unwrap().to_str() == Some("manifest.json")).unwrap();
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let layers = parsed[0]["Layers"].as_array().unwrap().iter();
    layers.map(|layer| layer.as_str().unwrap().replace("blobs/sha256/", "sha256:").parse().unwrap()).collect()
}

#[test]
fn a_registry_that_wants_a_password_gets_it() {
    alone("a_registry_that_wants_a_password_gets_it", || {
        let (dir, store) = open();
        // bcrypt of `geheim`, 16 rounds.
        let line = "user:$2b$04$ryZ3NapTw7K3XnHKMzXCLu7zH1srs4K06NLN/U.gewvKsygkaSvxW\n";
        let _registry = Registry::start(dir.path(), 5000, Some(line));
        let name = "127.0.0.1:5000/app:v1";
        store.import(&small()[..], &named(name)).unwrap();
        let with = |credentials| Access { credentials, insecure: Vec::new() };
        for wrong in [Credentials::default(), Credentials::basic("user", "falsch")] {
            let error = push_with(&store, name, &with(wrong.clone())).0.unwrap_err();
            assert!(matches!(error.refusal(), Some(Refusal::Unauthorized(_))), "{wrong:?}: {error:?}");
            assert!(
                error.to_string().contains("127.0.0.1:5000/app") && !error.to_string().contains("falsch"),
                "{error}"
            );
        }
        let log_in = |credentials| {
            run(async move { images::log_in("127.0.0.1:5000", &Access { credentials, insecure: Vec::new() }).await })
        };
        log_in(Credentials::basic("user", "geheim")).unwrap();
        let error = log_in(Credentials::basic("user", "falsch")).unwrap_err();
        assert!(matches!(error.refusal(), Some(Refusal::Unauthorized(_))), "{error:?}");
        assert!(
            run(async { images::log_in("no registry", &Access::default()).await }).unwrap_err().refusal().is_some()
        );
        let config = dir.path().join("config.json");
        // base64 of user:geheim
        std::fs::write(&config, r#"{"auths":{"127.0.0.1:5000":{"auth":"dXNlcjpnZWhlaW0="}}}"#).unwrap();
        let found = Credentials::from_docker_config(&config, &Reference::parse(name).unwrap()).unwrap();
        push_with(&store, name, &with(found.clone())).0.unwrap();
        let (_other_dir, other) = open();
        assert!(pull(&other, name).is_err());
        pull_with(&other, name, &with(found)).0.unwrap();
    });
}

type Answers = Arc<Mutex<BTreeMap<String, Answer>>>;

#[derive(Clone, Default)]
struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    /// The length that is announced; none at all if `Some(None)`.
    length: Option<Option<usize>>,
    /// Only to requests whose headers hold this.
    only_with: Option<String>,
    /// What others get instead.
    others: Option<Box<Answer>>,
    /// How many requests are cut off half way first.
    broken: usize,
}

/// A registry that answers whatever the test wants.
struct Liar {
    answers: Answers,
    requests: Arc<Mutex<Vec<String>>>,
    name: String,
}

impl Liar {
    fn start(address: &str) -> Liar {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let name = format!("{address}:{}", listener.local_addr().unwrap().port());
        let answers = Answers::default();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (known, seen) = (Arc::clone(&answers), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (known, seen) = (Arc::clone(&known), Arc::clone(&seen));
                std::thread::spawn(move || answer(stream, &known, &seen));
            }
        });
        let liar = Liar { answers, requests, name };
        liar.on("/v2/", Answer { status: 200, ..Answer::default() });
        liar
    }

    fn on(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn good(&self, path: &str, body: &[u8]) {
        self.on(path, Answer { status: 200, body: body.to_vec(), ..Answer::default() });
    }

    /// Serves an image of one layer under `app:v1`, its manifest as `twist` makes it.
    fn image(&self, layer: &[u8], twist: impl Fn(String) -> String) -> (String, Vec<u8>) {
        let stored = gzip(layer);
        let config = config_of(layer);
        let manifest = twist(manifest_of(&config, &stored));
        self.good("/v2/app/manifests/v1", manifest.as_bytes());
        self.good(&format!("/v2/app/manifests/{}", Digest::of(manifest.as_bytes())), manifest.as_bytes());
        self.good(&format!("/v2/app/blobs/{}", Digest::of(&config)), &config);
        self.good(&format!("/v2/app/blobs/{}", Digest::of(&stored)), &stored);
        (format!("/v2/app/blobs/{}", Digest::of(&stored)), stored)
    }
}

fn as_it_is(manifest: String) -> String {
    manifest
}

fn config_of(layer: &[u8]) -> Vec<u8> {
    format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Digest::of(layer)
    )
    .into_bytes()
}

fn manifest_of(config: &[u8], stored: &[u8]) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":{},"digest":"{}"}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":{},"digest":"{}"}}]}}"#,
        config.len(),
        Digest::of(config),
        stored.len(),
        Digest::of(stored)
    )
}

fn answer(stream: TcpStream, known: &Answers, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    let mut head = String::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return;
        }
        // The first byte of a TLS handshake: this server speaks none.
        if line[0] == 0x16 {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
            return;
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        if line == "\r\n" {
            break;
        }
        head += &line;
    }
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let mut all = known.lock().unwrap();
    let chosen = all.get_mut(path).map(|answer| match &answer.only_with {
        Some(needed) if !head.to_lowercase().contains(&needed.to_lowercase()) => *answer.others.clone().unwrap(),
        _ => {
            let now = answer.clone();
            answer.broken = answer.broken.saturating_sub(1);
            now
        }
    });
    drop(all);
    let chosen = chosen.unwrap_or(Answer { status: 404, ..Answer::default() });
    let mut text = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", chosen.status);
    if let Some(length) = chosen.length.unwrap_or(Some(chosen.body.len())) {
        text += &format!("Content-Length: {length}\r\n");
    }
    for header in &chosen.headers {
        text += &format!("{header}\r\n");
    }
    let body = if chosen.broken > 0 { &chosen.body[..chosen.body.len() / 2] } else { &chosen.body[..] };
    seen.lock().unwrap().push(format!("{} {}", head, if chosen.broken > 0 { "broken" } else { "whole" }));
    // The client may hang up in the middle: that is what some of the lies are for.
    stream.write_all(format!("{text}\r\n").as_bytes()).and_then(|()| stream.write_all(body)).ok();
}

#[test]
fn lies_of_a_registry_are_refused_and_leave_nothing() {
    alone("lies_of_a_registry_are_refused_and_leave_nothing", || {
        type Lie = Box<dyn Fn(&Liar)>;
        let config_digest = Digest::of(&config_of(&small()));
        let cases: Vec<(&str, Lie, &str)> = vec![
            (
                "announced length",
                Box::new(|liar| {
                    let (path, stored) = liar.image(&small(), as_it_is);
                    let longer = [&stored[..], b"more"].concat();
                    liar.good(&path, &longer);
                }),
                "its descriptor says",
            ),
            (
                "longer without a length",
                Box::new(|liar| {
                    let (path, stored) = liar.image(&small(), as_it_is);
                    let body = [&stored[..], &[0; 100_000]].concat();
                    liar.on(&path, Answer { status: 200, body, length: Some(None), ..Answer::default() });
                }),
                "is longer than its descriptor's",
            ),
            (
                "shorter without a length",
                Box::new(|liar| {
                    let (path, stored) = liar.image(&small(), as_it_is);
                    let body = stored[..stored.len() - 1].to_vec();
                    liar.on(&path, Answer { status: 200, body, length: Some(None), ..Answer::default() });
                }),
                "its descriptor says",
            ),
            (
                "other bytes",
                Box::new(|liar| {
                    let (path, mut stored) = liar.image(&small(), as_it_is);
                    stored[20] ^= 1;
                    liar.good(&path, &stored);
                }),
                "arrives as sha256:",
            ),
            (
                "other configuration",
                Box::new(move |liar| {
                    liar.image(&small(), as_it_is);
                    let other = vec![b' '; config_of(&small()).len()];
                    liar.good(&format!("/v2/app/blobs/{config_digest}"), &other);
                }),
                "arrives as sha256:",
            ),
            (
                "layer that is not the configuration's",
                Box::new(|liar| {
                    let other = gzip(&Archive::new().file("other", b"x").end());
                    let manifest = manifest_of(&config_of(&small()), &other);
                    liar.image(&small(), |_| manifest.clone());
                    liar.good(&format!("/v2/app/blobs/{}", Digest::of(&other)), &other);
                }),
                "but the image's configuration says",
            ),
            (
                "hostile layer",
                Box::new(|liar| {
                    liar.image(&Archive::new().file("../x", b"").end(), as_it_is);
                }),
                "`../x`: `..` in a path",
            ),
            (
                "missing layer",
                Box::new(|liar| {
                    let (path, _) = liar.image(&small(), as_it_is);
                    liar.on(&path, Answer { status: 404, ..Answer::default() });
                }),
                "not found",
            ),
            (
                "wrong digest header",
                Box::new(|liar| {
                    let manifest = manifest_of(&config_of(&small()), b"");
                    let headers = vec![format!("Docker-Content-Digest: {}", Digest::of(b"else"))];
                    liar.on(
                        "/v2/app/manifests/v1",
                        Answer { status: 200, headers, body: manifest.into_bytes(), ..Answer::default() },
                    );
                }),
                "arrives as sha256:",
            ),
            (
                "endless manifest",
                Box::new(|liar| {
                    liar.on(
                        "/v2/app/manifests/v1",
                        Answer { status: 200, body: vec![b' '; 6 << 20], length: Some(None), ..Answer::default() },
                    );
                }),
                "is longer than 4194304 bytes",
            ),
            (
                "manifest of no image",
                Box::new(|liar| liar.good("/v2/app/manifests/v1", br#"{"mediaType":"text/x"}"#)),
                "`text/x` is not the manifest of an image",
            ),
            (
                "first schema",
                Box::new(|liar| liar.good("/v2/app/manifests/v1", br#"{"schemaVersion":1}"#)),
                "schema 1 are not supported",
            ),
            (
                "two things at once",
                Box::new(|liar| liar.good("/v2/app/manifests/v1", br#"{"layers":[],"manifests":[]}"#)),
                "both layers and manifests",
            ),
            ("no json", Box::new(|liar| liar.good("/v2/app/manifests/v1", b"<html>")), "is not readable"),
            (
                "bad digest",
                Box::new(|liar| {
                    liar.image(&small(), |text| text.replace("sha256:", "md5:"));
                }),
                "is not a digest of the form",
            ),
            (
                "huge layer",
                Box::new(|liar| {
                    let stored = gzip(&small());
                    let said = format!("\"size\":{},\"digest\":\"{}\"}}]", stored.len(), Digest::of(&stored));
                    liar.image(&small(), |text| {
                        text.replace(&said, &said.replace(&stored.len().to_string(), "999999999999999"))
                    });
                }),
                "is over the limit of",
            ),
            (
                "no platform",
                Box::new(|liar| {
                    let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","platform":{"os":"linux","architecture":"s390x"}}]}"#;
                    liar.good("/v2/app/manifests/v1", index.as_bytes());
                }),
                "no matching manifest for linux/amd64 in the manifest list entries; it offers: linux/s390x",
            ),
            (
                "token service that is not there",
                Box::new(|liar| {
                    let headers = vec!["WWW-Authenticate: Bearer realm=\"http://127.0.0.1:1/token\"".to_owned()];
                    liar.on("/v2/", Answer { status: 401, headers, ..Answer::default() });
                }),
                "127.0.0.1:1",
            ),
            (
                "redirect in a circle",
                Box::new(|liar| {
                    let headers = vec!["Location: /v2/app/manifests/v1".to_owned()];
                    liar.on("/v2/app/manifests/v1", Answer { status: 307, headers, ..Answer::default() });
                }),
                "redirect",
            ),
            (
                "server error",
                Box::new(|liar| {
                    let body = br#"{"errors":[{"code":"UNAVAILABLE","message":"too busy"}]}"#.to_vec();
                    liar.on("/v2/app/manifests/v1", Answer { status: 503, body, ..Answer::default() });
                }),
                "503 Service Unavailable: unavailable: too busy",
            ),
            (
                "denied",
                Box::new(|liar| liar.on("/v2/app/manifests/v1", Answer { status: 403, ..Answer::default() })),
                "pull access denied for",
            ),
        ];
        let (dir, store) = open();
        for (name, lie, expected) in cases {
            let liar = Liar::start("127.0.0.1");
            lie(&liar);
            let error = pull(&store, &format!("{}/app:v1", liar.name)).expect_err(name).to_string();
            assert!(error.contains(expected), "{name}: `{error}` does not say `{expected}`");
            assert_bare(&dir.path().join("store"), name);
        }
    });
}

#[test]
fn an_index_leads_to_the_platforms_image_and_broken_downloads_are_tried_again() {
    alone("an_index_leads_to_the_platforms_image_and_broken_downloads_are_tried_again", || {
        let (_dir, store) = open();
        let liar = Liar::start("127.0.0.1");
        let (blob, stored) = liar.image(&small(), |text| text);
        let manifest = manifest_of(&config_of(&small()), &stored);
        let entry = |digest: Digest, size: usize, platform: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","size":{size},"digest":"{digest}","platform":{{"os":"linux","architecture":"{platform}"}}}}"#
            )
        };
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[{},{}]}}"#,
            entry(Digest::of(b"other"), 5, "arm64"),
            entry(Digest::of(manifest.as_bytes()), manifest.len(), "amd64")
        );
        liar.good("/v2/app/manifests/v1", index.as_bytes());
        liar.on(&blob, Answer { status: 200, body: stored, broken: 2, ..Answer::default() });
        let name = format!("{}/app:v1", liar.name);
        let (image, lines) = pull_with(&store, &name, &Access::default());
        let image = image.unwrap();
        assert_eq!(image.manifest_digest(), Digest::of(manifest.as_bytes()));
        assert_eq!(image.digests, [format!("{}/app@{}", liar.name, Digest::of(index.as_bytes()))]);
        assert_eq!(statuses(&lines).iter().filter(|status| status.starts_with("Retrying in")).count(), 2);
        let wrong = index.replace(&format!("\"size\":{}", manifest.len()), "\"size\":7");
        liar.good("/v2/app/manifests/v1", wrong.as_bytes());
        let error = pull(&store, &name).unwrap_err().to_string();
        assert!(error.contains("the index says 7"), "{error}");
    });
}

#[test]
fn tokens_are_fetched_and_shown_to_nobody_else() {
    alone("tokens_are_fetched_and_shown_to_nobody_else", || {
        let liar = Liar::start("127.0.0.1");
        let elsewhere = Liar::start("127.0.0.2");
        let (blob, stored) = liar.image(&small(), |text| text);
        let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"reg\"", liar.name);
        let refuse = Answer { status: 401, headers: vec![challenge], ..Answer::default() };
        let paths: Vec<String> = liar.answers.lock().unwrap().keys().cloned().collect();
        for path in paths {
            let good = liar.answers.lock().unwrap()[&path].clone();
            let guarded = Answer {
                only_with: Some("authorization: bearer t0ken".to_owned()),
                others: Some(Box::new(refuse.clone())),
                ..good
            };
            liar.on(&path, guarded);
        }
        liar.good("/token", br#"{"access_token":"t0ken"}"#);
        // The layer lies at another host, as with most registries.
        liar.on(
            &blob,
            Answer {
                status: 307,
                headers: vec![format!("Location: http://{}/data", elsewhere.name)],
                ..Answer::default()
            },
        );
        elsewhere.good("/data", &stored);
        let (_dir, store) = open();
        let name = format!("{}/app:v1", liar.name);
        let with = |credentials| Access { credentials, insecure: Vec::new() };
        pull_with(&store, &name, &with(Credentials::basic("user", "pass"))).0.unwrap();
        let seen = liar.requests.lock().unwrap().join("\n");
        let scope = "GET /token?service=reg&scope=repository%3Aapp%3Apull HTTP";
        assert!(seen.contains(scope) && seen.contains("authorization: Basic dXNlcjpwYXNz"), "{seen}");
        let others = elsewhere.requests.lock().unwrap().join("\n").to_lowercase();
        assert!(others.contains("get /data") && !others.contains("authorization"), "{others}");

        liar.requests.lock().unwrap().clear();
        let identity = Credentials { identity_token: "refresh".to_owned(), ..Credentials::default() };
        pull_with(&store, &name, &with(identity)).0.unwrap();
        assert!(liar.requests.lock().unwrap().join("\n").contains("POST /token"));

        liar.on(
            "/token",
            Answer {
                status: 401,
                body: br#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#.to_vec(),
                ..Answer::default()
            },
        );
        let error = pull_with(&store, &name, &with(Credentials::basic("user", "wrong"))).0.unwrap_err();
        assert!(matches!(error.refusal(), Some(Refusal::Unauthorized(_))), "{error:?}");
    });
}

#[test]
fn plain_http_is_used_only_where_it_is_allowed() {
    alone("plain_http_is_used_only_where_it_is_allowed", || {
        let (_dir, store) = open();
        let liar = Liar::start("192.0.2.1");
        liar.image(&small(), |text| text);
        let name = format!("{}/app:v1", liar.name);
        let error = pull(&store, &name).unwrap_err();
        assert!(matches!(error.refusal(), Some(Refusal::NeedsTls { .. })), "{error:?}");
        assert!(error.to_string().contains(&liar.name) && error.to_string().contains("named insecure"), "{error}");
        assert!(liar.requests.lock().unwrap().is_empty(), "a request went out in plain");
        for entry in [liar.name.as_str(), "192.0.2.1", "192.0.2.0/24"] {
            let access = Access { insecure: vec![entry.to_owned()], ..Access::default() };
            pull_with(&store, &name, &access).0.unwrap_or_else(|error| panic!("{entry}: {error}"));
        }
        let nobody = pull(&store, "192.0.2.1:1/app").unwrap_err();
        assert!(matches!(nobody, Error::Network { .. }) && nobody.to_string().contains("192.0.2.1:1"), "{nobody:?}");
    });
}
