use super::*;
use std::io::Write;
use std::time::Duration;

fn line(stream: &str, second: u64, text: &str) -> String {
    let time = time::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
    format!("{}\n", serde_json::json!({ "log": text, "stream": stream, "time": time }))
}

/// A file's ending, and its entries: stream, second, text.
type File<'a> = (&'a str, &'a [(&'a str, u64, &'a str)]);

/// Files of a log by their endings (`""` is the log itself), each from a list of `(stream, second, text)`.
fn log(files: &[File]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    for (ending, entries) in files {
        let text: String = entries.iter().map(|(stream, second, text)| line(stream, *second, text)).collect();
        std::fs::write(format!("{}{ending}", path.display()), text).unwrap();
    }
    (dir, path)
}

fn raw() -> Wanted {
    Wanted { stdout: true, stderr: true, raw: true, ..Wanted::default() }
}

fn read(path: &Path, wanted: Wanted) -> String {
    let mut reader = Reader::open(path, wanted).unwrap();
    let mut all = Vec::new();
    loop {
        let more = reader.more().unwrap();
        if more.is_empty() {
            return String::from_utf8(all).unwrap();
        }
        all.extend(more);
    }
}

const THREE: &[File<'static>] = &[
    (".2", &[("stdout", 1, "a\n"), ("stderr", 2, "b\n")]),
    (".1", &[("stdout", 3, "c\n")]),
    ("", &[("stdout", 4, "d\n"), ("stdout", 5, "e\n")]),
];

#[test]
fn rotated_files_are_read_from_the_oldest() {
    let (_dir, path) = log(THREE);
    assert_eq!(read(&path, raw()), "a\nb\nc\nd\ne\n");
    assert_eq!(read(&path, Wanted { stdout: false, ..raw() }), "b\n");
    assert_eq!(read(&path, Wanted { stderr: false, ..raw() }), "a\nc\nd\ne\n");
}

#[test]
fn the_tail_reaches_back_over_files() {
    let (_dir, path) = log(THREE);
    for (lines, want) in
        [(0, ""), (1, "e\n"), (2, "d\ne\n"), (3, "c\nd\ne\n"), (5, "a\nb\nc\nd\ne\n"), (99, "a\nb\nc\nd\ne\n")]
    {
        assert_eq!(read(&path, Wanted { tail: Some(lines), ..raw() }), want, "tail {lines}");
    }
}

#[test]
fn since_and_until_include_their_second() {
    let (_dir, path) = log(THREE);
    let at = |second| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
    assert_eq!(read(&path, Wanted { since: at(3), ..raw() }), "c\nd\ne\n");
    assert_eq!(read(&path, Wanted { until: at(3), ..raw() }), "a\nb\nc\n");
    assert_eq!(read(&path, Wanted { since: at(2), until: at(4), ..raw() }), "b\nc\nd\n");
    assert_eq!(read(&path, Wanted { since: at(4), tail: Some(3), ..raw() }), "d\ne\n", "the tail is cut first");
}

#[test]
fn pieces_of_a_long_line_are_one_line() {
    let entries: &[_] = &[
        ("stdout", 1, "one\n"),
        ("stdout", 2, "long "),
        ("stderr", 3, "err\n"),
        ("stdout", 4, "line\n"),
        ("stdout", 5, "rest"),
    ];
    let (_dir, path) = log(&[("", entries)]);
    let stamped = read(&path, Wanted { timestamps: true, stderr: false, ..raw() });
    let want = "1970-01-01T00:00:01.000000000Z one\n1970-01-01T00:00:02.000000000Z long line\n\
                1970-01-01T00:00:05.000000000Z rest";
    assert_eq!(stamped, want);
    assert_eq!(read(&path, Wanted { tail: Some(1), ..raw() }), "rest");
    assert_eq!(read(&path, Wanted { tail: Some(2), ..raw() }), "line\nrest", "what stands between is kept in order");
    let (_dir, path) =
        log(&[("", &[("stdout", 1, "x"), ("stdout", 1, "y"), ("stdout", 1, "z\n"), ("stdout", 2, "end\n")])]);
    assert_eq!(read(&path, Wanted { tail: Some(2), ..raw() }), "xyz\nend\n");
}

#[test]
fn frames_name_their_stream() {
    let (_dir, path) = log(&[("", &[("stdout", 1, "o\n"), ("stderr", 2, "é\n")])]);
    let mut reader = Reader::open(&path, Wanted { raw: false, ..raw() }).unwrap();
    let bytes = reader.more().unwrap();
    assert_eq!(bytes, b"\x01\0\0\0\0\0\0\x02o\n\x02\0\0\0\0\0\0\x03\xc3\xa9\n");
}

#[test]
fn torn_and_missing_logs_are_read_as_far_as_they_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    assert_eq!(read(&path, Wanted { tail: Some(3), ..raw() }), "");
    std::fs::write(&path, format!("{}{{\"log\":\"torn{}", line("stdout", 1, "a\n"), line("stdout", 2, "b\n"))).unwrap();
    assert_eq!(read(&path, raw()), "a\n");
    std::fs::write(&path, format!("{}{{\"log\":\"half", line("stdout", 1, "a\n"))).unwrap();
    assert_eq!(read(&path, raw()), "a\n");
    assert_eq!(read(&path, Wanted { tail: Some(1), ..raw() }), "a\n");
}

