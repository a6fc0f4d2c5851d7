use anyhow::{Context, bail};
use libcontainer::container::Container;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// One container's places: `ROOT/containers/ID` is libcontainer's, `ROOT/bundles/ID` is ours.
pub struct House {
    /// The container's name.
    pub id: String,
    root: PathBuf,
}

/// What later commands must know of the `create`: `ROOT/bundles/ID/kept.json`.
#[derive(Serialize, Deserialize)]
pub struct Kept {
    /// The bundle as the caller named it, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// When.
    pub created: String,
    /// `linux.seccomp`: an exec gets the same filter.
    pub seccomp: Option<Value>,
    /// It has a user namespace of its own.
    pub user_namespace: bool,
    /// The cgroup below each hierarchy, with a slash in front.
    pub cgroup: PathBuf,
    /// It has processes that do not die with its first.
    pub shares_pids: bool,
    /// There are hooks for after its end.
    pub hooks: bool,
    /// `annotations`.
    pub annotations: Option<Value>,
}

impl House {
    /// Checks the name; nothing is touched.
    pub fn of(root: &Path, id: &str) -> anyhow::Result<House> {
        let fits = |char: char| char.is_ascii_alphanumeric() || "_+-.".contains(char);
        if id.is_empty() || id.len() > 128 || id == "." || id == ".." || !id.chars().all(fits) {
            bail!("invalid container id {id:?}: it must have 1 to 128 characters of [a-zA-Z0-9_+-.]");
        }
        let root = std::path::absolute(root).with_context(|| format!("--root {}", root.display()))?;
        Ok(House { id: id.to_owned(), root })
    }

    /// Our directory: the bundle that libcontainer sees.
    pub fn ours(&self) -> PathBuf {
        self.root.join("bundles").join(&self.id)
    }

    /// Where libcontainer keeps its directories.
    pub fn theirs(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The fifo through which the first process says that it could not run its program.
    pub fn fifo(&self) -> PathBuf {
        self.ours().join("exec.fifo")
    }

    /// Whether there is something with this name.
    pub fn exists(&self) -> bool {
        self.ours().exists() || self.theirs().join(&self.id).exists()
    }

    /// Takes the name.
    pub fn make(&self) -> anyhow::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let ours = self.ours();
        let parent = ours.parent().unwrap_or(&self.root);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .with_context(|| format!("{}", parent.display()))?;
        match fs::DirBuilder::new().mode(0o700).create(&ours) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("container with id {} exists already: delete it first", self.id)
            }
            made => made.with_context(|| format!("{}", ours.display())),
        }
    }

    /// Removes both directories.
    pub fn clear(&self) -> anyhow::Result<()> {
        for dir in [self.theirs().join(&self.id), self.ours()] {
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", dir.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Remembers.
    pub fn keep(&self, kept: &Kept) -> anyhow::Result<()> {
        let file = self.ours().join("kept.json");
        fs::write(&file, serde_json::to_vec(kept)?).with_context(|| format!("{}", file.display()))
    }

    /// What was remembered.
    pub fn kept(&self) -> anyhow::Result<Kept> {
        let file = self.ours().join("kept.json");
        match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{}", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!("container {} does not exist", self.id),
            Err(error) => Err(error).with_context(|| format!("{}", file.display())),
        }
    }

    /// libcontainer's view of it.
    pub fn container(&self) -> anyhow::Result<Container> {
        let dir = self.theirs().join(&self.id);
        if !dir.exists() {
            bail!("container {} does not exist", self.id);
        }
        Container::load(dir).with_context(|| format!("loading container {}", self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_root() {
        for bad in ["", ".", "..", "a/b", "a b", "é", "a\n", &"x".repeat(129)] {
            assert!(House::of(Path::new("/r"), bad).is_err(), "{bad:?}");
        }
        assert_eq!(House::of(Path::new("/r"), "a.b_c+d-1").unwrap().ours(), Path::new("/r/bundles/a.b_c+d-1"));
    }
}
