//! `create`, and the making of a container that `run` shares.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use clap::{Arg, ArgMatches};
use serde_json::Value;

use super::{Ask, pull};
use crate::failure::Failure;
use crate::flags::Flags;
use crate::printer;
use crate::reference::Reference;
use crate::spec::body::{self, Place, Spec};
use crate::spec::flags as described;
use crate::terminal;
use crate::wire::{Call, Wire};

/// The flags of `create`.
pub fn flags() -> Vec<Arg> {
    described::create()
}

/// Makes a container and prints its ID.
pub async fn create(ask: &Ask<'_>) -> Result<u8, Failure> {
    let refused = |why: String| Failure::Refused(why).of_run("create");
    let pull = Pull::read(ask.m).map_err(refused)?;
    let spec = read(ask.m, &ask.args, false).map_err(refused)?;
    let id = make(ask.wire, ask.m, &spec, pull).await?;
    printer::line(&id);
    Ok(0)
}

/// When to pull an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// Before the container is made, whatever is here.
    Always,
    /// If it is not here.
    Missing,
    /// Not at all.
    Never,
}

impl Pull {
    /// Reads `--pull`.
    pub fn read(m: &ArgMatches) -> Result<Self, String> {
        match m.get("pull").unwrap_or("missing") {
            "always" => Ok(Self::Always),
            "missing" | "" => Ok(Self::Missing),
            "never" => Ok(Self::Never),
            other => {
                Err(format!("invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""))
            }
        }
    }
}

/// Reads the flags of `run` or `create`.
pub fn read(m: &ArgMatches, args: &[String], detach: bool) -> Result<Spec, String> {
    let dir = std::env::current_dir().map_err(|err| format!("find the working directory: {err}"))?;
    let terminal = if m.on("tty") { terminal::size() } else { (0, 0) };
    let place = Place { env: &|name| std::env::var(name).ok(), dir: &dir, terminal };
    let spec = body::read(m, args, detach, &place)?;
    Reference::parse(&spec.image).map(drop).or_else(|why| {
        // An ID of an image is no name, and as good.
        let is_id = spec.image.trim_start_matches("sha256:").bytes().all(|b| b.is_ascii_hexdigit());
        if is_id && !spec.image.is_empty() { Ok(()) } else { Err(why) }
    })?;
    Ok(spec)
}

/// Makes the container, with a pull where the rules ask for one, and writes its ID where the user wants it.
pub async fn make(wire: &Wire, m: &ArgMatches, spec: &Spec, pull: Pull) -> Result<String, Failure> {
    let mut cidfile = open_cidfile(m)?;
    let platform = spec.platform.as_deref();
    let quiet = m.on("quiet");
    if pull == Pull::Always {
        pull::for_run(wire, &spec.image, platform, quiet).await?;
    }
    let call = || {
        Call::post("/containers/create")
            .query_if("name", spec.name.as_deref())
            .query_if("platform", platform)
            .json(spec.body.clone())
    };
    let made = match wire.ask(call()).await {
        Err(Failure::Engine { status: 404, message })
            if pull == Pull::Missing && message.starts_with("No such image") =>
        {
            if !quiet {
                let name = Reference::parse(&spec.image).map_or(spec.image.clone(), |name| name.or_latest().familiar());
                printer::complain(&format!("Unable to find image '{name}' locally"));
            }
            pull::for_run(wire, &spec.image, platform, quiet).await?;
            wire.ask(call()).await
        }
        other => other,
    };
    let made = match made {
        Ok(made) => made,
        Err(failure) => {
            // An empty file would keep the next run from starting.
            if let Some((path, _)) = &cidfile {
                let _ = std::fs::remove_file(path);
            }
            return Err(failure);
        }
    };
    for warning in made["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        printer::complain(&format!("WARNING: {warning}"));
    }
    let id = made["Id"].as_str().ok_or_else(|| Failure::Garbled {
        request: "POST /containers/create".to_owned(),
        reason: "it has no Id".to_owned(),
    })?;
    if let Some((path, file)) = &mut cidfile {
        file.write_all(id.as_bytes()).map_err(Failure::io(format!("write the container ID to {}", path.display())))?;
    }
    Ok(id.to_owned())
}

type CidFile = (Box<Path>, File);

fn open_cidfile(m: &ArgMatches) -> Result<Option<CidFile>, Failure> {
    let Some(path) = m.get("cidfile").filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    match File::create_new(path) {
        Ok(file) => Ok(Some((Path::new(path).into(), file))),
        Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::refused(format!(
            "container ID file found, make sure the other container isn't running or delete {path}"
        ))),
        Err(err) => Err(Failure::io(format!("failed to create the container ID file {path}"))(err)),
    }
}
