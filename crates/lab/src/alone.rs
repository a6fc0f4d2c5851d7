use crate::throwaway::Throwaway;
use crate::{Lab, namespaces};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// How long a lab may take.
const LIMIT: Duration = Duration::from_secs(120);
/// The test that runs inside a lab; unset outside.
const TEST: &str = "BERTH_LAB_TEST";

/// Runs the calling test again, alone in fresh namespaces, and gives it a [`Lab`] there. Must be called with a closure
/// written in the `#[test]` function itself: its type's name tells which test to run.
///
/// Outside, this waits for the second run, repeats what it printed, and panics if it failed or took over two minutes.
pub fn alone<F: FnOnce(&Lab)>(test: F) {
    alone_for(LIMIT, test);
}

/// [`alone`] with another time limit.
pub fn alone_for<F: FnOnce(&Lab)>(limit: Duration, test: F) {
    let name = test_name(std::any::type_name::<F>());
    match std::env::var(TEST) {
        Ok(inside) if inside == name => run_inside(&name, limit, test),
        Ok(inside) => panic!("lab::alone of `{name}` inside the lab of `{inside}`: a lab holds one test"),
        Err(_) => run_outside(&name, limit),
    }
}

/// `crate::module::test::{{closure}}` without the crate and the closure: what the test harness calls it.
fn test_name(closure: &str) -> String {
    let function = closure.split("::{{closure}}").next().unwrap_or(closure);
    function.split_once("::").map_or(function, |(_crate, path)| path).to_owned()
}

fn run_inside(name: &str, limit: Duration, test: impl FnOnce(&Lab)) {
    let lab = Lab::inside().unwrap_or_else(|err| panic!("lab of `{name}`: {err}"));
    if keeping() {
        keep_on_panic(&lab);
        return test(&lab);
    }
    let (done, ended) = mpsc::channel::<()>();
    let logs = lab.logs();
    let title = name.to_owned();
    let watchdog = std::thread::spawn(move || {
        if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("lab: the time limit of {limit:?} is over in `{title}`");
            logs.print();
            std::process::abort();
        }
    });
    test(&lab);
    drop(done);
    // It only waits for the channel, which is closed now.
    let _ = watchdog.join();
}

fn run_outside(name: &str, limit: Duration) {
    if let Err(why) = namespaces::available() {
        assert!(
            std::env::var_os("BERTH_SKIP_LABS").is_some_and(|value| value == "1"),
            "{why}; or set BERTH_SKIP_LABS=1 to skip labs"
        );
        println!("skipped: {why}");
        return count_skipped(name);
    }
    let place = Throwaway::new().unwrap_or_else(|err| panic!("a directory for the lab of `{name}`: {err}"));
    let mut command = Command::new(std::env::current_exe().expect("a process knows its executable"));
    command.args([name, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"]).env(TEST, name);
    let ended = if keeping() {
        place.run_in_sight(command)
    } else {
        // The lab itself watches its limit and can say more; this is for the case that it cannot.
        place.run(command, limit + Duration::from_secs(10))
    };
    let ended = ended.unwrap_or_else(|err| panic!("starting the lab of `{name}`: {err}"));
    print!("{}", ended.said);
    match ended.status {
        None => panic!("the lab of `{name}` was killed: it took over {limit:?}"),
        Some(status) if !status.success() => panic!("`{name}` failed in its lab ({status}); what it said is above"),
        Some(_) => assert!(
            ended.entered,
            "no test `{name}` came as far as its lab: call lab::alone in the test function itself"
        ),
    }
}

fn keeping() -> bool {
    std::env::var_os("LAB_KEEP").is_some_and(|value| value == "1")
}

/// Stops a failing test where it stands, before anything is taken down, and says how to look around.
fn keep_on_panic(lab: &Lab) {
    let before = std::panic::take_hook();
    let test = std::thread::current().id();
    let pid = lab.outer_pid();
    let logs = lab.logs();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        if std::thread::current().id() == test {
            logs.print();
            eprintln!(
                "lab: kept as it is. Enter it with `nsenter -t {pid} -a`, hosts by `ip netns exec NAME`; end it with Ctrl-C"
            );
            loop {
                std::thread::park();
            }
        }
    }));
}

/// Where skipped labs are counted, a line each: `BERTH_LAB_SKIPPED`, else `lab-skipped` in the target directory.
fn count_skipped(name: &str) {
    let path = match std::env::var_os("BERTH_LAB_SKIPPED") {
        Some(path) => PathBuf::from(path),
        None => crate::engine::target_dir().join("lab-skipped"),
    };
    let written =
        std::fs::OpenOptions::new().create(true).append(true).open(&path).and_then(|mut file| writeln!(file, "{name}"));
    if let Err(err) = written {
        panic!("counting the skipped test `{name}` in {}: {err}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::test_name;

    #[test]
    fn a_closure_tells_its_test() {
        assert_eq!(test_name("labs::two_hosts::{{closure}}"), "two_hosts");
        assert_eq!(test_name("lab::alone::tests::deep::{{closure}}::{{closure}}"), "alone::tests::deep");
    }
}
