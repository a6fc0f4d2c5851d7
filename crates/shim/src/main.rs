//! One tiny process a container: subreaper, pty and stdio, log, exit code, exec.
fn main() {}
