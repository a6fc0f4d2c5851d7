use anyhow::{Context, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Writes an OCI bundle at `dir` whose container runs `true` from the archive of busybox in namespaces of its own, with
/// the six mounts that everybody has. Its cgroup is below `cgroup`.
pub fn write(dir: &Path, archive: &Path, cgroup: &str) -> Result<PathBuf> {
    let rootfs = dir.join("rootfs");
    std::fs::create_dir_all(&rootfs)?;
    let mut outer = tar::Archive::new(File::open(archive).with_context(|| archive.display().to_string())?);
    for entry in outer.entries()? {
        let mut entry = entry?;
        if entry.path()?.ends_with("layer.tar") {
            let mut layer = Vec::new();
            entry.read_to_end(&mut layer)?;
            tar::Archive::new(layer.as_slice()).unpack(&rootfs).context("unpacking the image")?;
        }
    }
    let mount = |to: &str, kind: &str, options: &[&str]| serde_json::json!({ "destination": to, "type": kind, "source": kind, "options": options });
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| serde_json::json!({ "type": kind }));
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "cgroupsPath": format!("{cgroup}/alone"),
            "namespaces": namespaces,
        },
    });
    std::fs::write(dir.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
    Ok(dir.to_owned())
}
