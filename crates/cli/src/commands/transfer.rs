//! Archives in and out: `load`, `save`, `import`, `export`, `cp`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Arg;

use super::Ask;
use super::image::path;
use super::pull::{Where, progress};
use crate::failure::Failure;
use crate::flags::{Flags, LONG, list, switch, text};
use crate::reference::Reference;
use crate::spec::envs::open_error;
use crate::terminal;
use crate::wire::{Call, Stream, escape};

/// `-o`
pub fn output_flag() -> Vec<Arg> {
    vec![text("output", 'o', "string", "Write to this file instead of standard output")]
}

/// The flags of `save`.
pub fn save_flags() -> Vec<Arg> {
    let mut all = output_flag();
    all.push(text("platform", LONG, "string", "Write only this platform"));
    all
}

/// The flags of `load`.
pub fn load_flags() -> Vec<Arg> {
    vec![
        text("input", 'i', "string", "Read this file instead of standard input"),
        text("platform", LONG, "string", "Read only this platform"),
        switch("quiet", 'q', "Do not show the progress"),
    ]
}

/// The flags of `import`.
pub fn import_flags() -> Vec<Arg> {
    vec![
        list("change", 'c', "list", "Apply an instruction of a Dockerfile to the image"),
        text("message", 'm', "string", "A comment for the image"),
        text("platform", LONG, "string", "Platform of the image"),
    ]
}

/// The flags of `cp`.
pub fn cp_flags() -> Vec<Arg> {
    vec![
        switch("archive", 'a', "Keep owners"),
        switch("follow-link", 'L', "Copy what a link points to instead of the link"),
        switch("quiet", 'q', "Do not show the progress"),
    ]
}

fn open(file: &str) -> Result<File, Failure> {
    File::open(file).map_err(|err| Failure::refused(open_error(file, &err)))
}

/// Reads images from an archive.
pub async fn load(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let from: Box<dyn Read + Send> = match m.get("input").filter(|file| !file.is_empty()) {
        Some(file) => Box::new(open(file)?),
        None if terminal::is_input() => {
            return Err(Failure::refused("requested load from stdin, but stdin is empty"));
        }
        None => Box::new(io::stdin()),
    };
    let quiet = m.on("quiet");
    let call = Call::post("/images/load")
        .switch("quiet", quiet || !terminal::is_output())
        .query_if("platform", m.get("platform"));
    let stream = ask.wire.upload(call, from).await?;
    // The names of what was loaded come as messages too, and are wanted even with -q.
    progress(stream.values(), false, Where::Out).await?;
    Ok(0)
}

/// Makes an image from a file system in an archive.
pub async fn import(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let source = ask.args[0].as_str();
    let mut call = Call::post("/images/create");
    let from: Option<Box<dyn Read + Send>> = if source == "-" {
        call = call.query("fromSrc", "-");
        Some(Box::new(io::stdin()))
    } else if source.starts_with("http://") || source.starts_with("https://") {
        call = call.query("fromSrc", source);
        None
    } else {
        call = call.query("fromSrc", "-");
        Some(Box::new(open(source)?))
    };
    if let Some(name) = ask.args.get(1) {
        let name = Reference::parse(name).map_err(Failure::Refused)?.or_latest();
        call = call.query("repo", name.name()).query("tag", name.version_text());
    }
    call = call.query_if("message", m.get("message")).query_if("platform", m.get("platform"));
    for change in m.all("change") {
        call = call.query("changes", change);
    }
    let stream = match from {
        Some(from) => ask.wire.upload(call, from).await?,
        None => ask.wire.stream(call).await?,
    };
    progress(stream.values(), false, Where::Out).await?;
    Ok(0)
}

/// Writes images to an archive.
pub async fn save(ask: &Ask<'_>) -> Result<u8, Failure> {
    let call = match ask.args.as_slice() {
        [one] => Call::get(format!("/images/{}/get", path(one))),
        many => many.iter().fold(Call::get("/images/get"), |call, name| call.query("names", name)),
    };
    archive(ask, call.query_if("platform", ask.m.get("platform"))).await
}

/// Writes a container's file system to an archive.
pub async fn export(ask: &Ask<'_>) -> Result<u8, Failure> {
    archive(ask, Call::get(format!("/containers/{}/export", escape(&ask.args[0])))).await
}

