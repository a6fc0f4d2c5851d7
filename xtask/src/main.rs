//! The project's own recipes: `cargo xtask demo`, `test`, `bench`, `clean-labs`, `help`.
#![forbid(unsafe_code)]

/// `cargo xtask bench`.
mod bench;
/// Cargo and the directory that it builds into.
mod cargo;
/// `cargo xtask demo`.
mod demo;
/// Debian packages: what is needed, why, and how it comes here.
mod packages;
/// What test runners say in their closing lines.
mod tally;
/// `cargo xtask test`.
mod test;

use anyhow::{Context, Result, bail};
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask RECIPE

  demo                   build, then show containers of the four kinds in a throw-away network
  test                   install what tests need, build, check and run everything
  bench NAME [ROUNDS]    measure, and keep the report in target/bench/NAME.md:
BENCHES
  clean-labs             remove directories and cgroups of labs that were killed
  help                   this text

demo, test and bench need the right to make namespaces: root, or --privileged inside a container.
Missing Debian packages are installed when root runs a recipe on Debian, and named otherwise.
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match recipe(&words) {
        Ok(code) => code,
        Err(err) => {
            eprintln!("xtask: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn recipe(words: &[&str]) -> Result<ExitCode> {
    match words {
        ["demo"] => demo::outside(),
        [demo::INSIDE] => demo::inside(),
        ["test"] => test::all(),
        ["bench", name] => bench::outside(name, None),
        ["bench", name, rounds] => {
            bench::outside(name, Some(rounds.parse().with_context(|| format!("`{rounds}` is no number of rounds"))?))
        }
        [bench::INSIDE, name, rounds] => bench::inside(name, rounds.parse()?),
        ["clean-labs"] => {
            for path in lab::throwaway::clean()? {
                println!("removed {}", path.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        ["help" | "--help" | "-h"] | [] => {
            print!("{}", help());
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("there is no recipe `{}`\n\n{}", words.join(" "), help()),
    }
}

fn help() -> String {
    let lines: Vec<String> = bench::ALL.iter().map(|bench| format!("    {:<20} {}", bench.name, bench.about)).collect();
    HELP.replace("BENCHES", &lines.join("\n"))
}

/// Fails, in one line that says how to get it, where the recipes have no right to make namespaces.
fn need_namespaces() -> Result<()> {
    lab::namespaces::available().map_err(anyhow::Error::msg)
}

/// Runs this program again, as `recipe` with `words`, in throw-away namespaces and on these standard streams. Its helper
/// programs are those in the directory `programs`.
fn in_a_lab(recipe: &str, words: &[String], programs: &std::path::Path) -> Result<ExitCode> {
    let place = lab::throwaway::Throwaway::new().context("a directory for a lab")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(recipe).args(words).env("BERTH_BIN_DIR", programs);
    // What fails inside says what it tried and what came back; where in the code is of no use to who sees a demo.
    command.env("RUST_BACKTRACE", "0");
    let ended = place.run_in_sight(command).context("starting the lab")?;
    let success = ended.status.is_some_and(|status| status.success());
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