#[test]
fn a_big_log_is_read_in_pieces_and_its_tail_without_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    let text: String = (0..20_000).map(|n| line("stdout", 1, &format!("line {n}\n"))).collect();
    std::fs::write(&path, text).unwrap();
    let mut reader = Reader::open(&path, raw()).unwrap();
    let first = reader.more().unwrap();
    assert!((BLOCK..3 * BLOCK).contains(&first.len()), "{}", first.len());
    assert_eq!(read(&path, raw()).lines().count(), 20_000);
    assert_eq!(read(&path, Wanted { tail: Some(5000), ..raw() }).lines().next(), Some("line 15000"));
}

async fn all(mut receiver: mpsc::Receiver<io::Result<Bytes>>) -> String {
    let mut text = Vec::new();
    while let Some(piece) = receiver.recv().await {
        text.extend_from_slice(&piece.unwrap());
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn following_goes_through_rotation_to_the_containers_end() {
    let (_dir, path) = log(&[("", &[("stdout", 1, "a\n")])]);
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let ended = async move { ended.await.unwrap() };
    let receiver = stream(path.clone(), raw(), Some(ended)).await.unwrap();
    let reading = tokio::spawn(all(receiver));
    let numbered = |n: u32| PathBuf::from(format!("{}.{n}", path.display()));
    for round in 0..30u32 {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap()
            .write_all(line("stdout", 2, &format!("{round}\n")).as_bytes())
            .unwrap();
        if round % 7 == 6 {
            // As the shim rotates with three files.
            let _ = std::fs::rename(numbered(1), numbered(2));
            std::fs::rename(&path, numbered(1)).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    end.send(()).unwrap();
    let want: String = std::iter::once("a\n".to_owned()).chain((0..30).map(|n| format!("{n}\n"))).collect();
    let read = tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap().unwrap();
    assert_eq!(read, want);
}

#[tokio::test]
async fn an_emptied_log_is_followed_from_its_start() {
    let (_dir, path) = log(&[("", &[("stdout", 1, "a long line before it was emptied\n")])]);
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let mut receiver = stream(path.clone(), raw(), Some(async move { ended.await.unwrap() })).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "a long line before it was emptied\n");
    std::fs::write(&path, line("stdout", 2, "b\n")).unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "b\n");
    end.send(()).unwrap();
    assert!(receiver.recv().await.is_none());
}

#[tokio::test]
async fn a_follower_whose_client_goes_away_ends() {
    let (_dir, path) = log(&[("", &[("stdout", 1, "a\n")])]);
    let held = std::sync::Arc::new(());
    let weak = std::sync::Arc::downgrade(&held);
    let never = async move {
        let _held = held;
        std::future::pending::<()>().await;
    };
    let mut receiver = stream(path, raw(), Some(never)).await.unwrap();
    receiver.recv().await.unwrap().unwrap();
    drop(receiver);
    for _ in 0..200 {
        if weak.upgrade().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the follower still runs");
}

#[test]
fn packed_files_are_read_like_others_and_only_when_somebody_asks_so_far_back() {
    let (_dir, path) = log(THREE);
    for number in ["2", "1"] {
        let plain = PathBuf::from(format!("{}.{number}", path.display()));
        let meta = std::fs::metadata(&plain).unwrap();
        use std::os::unix::fs::MetadataExt;
        let out = std::fs::File::create(format!("{}.gz", plain.display())).unwrap();
        let comment = format!("{}:{}", meta.dev(), meta.ino());
        let mut packer = flate2::GzBuilder::new().comment(comment).write(out, flate2::Compression::fast());
        std::io::copy(&mut std::fs::File::open(&plain).unwrap(), &mut packer).unwrap();
        packer.finish().unwrap();
        let id = Part::open(&path, number.parse().unwrap()).unwrap().id;
        std::fs::remove_file(&plain).unwrap();
        assert_eq!(Part::open(&path, number.parse().unwrap()).unwrap().id, id, "packed it is the same");
    }
    assert_eq!(read(&path, raw()), "a\nb\nc\nd\ne\n");
    for (lines, want) in [(2, "d\ne\n"), (3, "c\nd\ne\n"), (4, "b\nc\nd\ne\n"), (99, "a\nb\nc\nd\ne\n")] {
        assert_eq!(read(&path, Wanted { tail: Some(lines), ..raw() }), want, "tail {lines}");
    }
    // A torn one stops nobody who does not read it.
    std::fs::write(format!("{}.2.gz", path.display()), b"torn").unwrap();
    assert_eq!(read(&path, Wanted { tail: Some(2), ..raw() }), "d\ne\n");
}

#[test]
fn details_come_between_the_time_and_the_line() {
    let (_dir, path) = log(&[("", &[("stdout", 1, "plain\n")])]);
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    let entry = serde_json::json!({"log": "x\n", "stream": "stdout", "attrs": {"b": "2", "a": "1"}, "time": "1970-01-01T00:00:02Z"});
    writeln!(file, "{entry}").unwrap();
    assert_eq!(read(&path, Wanted { details: true, ..raw() }), " plain\na=1,b=2 x\n");
    assert_eq!(
        read(&path, Wanted { details: true, timestamps: true, tail: Some(1), ..raw() }),
        "1970-01-01T00:00:02.000000000Z a=1,b=2 x\n"
    );
}
