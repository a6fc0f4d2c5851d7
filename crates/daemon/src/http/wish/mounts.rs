//! What is mounted: `Binds` (the `-v` form), `Mounts` (the `--mount` form), `Tmpfs`, `Volumes`, `VolumesFrom`.

use super::Around;
use crate::container::spec::MountSpec;
use crate::error::{Error, Result};
use api::{ContainerCreateBody, HostConfig, Mount, MountType};

/// Are these a mode of propagation?
pub fn is_propagation(word: &str) -> bool {
    ["private", "rprivate", "shared", "rshared", "slave", "rslave"].contains(&word)
}

/// All of them. What others bring (`VolumesFrom`) gives way to what is asked for at the same place.
pub fn mounts(body: &ContainerCreateBody, host: &HostConfig, around: &Around) -> Result<Vec<MountSpec>> {
    let mut mounts = Vec::new();
    for bind in host.binds.iter().flatten() {
        mounts.push(of_bind(bind)?);
    }
    for mount in host.mounts.iter().flatten() {
        mounts.push(of_mount(mount)?);
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        mounts.push(MountSpec::Tmpfs { target: absolute(target)?, options: tmpfs_options(options)? });
    }
    for target in body.volumes.iter().flatten() {
        let target = absolute(target)?;
        if !mounts.iter().any(|mount| self::target(mount) == target) {
            let (name, mode) = (None, String::new());
            mounts.push(MountSpec::Volume { name, target, read_only: false, no_copy: false, mode });
        }
    }
    for from in host.volumes_from.iter().flatten() {
        for mount in others(from, around)? {
            if !mounts.iter().any(|have| target(have) == target(&mount)) {
                mounts.push(mount);
            }
        }
    }
    Ok(mounts)
}

fn target(mount: &MountSpec) -> &str {
    match mount {
        MountSpec::Bind { target, .. } | MountSpec::Volume { target, .. } | MountSpec::Tmpfs { target, .. } => target,
    }
}

