use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's static busybox, of the package `busybox-static`.
pub const PROGRAM: &str = "/bin/busybox";

/// The search path of the image.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The same in every build, so that the image has one id as long as busybox is the same.
const CREATED: &str = "2024-01-01T00:00:00Z";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\napp:x:1000:1000:app:/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\nwheel:x:10:root\nstaff:x:50:app\napp:x:1000:\nnogroup:x:65534:\n";

/// The path of an archive as `docker save busybox:latest` would write it. It is made on first use and kept in `cache`.
///
/// # Errors
/// When [`PROGRAM`] is missing, does not run, or is linked dynamically; when `cache` cannot be written.
pub fn archive(cache: &Path) -> io::Result<PathBuf> {
    let program = fs::read(PROGRAM)
        .map_err(|err| io::Error::new(err.kind(), format!("{PROGRAM} (Debian package busybox-static): {err}")))?;
    let path = cache.join(format!("busybox-{}.tar", &digest(&program)[..12]));
    if path.exists() {
        return Ok(path);
    }
    if is_dynamic(&program) {
        return Err(io::Error::other(format!(
            "{PROGRAM} is linked dynamically: install Debian's package busybox-static in place of busybox"
        )));
    }
    let bytes = image(&program, &applets()?)?;
    // Under a name of our own first: another process may be at the same.
    let draft = cache.join(format!(".busybox-{}", std::process::id()));
    fs::write(&draft, bytes)?;
    fs::rename(&draft, &path)?;
    Ok(path)
}

/// Whether an ELF file of 64 bits asks for an interpreter, a program header of type `PT_INTERP` (elf(5)).
fn is_dynamic(elf: &[u8]) -> bool {
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = elf.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let headers = || Some((number(32, 8)?, number(54, 2)?, number(56, 2)?));
    let Some((start, size, count)) = headers() else { return true };
    (0..count).any(|nth| number(start + nth * size, 4) == Some(3))
}

fn applets() -> io::Result<Vec<String>> {
    let output = Command::new(PROGRAM).arg("--list").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn image(program: &[u8], applets: &[String]) -> io::Result<Vec<u8>> {
    let layer = layer(program, applets)?;
    let layer_id = digest(&layer);
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": CREATED,
        "config": { "Cmd": ["sh"], "Env": [PATH] },
        "history": [{ "created": CREATED, "created_by": "static busybox" }],
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_id}")] },
    })
    .to_string();
    let config_name = format!("{}.json", digest(config.as_bytes()));
    let layer_name = format!("{layer_id}/layer.tar");
    let manifest =
        serde_json::json!([{ "Config": config_name, "RepoTags": ["busybox:latest"], "Layers": [layer_name] }])
            .to_string();

    let mut archive = tar::Builder::new(Vec::new());
    file(&mut archive, &config_name, 0o644, config.as_bytes())?;
    directory(&mut archive, &layer_id, 0o755, 0)?;
    file(&mut archive, &layer_name, 0o644, &layer)?;
    file(&mut archive, "manifest.json", 0o644, manifest.as_bytes())?;
    archive.into_inner()
}

/// The one layer: busybox under all its names, and as much of `/etc` as users and names need.
fn layer(program: &[u8], applets: &[String]) -> io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for (name, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o755),
        ("root", 0o700),
        ("sys", 0o755),
    ] {
        directory(&mut layer, name, mode, 0)?;
    }
    directory(&mut layer, "home/app", 0o755, 1000)?;
    directory(&mut layer, "tmp", 0o1777, 0)?;
    for name in ["usr", "usr/bin", "usr/sbin", "var", "var/www", "sbin"] {
        directory(&mut layer, name, 0o755, 0)?;
    }
    file(&mut layer, "bin/busybox", 0o755, program)?;
    for applet in applets.iter().filter(|applet| *applet != "busybox") {
        let mut header = header(tar::EntryType::Link, 0o755, 0);
        layer.append_link(&mut header, format!("bin/{applet}"), "bin/busybox")?;
    }
    file(&mut layer, "etc/passwd", 0o644, PASSWD.as_bytes())?;
    file(&mut layer, "etc/group", 0o644, GROUP.as_bytes())?;
    file(&mut layer, "etc/nsswitch.conf", 0o644, b"hosts: files dns\n")?;
    layer.into_inner()
}

fn header(kind: tar::EntryType, mode: u32, owner: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_mtime(1_704_067_200);
    header.set_size(0);
    header
}

fn directory(archive: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, owner: u64) -> io::Result<()> {
    archive.append_data(&mut header(tar::EntryType::Directory, mode, owner), format!("{name}/"), io::empty())
}

fn file(archive: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, mode, 0);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_names_what_it_holds() {
        let bytes = image(b"\x7fELF, say", &["[".into(), "busybox".into(), "sh".into()]).unwrap();
        let mut entries = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            io::Read::read_to_end(&mut entry, &mut content).unwrap();
            entries.insert(entry.path().unwrap().display().to_string(), content);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&entries["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "busybox:latest");
        let config = &entries[manifest[0]["Config"].as_str().unwrap()];
        assert_eq!(manifest[0]["Config"], format!("{}.json", digest(config)));
        let config: serde_json::Value = serde_json::from_slice(config).unwrap();
        let layer = &entries[manifest[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(layer)));
        let names: Vec<String> = tar::Archive::new(layer.as_slice())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        for name in ["bin/busybox", "bin/[", "bin/sh", "etc/passwd", "home/app/", "tmp/"] {
            assert_eq!(names.iter().filter(|have| *have == name).count(), 1, "{name} in {names:?}");
        }
    }

    #[test]
    fn an_interpreter_makes_a_program_dynamic() {
        let mut elf = vec![0; 64 + 56];
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        elf[64] = 1;
        assert!(!is_dynamic(&elf));
        elf[64] = 3;
        assert!(is_dynamic(&elf));
        assert!(is_dynamic(b"#!/bin/sh"));
    }
}
