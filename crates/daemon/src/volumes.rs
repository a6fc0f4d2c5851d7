//! Volumes: directories of the engine's that outlive containers, and what a container's mounts are on the host.
//!
//! Each is `NAME/_data` beside `NAME/volume.json`. A volume is made under a name with a leading dot, which no volume can
//! have, and renamed once it is whole and on the disk; it is removed by renaming it back. So a crash leaves a whole volume,
//! or something with a dot that the next start clears away.

use crate::container::MountPoint;
use crate::container::spec::{MountSpec, Spec};
use crate::error::{Doing, Error, Result};
use crate::oci::clean;
use crate::rootfs;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

const DATA: &str = "_data";
const RECORD: &str = "volume.json";

/// All volumes of an engine.
#[derive(Debug)]
pub struct Volumes {
    dir: PathBuf,
    /// One change at a time; reading needs none, for changes are renames.
    changing: Mutex<()>,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: SystemTime,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Nobody named it: it was made for one container.
    pub anonymous: bool,
    /// The directory that is mounted.
    #[serde(skip)]
    pub mountpoint: PathBuf,
}

/// What a container's mounts are on the host.
#[derive(Debug)]
pub struct Resolved {
    /// Each of them.
    pub points: Vec<MountPoint>,
    /// The names of the volumes that were made for it.
    pub made: Vec<String>,
}