fn absolute(target: &str) -> Result<String> {
    if !target.starts_with('/') {
        return Err(Error::Invalid(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    Ok(target.to_owned())
}

/// What the words behind the last colon say.
#[derive(Default)]
struct Mode {
    read_only: bool,
    no_copy: bool,
    propagation: Option<String>,
}

fn mode(text: &str, is_bind: bool) -> Result<Mode> {
    let invalid = || Error::Invalid(format!("invalid mode: {text}"));
    let mut mode = Mode::default();
    // Of each kind of word at most one.
    let (mut access, mut label, mut consistency) = (0, 0, 0);
    for word in text.split(',').filter(|_| !text.is_empty()) {
        match word {
            "rw" => access += 1,
            "ro" => {
                access += 1;
                mode.read_only = true;
            }
            "z" | "Z" => label += 1,
            "consistent" | "cached" | "delegated" | "default" => consistency += 1,
            "nocopy" if !is_bind && !mode.no_copy => mode.no_copy = true,
            word if is_bind && is_propagation(word) && mode.propagation.is_none() => {
                mode.propagation = Some(word.to_owned());
            }
            _ => return Err(invalid()),
        }
    }
    if access > 1 || label > 1 || consistency > 1 { Err(invalid()) } else { Ok(mode) }
}

/// `SOURCE:TARGET[:MODE]`, where the source is a path or a volume's name, or `TARGET` alone for an anonymous volume.
fn of_bind(bind: &str) -> Result<MountSpec> {
    let invalid = |why: &str| Error::Invalid(format!("invalid volume specification: '{bind}'{why}"));
    let parts: Vec<&str> = bind.split(':').collect();
    let (source, target, words) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, words] => (source, target, words),
        _ => return Err(invalid("")),
    };
    if target.is_empty() || (parts.len() > 1 && source.is_empty()) || (parts.len() == 3 && words.is_empty()) {
        return Err(invalid(""));
    }
    let is_bind = source.starts_with('/');
    let kind = if is_bind { "bind" } else { "volume" };
    if !target.starts_with('/') {
        return Err(invalid(&format!(
            ": invalid mount config for type \"{kind}\": invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    let target = crate::oci::clean(target);
    if target == "/" {
        return Err(invalid(&format!(
            ": invalid mount config for type \"{kind}\": invalid specification: destination can't be '/'"
        )));
    }
    let Mode { read_only, no_copy, propagation } = mode(words, is_bind)?;
    let words = words.to_owned();
    if is_bind {
        let source = crate::oci::clean(source).into();
        return Ok(MountSpec::Bind { source, target, read_only, propagation, create: true, mode: words });
    }
    let name = Some(source.to_owned()).filter(|name| !name.is_empty());
    Ok(MountSpec::Volume { name, target, read_only, no_copy, mode: words })
}

fn of_mount(mount: &Mount) -> Result<MountSpec> {
    let Some(kind) = mount.typ else {
        return Err(Error::Invalid("invalid mount config for type \"\": mount type unknown: \"\"".into()));
    };
    let invalid = |why: &str| Error::Invalid(format!("invalid mount config for type \"{kind}\": {why}"));
    let target = mount.target.clone().unwrap_or_default();
    if target.is_empty() {
        return Err(invalid("field Target must not be empty"));
    }
    if !target.starts_with('/') {
        return Err(invalid(&format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    let target = crate::oci::clean(&target);
    if target == "/" {
        return Err(invalid("invalid specification: destination can't be '/'"));
    }
    let source = mount.source.clone().unwrap_or_default();
    let read_only = mount.read_only.unwrap_or(false);
    let only = |kind_of: MountType, given: bool, field: &str| {
        if given && kind != kind_of { Err(invalid(&format!("field {field} must not be specified"))) } else { Ok(()) }
    };
    only(MountType::BIND, mount.bind_options.is_some(), "BindOptions")?;
    only(MountType::VOLUME, mount.volume_options.is_some(), "VolumeOptions")?;
    only(MountType::TMPFS, mount.tmpfs_options.is_some(), "TmpfsOptions")?;
    match kind {
        MountType::BIND => {
            if source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            if !source.starts_with('/') {
                return Err(invalid(&format!("invalid mount path: '{source}' mount path must be absolute")));
            }
            let options = mount.bind_options.clone().unwrap_or_default();
            if options.non_recursive == Some(true) {
                return Err(Error::Absent(
                    "Mounts: BindOptions.NonRecursive: a bind without what lies below is not there yet".into(),
                ));
            }
            if options.read_only_force_recursive == Some(true) {
                return Err(Error::Absent("Mounts: BindOptions.ReadOnlyForceRecursive is not there yet".into()));
            }
            let propagation = options.propagation.map(|word| word.to_string()).filter(|word| !word.is_empty());
            let create = options.create_mountpoint.unwrap_or(false);
            let source = crate::oci::clean(&source).into();
            Ok(MountSpec::Bind { source, target, read_only, propagation, create, mode: String::new() })
        }
        MountType::VOLUME => {
            let options = mount.volume_options.clone().unwrap_or_default();
            if options.subpath.is_some_and(|path| !path.is_empty()) {
                return Err(Error::Absent("Mounts: VolumeOptions.Subpath: a part of a volume is not there yet".into()));
            }
            if let Some(driver) = options.driver_config {
                let name = driver.name.unwrap_or_default();
                if !name.is_empty() && name != "local" {
                    return Err(Error::NotFound(format!(
                        "error looking up volume plugin {name}: plugin \"{name}\" not found"
                    )));
                }
                if driver.options.is_some_and(|options| !options.is_empty()) {
                    return Err(Error::Absent(
                        "Mounts: VolumeOptions.DriverConfig.Options: volumes take no options here".into(),
                    ));
                }
            }
            let name = Some(source).filter(|name| !name.is_empty());
            let no_copy = options.no_copy.unwrap_or(false);
            Ok(MountSpec::Volume { name, target, read_only, no_copy, mode: String::new() })
        }
        MountType::TMPFS => {
            if !source.is_empty() {
                return Err(invalid("field Source must not be specified"));
            }
            let options = mount.tmpfs_options.clone().unwrap_or_default();
            let mut words = Vec::new();
            if read_only {
                words.push("ro".to_owned());
            }
            if let Some(size) = options.size_bytes.filter(|size| *size > 0) {
                words.push(format!("size={size}"));
            }
            if let Some(mode) = options.mode.filter(|mode| *mode > 0) {
                words.push(format!("mode={mode:o}"));
            }
            for option in options.options.into_iter().flatten() {
                words.push(option.join("="));
            }
            Ok(MountSpec::Tmpfs { target, options: tmpfs_options(&words.join(","))? })
        }
        _ => Err(Error::Absent(format!("Mounts: type \"{kind}\" is not there yet; there are bind, volume and tmpfs"))),
    }
}

/// Options of `--tmpfs`, as mount(8) has them.
fn tmpfs_options(options: &str) -> Result<String> {
    const FLAGS: [&str; 20] = [
        "ro",
        "rw",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "sync",
        "async",
        "dirsync",
        "remount",
        "mand",
        "nomand",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "strictatime",
        "relatime",
    ];
    const VALUES: [&str; 8] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"];
    for word in options.split(',').filter(|_| !options.is_empty()) {
        let known = match word.split_once('=') {
            Some((key, value)) => VALUES.contains(&key) && !value.is_empty(),
            None => FLAGS.contains(&word) || is_propagation(word),
        };
        if !known {
            return Err(Error::Invalid(format!("invalid tmpfs option [{word:?}]")));
        }
    }
    Ok(options.to_owned())
}

/// `CONTAINER[:MODE]`
fn others(from: &str, around: &Around) -> Result<Vec<MountSpec>> {
    let (name, words) = from.split_once(':').unwrap_or((from, ""));
    if name.is_empty() {
        return Err(Error::Invalid("malformed volumes-from specification: ''".into()));
    }
    if !["", "ro", "rw", "z", "Z"].contains(&words) && words.split(',').any(|w| !["ro", "rw", "z", "Z"].contains(&w)) {
        return Err(Error::Invalid(format!("invalid mode: {words}")));
    }
    let asked_ro = words.split(',').any(|word| word == "ro");
    let other = (around.find)(name)?;
    let points = other.mounts.iter().cloned().map(|point| {
        let read_only = point.read_only || asked_ro;
        match point.volume {
            Some(volume) => MountSpec::Volume {
                name: Some(volume),
                target: point.target,
                read_only,
                no_copy: false,
                mode: point.mode,
            },
            None => MountSpec::Bind {
                source: point.source,
                target: point.target,
                read_only,
                propagation: Some(point.propagation).filter(|word| !word.is_empty()),
                create: false,
                mode: point.mode,
            },
        }
    });
    Ok(points.collect())
}
