//! `cp` and `export`: files out of containers and into them.

use super::answer::{Answer, empty, streamed, typed};
use super::ask::Ask;
use super::{images, pipes, volumes};
use crate::container::Container;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::rootfs::archive::{Files, PathStat, Put};
use crate::{rootfs, time, users};
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{HeaderName, HeaderValue};
use rustix::fs::{Mode, OFlags};
use serde_json::json;
use std::os::fd::{AsFd, OwnedFd};

/// A container's root: that of its processes with all their mounts, or its layers while it does not run.
fn root(engine: &Engine, container: &Container) -> Result<OwnedFd> {
    if container.state.phase.is_alive() {
        let path = format!("/proc/{}/root", container.state.pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        return rustix::fs::open(&path, flags, Mode::empty()).doing(format_args!("open {path}"));
    }
    let image = engine.images.resolve(&container.image_id).map_err(|refusal| images::refused(&refusal))?;
    let dir = engine.state_dir(&container.id);
    let (upper, work) = (dir.join("diff"), dir.join("work"));
    for dir in [&upper, &work] {
        std::fs::create_dir_all(dir).doing(format_args!("make {}", dir.display()))?;
    }
    rootfs::mount(&engine.images.layers(&image), &upper, &work, false)
}

fn files(engine: &Engine, container: &Container) -> Result<Files> {
    let root = root(engine, container)?;
    let mounts = if container.state.phase.is_alive() { &[][..] } else { &container.mounts[..] };
    Ok(Files::new(&container.name, root, mounts, container.spec.security.read_only_root))
}

fn path(ask: &Ask) -> Result<String> {
    let path = ask.query.text("path").ok_or_else(|| Error::Invalid("bad parameter: path cannot be empty".into()))?;
    Ok(path.to_owned())
}

/// The header in which `cp` learns what it will get: base64 of JSON.
fn stat_header(stat: &PathStat) -> Result<HeaderValue> {
    let text = json!({
        "name": stat.name,
        "size": stat.size,
        "mode": stat.mode,
        "mtime": time::rfc3339(stat.modified),
        "linkTarget": stat.link_target,
    });
    HeaderValue::from_str(&base64(text.to_string().as_bytes())).doing("encode a path's description")
}

const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

pub async fn stat(ask: Ask) -> Result<Answer> {
    let container = ask.engine.snapshot(ask.name())?;
    let path = path(&ask)?;
    let stat = volumes::blocking(ask.engine.clone(), move |engine| files(engine, &container)?.stat(&path)).await?;
    let mut answer = empty(StatusCode::OK);
    answer.headers_mut().insert(STAT, stat_header(&stat)?);
    Ok(answer)
}

pub async fn get(ask: Ask) -> Result<Answer> {
    let container = ask.engine.snapshot(ask.name())?;
    let place = path(&ask)?;
    let asked = place.clone();
    let (files, stat) = volumes::blocking(ask.engine.clone(), move |engine| {
        let files = files(engine, &container)?;
        let stat = files.stat(&asked)?;
        Ok((files, stat))
    })
    .await?;
    let mut answer = streamed("application/x-tar", pipes::written(move |out| files.get(&place, out)));
    answer.headers_mut().insert(STAT, stat_header(&stat)?);
    Ok(answer)
}

pub async fn put(mut ask: Ask) -> Result<Answer> {
    let container = ask.engine.snapshot(ask.name())?;
    let place = path(&ask)?;
    let keep_kinds = ask.query.is("noOverwriteDirNonDir");
    let to_user = ask.query.is("copyUIDGID");
    let body = pipes::reader(ask.take_body());
    volumes::blocking(ask.engine.clone(), move |engine| {
        let owner = if to_user {
            let root = root(engine, &container)?;
            let user = users::resolve(root.as_fd(), &container.spec.user, &[])?;
            Some((user.uid, user.gid))
        } else {
            None
        };
        files(engine, &container)?.put(&place, body, Put { keep_kinds, owner })
    })
    .await?;
    Ok(empty(StatusCode::OK))
}

pub async fn export(ask: Ask) -> Result<Answer> {
    let container = ask.engine.snapshot(ask.name())?;
    let events = ask.engine.events.clone();
    let exported = container.clone();
    let root = volumes::blocking(ask.engine.clone(), move |engine| root(engine, &container)).await?;
    let pieces = pipes::written(move |out| {
        rootfs::export::export(root.as_fd(), out).doing(format_args!("export {}", exported.name))?;
        events.container("export", &exported, &[]);
        Ok(())
    });
    Ok(typed(StatusCode::OK, "application/x-tar", Body::from_stream(pieces)))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().chain([0, 0].iter()).take(3).fold(0u32, |group, byte| group << 8 | u32::from(*byte));
        for place in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