impl Volumes {
    /// Opens the directory, making it if need be, and clears away what a crash left half made or half removed.
    ///
    /// # Errors
    /// [`Error::Fault`] when it cannot be written.
    pub fn open(dir: &Path) -> Result<Volumes> {
        fs::create_dir_all(dir).doing(format_args!("make {}", dir.display()))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o701)).doing(format_args!("chmod {}", dir.display()))?;
        for entry in fs::read_dir(dir).doing(format_args!("list {}", dir.display()))?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                remove_tree(&entry.path())?;
            }
        }
        Ok(Volumes { dir: dir.to_owned(), changing: Mutex::new(()) })
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // Nothing is held in the lock that a panic could leave half changed.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a volume; one of this name that is there already is answered as it is. Without a name it gets 64 random
    /// hexadecimal digits and is anonymous. Also whether it was made now.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad name or for options, which berth's volumes do not have.
    pub fn create(
        &self,
        name: Option<&str>,
        labels: BTreeMap<String, String>,
        options: &BTreeMap<String, String>,
    ) -> Result<(Volume, bool)> {
        if let Some(option) = options.keys().next() {
            return Err(Error::Invalid(format!(
                "create {}: invalid option: {option:?}: volumes are plain directories here and take no options",
                name.unwrap_or("volume")
            )));
        }
        let name = match name {
            Some(name) => {
                valid(name)?;
                name.to_owned()
            }
            None => random_name()?,
        };
        let _changing = self.lock();
        match self.inspect(&name) {
            Err(Error::NotFound(_)) => {}
            result => return result.map(|volume| (volume, false)),
        }
        let anonymous = is_anonymous(&name);
        let volume =
            Volume { mountpoint: self.dir.join(&name).join(DATA), name, created: SystemTime::now(), labels, anonymous };
        self.write(&volume).doing(format_args!("create the volume {}", volume.name))?;
        Ok((volume, true))
    }

    fn write(&self, volume: &Volume) -> std::io::Result<()> {
        let half = self.dir.join(format!(".new-{}", volume.name));
        fs::create_dir_all(half.join(DATA))?;
        // Users of the host may pass through (a container's user may be any of them) but not look around.
        fs::set_permissions(&half, fs::Permissions::from_mode(0o701))?;
        fs::set_permissions(half.join(DATA), fs::Permissions::from_mode(0o755))?;
        let mut record = File::create(half.join(RECORD))?;
        record.write_all(&serde_json::to_vec_pretty(volume)?)?;
        record.sync_all()?;
        File::open(&half)?.sync_all()?;
        fs::rename(&half, self.dir.join(&volume.name))?;
        File::open(&self.dir)?.sync_all()
    }

    /// All of them, by name. One whose record cannot be read is passed over with a word in the log.
    ///
    /// # Errors
    /// [`Error::Fault`] when the directory cannot be listed.
    pub fn list(&self) -> Result<Vec<Volume>> {
        let entries = fs::read_dir(&self.dir).doing(format_args!("list {}", self.dir.display()))?;
        let mut all = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| valid(name).is_ok()) else { continue };
            match self.inspect(name) {
                Ok(volume) => all.push(volume),
                // Removed meanwhile.
                Err(Error::NotFound(_)) => {}
                Err(error) => tracing::warn!(volume = name, %error, "a volume's record cannot be read"),
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The one of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`], `get NAME: no such volume`.
    pub fn inspect(&self, name: &str) -> Result<Volume> {
        let missing = || Error::NotFound(format!("get {name}: no such volume"));
        valid(name).map_err(|_| missing())?;
        let place = self.dir.join(name);
        let text = match fs::read(place.join(RECORD)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(error).doing(format_args!("read the record of the volume {name}")),
        };
        let mut volume: Volume =
            serde_json::from_slice(&text).doing(format_args!("read the record of the volume {name}"))?;
        volume.mountpoint = place.join(DATA);
        Ok(volume)
    }

    /// Removes one. `users` tells which containers have it; `force` is content with one that is not there.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when it is in use.
    pub fn remove(&self, name: &str, force: bool, users: impl Fn(&str) -> Vec<String>) -> Result<()> {
        let _changing = self.lock();
        match self.inspect(name) {
            Err(Error::NotFound(_)) if force => return Ok(()),
            result => result.map(|_| ())?,
        }
        let users = users(name);
        if !users.is_empty() {
            return Err(Error::Conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        self.discard(name)
    }

    fn discard(&self, name: &str) -> Result<()> {
        let gone = self.dir.join(format!(".gone-{name}"));
        fs::rename(self.dir.join(name), &gone).doing(format_args!("remove the volume {name}"))?;
        remove_tree(&gone)
    }

    /// Removes those that nobody has and that `wanted` picks; answers their names and how many bytes they held.
    ///
    /// # Errors
    /// [`Error::Fault`] when one cannot be removed.
    pub fn prune(
        &self,
        wanted: impl Fn(&Volume) -> bool,
        users: impl Fn(&str) -> Vec<String>,
    ) -> Result<(Vec<String>, u64)> {
        let _changing = self.lock();
        let mut removed = Vec::new();
        let mut bytes = 0;
        for volume in self.list()? {
            if wanted(&volume) && users(&volume.name).is_empty() {
                bytes += crate::rootfs::size(&volume.mountpoint);
                self.discard(&volume.name)?;
                removed.push(volume.name);
            }
        }
        Ok((removed, bytes))
    }

    /// What a container's mounts are on the host: volumes that are not there yet are made, and an anonymous one for each
    /// volume of the image that nothing else is mounted on. Memory (tmpfs) has no place on the host and is not among them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bind of something that is not there, a place named twice, a bad name; nothing made for the
    /// refused container is left.
    pub fn resolve(&self, spec: &Spec, image_volumes: &[String]) -> Result<Resolved> {
        let mut made = Vec::new();
        match self.points(spec, image_volumes, &mut made) {
            Ok(points) => Ok(Resolved { points, made }),
            Err(error) => {
                for name in made.iter().filter(|name| is_anonymous(name)) {
                    let _changing = self.lock();
                    self.discard(name)?;
                }
                Err(error)
            }
        }
    }

    fn points(&self, spec: &Spec, image_volumes: &[String], made: &mut Vec<String>) -> Result<Vec<MountPoint>> {
        let mut points = Vec::new();
        let mut targets = BTreeSet::new();
        for mount in &spec.mounts {
            let (MountSpec::Bind { target, .. } | MountSpec::Volume { target, .. } | MountSpec::Tmpfs { target, .. }) =
                mount;
            let target = place(target)?;
            if !targets.insert(target.clone()) {
                return Err(Error::Invalid(format!("Duplicate mount point: {target}")));
            }
            match mount {
                MountSpec::Bind { source, read_only, propagation, create, mode, .. } => {
                    source_is_there(source, *create)?;
                    points.push(MountPoint {
                        volume: None,
                        anonymous: false,
                        source: source.clone(),
                        target,
                        read_only: *read_only,
                        propagation: propagation.clone().unwrap_or_else(|| "rprivate".into()),
                        mode: mode.clone(),
                    });
                }
                MountSpec::Volume { name, read_only, mode, .. } => {
                    points.push(self.point(name.as_deref(), target, *read_only, mode, made)?);
                }
                MountSpec::Tmpfs { .. } => {}
            }
        }
        for target in image_volumes {
            let target = place(target)?;
            if targets.insert(target.clone()) {
                points.push(self.point(None, target, false, "", made)?);
            }
        }
        Ok(points)
    }

    fn point(
        &self,
        name: Option<&str>,
        target: String,
        read_only: bool,
        mode: &str,
        made: &mut Vec<String>,
    ) -> Result<MountPoint> {
        let (volume, is_new) = self.create(name, BTreeMap::new(), &BTreeMap::new())?;
        if is_new {
            made.push(volume.name.clone());
        }
        Ok(MountPoint {
            volume: Some(volume.name),
            anonymous: name.is_none(),
            source: volume.mountpoint,
            target,
            read_only,
            propagation: String::new(),
            mode: mode.to_owned(),
        })
    }
}

/// An anonymous name is not one that a user would choose.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The place in the container, without superfluous slashes.
fn place(target: &str) -> Result<String> {
    if !target.starts_with('/') {
        return Err(Error::Invalid(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    match clean(target) {
        root if root == "/" => Err(Error::Invalid("invalid specification: destination can't be '/'".into())),
        target => Ok(target),
    }
}

fn source_is_there(source: &Path, create: bool) -> Result<()> {
    if !source.is_absolute() {
        return Err(Error::Invalid(format!("invalid mount path: '{}' mount path must be absolute", source.display())));
    }
    match fs::metadata(source) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound && create => {
            fs::create_dir_all(source).doing(format_args!("make the bind source path {}", source.display()))
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Err(Error::Invalid(
            format!("invalid mount config for type \"bind\": bind source path does not exist: {}", source.display()),
        )),
        Err(error) => Err(error).doing(format_args!("stat {}", source.display())),
    }
}

/// Docker's rule for names: a letter or digit, then at least one more, `_`, `.` and `-` allowed.
fn valid(name: &str) -> Result<()> {
    let alphanumeric = |byte: &u8| byte.is_ascii_alphanumeric();
    let other = |byte: &u8| alphanumeric(byte) || b"_.-".contains(byte);
    let bytes = name.as_bytes();
    if bytes.len() == 1 {
        return Err(Error::Invalid(
            "volume name is too short, names should be at least two alphanumeric characters".into(),
        ));
    }
    // What the file system takes as a name, less the longest prefix put before it.
    if bytes.first().is_some_and(alphanumeric) && bytes[1..].iter().all(other) && bytes.len() <= 240 {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    )))
}

fn random_name() -> Result<String> {
    let mut bytes = [0u8; 32];
    let source = "/dev/urandom";
    File::open(source).and_then(|mut file| file.read_exact(&mut bytes)).doing(format_args!("read {source}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn remove_tree(path: &Path) -> Result<()> {
    rootfs::remove_tree(path).doing(format_args!("remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes() -> (tempfile::TempDir, Volumes) {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(&dir.path().join("volumes")).unwrap();
        (dir, volumes)
    }

    fn make(volumes: &Volumes, name: &str) -> Result<Volume> {
        volumes.create(Some(name), BTreeMap::new(), &BTreeMap::new()).map(|(volume, _)| volume)
    }

    fn nobody(_: &str) -> Vec<String> {
        Vec::new()
    }

    #[test]
    fn made_found_and_removed() {
        let (dir, volumes) = volumes();
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let (made, is_new) = volumes.create(Some("data"), labels, &BTreeMap::new()).unwrap();
        assert!(is_new);
        assert_eq!(made.mountpoint, dir.path().join("volumes/data/_data"));
        fs::write(made.mountpoint.join("f"), "12345").unwrap();
        assert_eq!(make(&volumes, "data").unwrap(), made, "a second create answers the first");
        let again = Volumes::open(&dir.path().join("volumes")).unwrap();
        assert_eq!(again.list().unwrap(), [made]);
        let busy = again.remove("data", true, |_| vec!["abc".into()]).unwrap_err();
        assert_eq!(busy.to_string(), "remove data: volume is in use - [abc]");
        assert_eq!(busy.status(), 409);
        again.remove("data", false, nobody).unwrap();
        assert_eq!(again.inspect("data").unwrap_err().to_string(), "get data: no such volume");
        assert_eq!(again.remove("data", false, nobody).unwrap_err().status(), 404);
        again.remove("data", true, nobody).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("volumes")).unwrap().count(), 0);
    }

    #[test]
    fn names() {
        let (_dir, volumes) = volumes();
        for name in ["a b", "-a", "_x", "../x", "a/b", "ü1", "", ".new-x"] {
            let error = make(&volumes, name).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "\"{name}\" includes invalid characters for a local volume name, only \
                     \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
                )
            );
        }
        assert!(make(&volumes, "a").unwrap_err().to_string().starts_with("volume name is too short"));
        assert_eq!(volumes.inspect("../x").unwrap_err().status(), 404);
        make(&volumes, "0-a_b.c").unwrap();
        let options = BTreeMap::from([("type".to_owned(), "nfs".to_owned())]);
        assert!(volumes.create(Some("xx"), BTreeMap::new(), &options).unwrap_err().to_string().contains("\"type\""));
        let (anonymous, _) = volumes.create(None, BTreeMap::new(), &BTreeMap::new()).unwrap();
        assert!(anonymous.anonymous && anonymous.name.len() == 64);
    }

    #[test]
    fn what_a_crash_left_is_cleared_away() {
        let (dir, volumes) = volumes();
        let path = dir.path().join("volumes");
        make(&volumes, "whole").unwrap();
        fs::create_dir_all(path.join(".new-half/_data")).unwrap();
        fs::rename(path.join("whole"), path.join(".gone-whole")).unwrap();
        make(&volumes, "other").unwrap();
        let volumes = Volumes::open(&path).unwrap();
        assert_eq!(volumes.list().unwrap().len(), 1);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        fs::write(path.join("other/volume.json"), "{").unwrap();
        assert_eq!(volumes.list().unwrap(), []);
        assert_eq!(volumes.inspect("other").unwrap_err().status(), 500);
    }

    #[test]
    fn pruned() {
        let (_dir, volumes) = volumes();
        for name in ["aa", "bb", "cc"] {
            fs::write(make(&volumes, name).unwrap().mountpoint.join("f"), "1234").unwrap();
        }
        let users = |name: &str| if name == "aa" { vec!["c".to_owned()] } else { vec![] };
        let (names, bytes) = volumes.prune(|volume| volume.name != "bb", users).unwrap();
        assert_eq!((names, bytes), (vec!["cc".to_owned()], 4));
        assert_eq!(volumes.list().unwrap().len(), 2);
    }

    fn volume(name: Option<&str>, target: &str) -> MountSpec {
        let name = name.map(str::to_owned);
        MountSpec::Volume { name, target: target.into(), read_only: false, no_copy: false, mode: "z".into() }
    }

    fn bind(source: &Path, target: &str, create: bool) -> MountSpec {
        let (source, target) = (source.to_owned(), target.to_owned());
        MountSpec::Bind { source, target, read_only: true, propagation: None, create, mode: "ro".into() }
    }

    #[test]
    fn mounts_are_resolved() {
        let (dir, volumes) = volumes();
        let mut spec = crate::oci::example();
        spec.mounts = vec![
            bind(dir.path(), "/host/", false),
            bind(&dir.path().join("made/below"), "/made", true),
            volume(Some("data"), "/data"),
            volume(None, "/anon"),
            MountSpec::Tmpfs { target: "/tmp".into(), options: String::new() },
        ];
        let Resolved { points, made } =
            volumes.resolve(&spec, &["/data".into(), "/tmp/".into(), "/image".into()]).unwrap();
        assert_eq!(made.iter().filter(|name| is_anonymous(name)).count(), 2);
        assert_eq!((made.len(), made[0].as_str()), (3, "data"));
        let targets: Vec<_> = points.iter().map(|point| (point.target.as_str(), point.anonymous)).collect();
        assert_eq!(targets, [("/host", false), ("/made", false), ("/data", false), ("/anon", true), ("/image", true)]);
        assert_eq!((points[0].propagation.as_str(), points[0].read_only), ("rprivate", true));
        assert!(dir.path().join("made/below").is_dir());
        assert_eq!(points[2].source, dir.path().join("volumes/data/_data"));
        assert_eq!(volumes.list().unwrap().len(), 3);
    }

    #[test]
    fn refusals_leave_nothing() {
        let (dir, volumes) = volumes();
        let missing = dir.path().join("missing");
        for (mounts, why) in [
            (vec![volume(None, "/a"), volume(None, "/a/")], "Duplicate mount point: /a".to_owned()),
            (vec![volume(None, "/a"), volume(None, "/")], "invalid specification: destination can't be '/'".into()),
            (vec![volume(None, "a")], "invalid mount path: 'a' mount path must be absolute".into()),
            (vec![bind(Path::new("a"), "/a", true)], "invalid mount path: 'a' mount path must be absolute".into()),
            (
                vec![volume(None, "/a"), bind(&missing, "/b", false)],
                format!(
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    missing.display()
                ),
            ),
        ] {
            let mut spec = crate::oci::example();
            spec.mounts = mounts;
            let error = volumes.resolve(&spec, &[]).unwrap_err();
            assert_eq!((error.to_string(), error.status()), (why, 400));
            assert_eq!(volumes.list().unwrap(), []);
        }
        assert!(!missing.exists());
    }
}