async fn archive(ask: &Ask<'_>, call: Call) -> Result<u8, Failure> {
    let output = ask.m.get("output").filter(|file| !file.is_empty());
    if output.is_none() && terminal::is_output() {
        return Err(Failure::refused("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let stream = ask.wire.stream(call).await?;
    match output {
        None => copy(stream, &mut io::stdout().lock(), "standard output").await?,
        Some(file) => {
            // The archive takes its name only when it is whole.
            let partial = PathBuf::from(format!("{file}.partial-{}", std::process::id()));
            let written = async {
                let mut to = File::create(&partial).map_err(Failure::io(format!("make {}", partial.display())))?;
                copy(stream, &mut to, file).await?;
                std::fs::rename(&partial, file).map_err(Failure::io(format!("make {file}")))
            };
            if let Err(failure) = written.await {
                let _ = std::fs::remove_file(&partial);
                return Err(failure);
            }
        }
    }
    Ok(0)
}

async fn copy(mut from: Stream, to: &mut dyn Write, name: &str) -> Result<(), Failure> {
    while let Some(chunk) = from.chunk().await? {
        to.write_all(&chunk).map_err(Failure::io(format!("write {name}")))?;
    }
    to.flush().map_err(Failure::io(format!("write {name}")))
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Container(&'a str, &'a str),
    Here(&'a str),
    Stream,
}

fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        _ if text == "-" => Side::Stream,
        // A path that begins like one is a path here, whatever colons it has.
        Some((name, path)) if !name.is_empty() && !text.starts_with(['/', '.']) => Side::Container(name, path),
        _ => Side::Here(text),
    }
}

/// Copies files between a container and this machine.
pub async fn cp(ask: &Ask<'_>) -> Result<u8, Failure> {
    match (side(&ask.args[0]), side(&ask.args[1])) {
        (Side::Container(..), Side::Container(..)) => {
            Err(Failure::refused("copying between containers is not supported"))
        }
        (Side::Container(name, path), Side::Stream) => {
            if terminal::is_output() {
                return Err(Failure::refused("refusing to write a tar stream to a terminal: redirect it"));
            }
            let stream = fetch(ask, name, path).await?;
            copy(stream, &mut io::stdout().lock(), "standard output").await?;
            Ok(0)
        }
        (Side::Container(name, path), Side::Here(to)) => copy_out(ask, name, path, Path::new(to)).await,
        (Side::Stream, Side::Container(name, path)) => {
            let stream = ask.wire.upload(put(ask, name, path), io::stdin()).await?;
            copy(stream, &mut io::sink(), "nothing").await?;
            Ok(0)
        }
        (Side::Here(from), Side::Container(name, path)) => copy_in(ask, Path::new(from), name, path).await,
        _ => Err(Failure::refused("must specify at least one container source")),
    }
}

fn put(ask: &Ask<'_>, name: &str, path: &str) -> Call {
    Call::put(format!("/containers/{}/archive", escape(name)))
        .query("path", path)
        .query("noOverwriteDirNonDir", "true")
        .switch("copyUIDGID", ask.m.on("archive"))
}

async fn fetch(ask: &Ask<'_>, name: &str, path: &str) -> Result<Stream, Failure> {
    ask.wire.stream(Call::get(format!("/containers/{}/archive", escape(name))).query("path", path)).await
}

/// The last part of a path, as a copy is named.
fn base(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

async fn copy_out(ask: &Ask<'_>, name: &str, path: &str, to: &Path) -> Result<u8, Failure> {
    let mut stream = fetch(ask, name, path).await?;
    let mut archive = tempfile_here(to)?;
    let whole = async {
        while let Some(chunk) = stream.chunk().await? {
            archive.1.write_all(&chunk).map_err(Failure::io("keep the archive"))?;
        }
        Ok(())
    };
    let result = match whole.await {
        Ok(()) => unpack(&archive.0, base(path), path.ends_with("/."), to),
        Err(failure) => Err(failure),
    };
    let _ = std::fs::remove_file(&archive.0);
    result.map(|()| 0)
}

/// A file next to the destination that holds the archive while it comes.
fn tempfile_here(to: &Path) -> Result<(PathBuf, File), Failure> {
    let dir =
        if to.is_dir() { to } else { to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")) };
    let file = dir.join(format!(".berth-cp-{}", std::process::id()));
    let open = File::create_new(&file).map_err(Failure::io(format!("make {}", file.display())))?;
    Ok((file, open))
}

/// Unpacks an archive whose entries all begin with `name`: into `to` if that is a directory, else under its name.
fn unpack(archive: &Path, name: &str, only_contents: bool, to: &Path) -> Result<(), Failure> {
    let file = File::open(archive).map_err(Failure::io(format!("open {}", archive.display())))?;
    let mut archive = tar::Archive::new(file);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    let failed = |err: io::Error| Failure::Io { what: format!("write {}", to.display()), source: err };
    let (dir, renamed) = if to.is_dir() {
        (to.to_owned(), None)
    } else {
        let parent = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        (parent.to_owned(), to.file_name().map(PathBuf::from))
    };
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = entry.path().map_err(failed)?.into_owned();
        let below = path.strip_prefix(name).ok().map(Path::to_owned);
        let place = match (&renamed, below) {
            // Into a new name: what was called `name` is called that.
            (Some(new), Some(below)) => new.join(below),
            (None, Some(below)) if only_contents => below,
            _ => path,
        };
        let place: PathBuf = place.components().collect();
        if place.as_os_str().is_empty() {
            continue;
        }
        // `unpack` alone would follow `..` and links of the archive; checked by hand, then written at its place.
        let escapes = place.components().any(|part| !matches!(part, std::path::Component::Normal(_)));
        if escapes {
            return Err(Failure::refused(format!("the archive has an entry that leads outside: {}", place.display())));
        }
        let target = dir.join(&place);
        let parent = target.parent().unwrap_or(&dir);
        std::fs::create_dir_all(parent).map_err(failed)?;
        let inside = parent.canonicalize().map_err(failed)?.starts_with(dir.canonicalize().map_err(failed)?);
        if !inside {
            return Err(Failure::refused(format!(
                "the archive has an entry behind a link that leads outside: {}",
                place.display()
            )));
        }
        entry.unpack(&target).map_err(failed)?;
    }
    Ok(())
}

async fn copy_in(ask: &Ask<'_>, from: &Path, name: &str, path: &str) -> Result<u8, Failure> {
    let text = from.to_string_lossy().into_owned();
    let kind = if ask.m.on("follow-link") { from.metadata() } else { from.symlink_metadata() };
    let kind = kind.map_err(|err| Failure::refused(open_error(&text, &err).replacen("open", "lstat", 1)))?;
    // Into a directory that exists a copy keeps its name; otherwise the last part of the path is its new name.
    let into = ask
        .wire
        .stream(Call::head(format!("/containers/{}/archive", escape(name))).query("path", path))
        .await
        .ok()
        .and_then(|answer| answer.headers.get("X-Docker-Container-Path-Stat").cloned())
        .and_then(|stat| crate::credentials::decode(stat.to_str().ok()?))
        .and_then(|stat| serde_json::from_slice::<serde_json::Value>(&stat).ok())
        .and_then(|stat| stat["mode"].as_u64())
        // The highest bit of Go's file mode says directory.
        .is_some_and(|mode| mode & (1 << 31) != 0);
    let contents = text.ends_with("/.");
    let (dir, called) = if into {
        (path.to_owned(), if contents { String::new() } else { base(&text).to_owned() })
    } else if path.ends_with('/') && !kind.is_dir() {
        return Err(Failure::refused(format!("no such directory: {name}:{path}")));
    } else {
        let trimmed = path.trim_end_matches('/');
        let parent = trimmed.rsplit_once('/').map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent });
        (parent.to_owned(), base(trimmed).to_owned())
    };
    let (reader, writer) = io::pipe().map_err(Failure::io("make a pipe"))?;
    let (from, follow) = (from.to_owned(), ask.m.on("follow-link"));
    let packing = std::thread::spawn(move || pack(writer, &from, &called, kind.is_dir(), follow));
    let stream = ask.wire.upload(put(ask, name, &dir), reader).await?;
    copy(stream, &mut io::sink(), "nothing").await?;
    match packing.join() {
        Ok(packed) => packed.map_err(Failure::io(format!("read {text}")))?,
        Err(_) => return Err(Failure::refused(format!("reading {text} broke off"))),
    }
    Ok(0)
}

fn pack(to: impl Write, from: &Path, called: &str, is_dir: bool, follow: bool) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(follow);
    if is_dir {
        let called = if called.is_empty() { "." } else { called };
        archive.append_dir_all(called, from)?;
    } else {
        archive.append_path_with_name(from, called)?;
    }
    archive.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_of_a_copy() {
        for (text, wanted) in [
            ("web:/etc/hosts", Side::Container("web", "/etc/hosts")),
            ("./a:b", Side::Here("./a:b")),
            ("/a:b", Side::Here("/a:b")),
            ("file", Side::Here("file")),
            ("-", Side::Stream),
        ] {
            assert_eq!(side(text), wanted, "{text}");
        }
    }

    #[test]
    fn an_archive_is_unpacked_under_its_new_name_and_never_outside() {
        let dir = tempfile::tempdir().expect("a directory");
        let archive = dir.path().join("a.tar");
        let source = dir.path().join("src");
        std::fs::create_dir(&source).expect("a source");
        std::fs::write(source.join("x"), "1").expect("a file");
        pack(File::create(&archive).expect("an archive"), &source, "etc", true, false).expect("pack");
        unpack(&archive, "etc", false, &dir.path().join("new")).expect("unpack");
        assert_eq!(std::fs::read_to_string(dir.path().join("new/x")).expect("x"), "1");

        let target = dir.path().join("in");
        std::fs::create_dir(&target).expect("a target");
        let mut evil = tar::Builder::new(File::create(&archive).expect("an archive"));
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        evil.append_link(&mut link, "d/out", dir.path()).expect("a link");
        let mut file = tar::Header::new_gnu();
        file.set_size(1);
        file.set_mode(0o644);
        file.set_cksum();
        evil.append_data(&mut file, "d/out/evil", &b"1"[..]).expect("a file");
        evil.finish().expect("the archive");
        let refused = unpack(&archive, "d", false, &target).expect_err("it leads outside");
        assert!(refused.to_string().contains("leads outside"), "{refused}");
        assert!(!dir.path().join("evil").exists());
    }
}
