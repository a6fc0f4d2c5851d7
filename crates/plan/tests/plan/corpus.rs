//! The messages under `fuzz/corpus`, of which each once reached what no other had.

use super::messages;
use std::path::Path;

fn every(target: &str, check: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for file in std::fs::read_dir(&dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display())) {
        let path = file.unwrap().path();
        // A failing test shows what was written last.
        println!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 5, "{} holds only {count} messages", dir.display());
}

#[test]
fn questions_that_were_found() {
    every("question", messages::question);
}

#[test]
fn answers_that_were_found() {
    every("answer", messages::answer);
}
