//! The default OCI runtime: libcontainer behind the standard command line, plus what it lacks.
fn main() {}
