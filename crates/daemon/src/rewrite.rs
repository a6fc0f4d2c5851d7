//! Other words in a file that others have open: a file which is mounted into a container must stay the same file.

use crate::error::{Doing, Result};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Puts `text` in place of what a text file holds. Whoever reads meanwhile finds the old lines, or the new ones, perhaps with
/// empty lines behind them, but never a part of a line or an empty file.
///
/// # Errors
/// The disk's.
pub fn rewrite(file: &Path, text: &str) -> Result<()> {
    let doing = || format!("write {}", file.display());
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(file).doing(doing())?;
    let old = usize::try_from(open.metadata().doing(doing())?.len()).unwrap_or(usize::MAX);
    // Longer: room first, of empty lines, so that no length cuts the new text.
    if old > 0 && text.len() > old {
        open.write_all_at("\n".repeat(text.len() - old).as_bytes(), old as u64).doing(doing())?;
    }
    // All at once, with empty lines over what is left of a longer text.
    let rest = "\n".repeat(old.saturating_sub(text.len()));
    open.write_all_at([text, &rest].concat().as_bytes(), 0).doing(doing())?;
    open.set_len(text.len() as u64).doing(doing())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    #[test]
    fn the_file_stays_the_same_and_has_the_new_text() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        rewrite(&file, "a\n").unwrap();
        let inode = std::fs::metadata(&file).unwrap().ino();
        for text in ["a longer one\nwith lines\n", "short\n", "", "again\n"] {
            rewrite(&file, text).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
            assert_eq!(std::fs::metadata(&file).unwrap().ino(), inode);
        }
    }

    #[test]
    fn a_reader_never_misses_what_is_always_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        let (short, long) =
            ("127.0.0.1\tlocalhost\n10.0.0.3\tme\n", "127.0.0.1\tlocalhost\n10.0.0.2\tdb h mydb\n10.0.0.3\tme\n");
        rewrite(&file, short).unwrap();
        let (done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let text = std::fs::read_to_string(&file).unwrap();
                    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
                    let both = ["127.0.0.1\tlocalhost", "10.0.0.3\tme"];
                    assert!(both.iter().all(|line| lines.contains(line)), "{text:?}");
                    assert!(lines.iter().all(|line| long.contains(line)), "{text:?}");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut turn = 0;
            // A busy host may not let the reader read for a while.
            while !reader.is_finished() && (turn < 5000 || reads.load(Ordering::Relaxed) <= 10) {
                rewrite(&file, if turn % 2 == 0 { long } else { short }).unwrap();
                turn += 1;
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
    }
}
