//! Pinned network namespaces and what is kept open in each.
//!
//! A namespace is pinned by a bind mount of its file on `PINS/<sandbox id>`. Two things keep a pin from living on in
//! mount namespaces that were copied from ours while it stood: `PINS` is a private mount of its own, so that a pin
//! never spreads into mount namespaces that exist already (a shared one would put every pin into every one of them);
//! and after the unmount the file is unlinked, which makes the kernel drop the copies of the mount in all other mount
//! namespaces, whatever their propagation (`detach_mounts`, Linux 3.18).
//! So who joins a sandbox by its path must do so from the engine's mount namespace or from a later copy of it.

use crate::Fault;
use crate::fault::Refused;
use crate::listeners::Listeners;
use crate::nft::Nft;
use crate::rtnetlink::Rtnetlink;
use crate::sysctl;
use crate::visitor::{OWN, Visitor, Where};
use plan::ids::SandboxId;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What is kept open for a pinned namespace. All of it holds the namespace.
pub(crate) struct Space {
    pub rt: Rtnetlink,
    /// Opened when it is first needed.
    pub nft: Option<Nft>,
    ns: OwnedFd,
    inode: u64,
    /// The number by which the host's namespace knows this one (`RTM_GETNSID`), once it has one.
    pub nsid: Option<i32>,
    /// The resolver's sockets are open in it.
    pub listens: bool,
}

impl AsFd for Space {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ns.as_fd()
    }
}

pub(crate) struct Spaces {
    pins: PathBuf,
    /// The device of all namespace files, by which a pin is told from a file on which nothing is mounted.
    nsfs: u64,
    pub visitor: Visitor,
    open: BTreeMap<SandboxId, Space>,
}

impl Spaces {
    pub fn open(pins: &Path) -> Result<Spaces, Fault> {
        let fault = |doing: &'static str| {
            let path = pins.to_owned();
            move |source: io::Error| Fault::Pins { path, doing, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(pins).map_err(fault("make it"))?;
        let nsfs = fs::metadata(OWN).map_err(|source| Fault::Proc { path: OWN.into(), source })?.dev();
        if !is_mount(pins).map_err(fault("look at it"))? {
            mount_bind(pins, pins).map_err(|err| fault("make it a mount of its own")(err.into()))?;
        }
        mount_change(pins, MountPropagationFlags::PRIVATE).map_err(|err| fault("make it private")(err.into()))?;
        Ok(Spaces { pins: pins.to_owned(), nsfs, visitor: Visitor::new(), open: BTreeMap::new() })
    }

    pub fn pin(&self, id: &SandboxId) -> PathBuf {
        self.pins.join(id.as_str())
    }

    /// The namespace's inode number, if there is one.
    fn pinned(&self, id: &SandboxId) -> io::Result<Option<u64>> {
        match fs::metadata(self.pin(id)) {
            Ok(file) => Ok((file.dev() == self.nsfs).then_some(file.ino())),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    pub fn add(&mut self, id: &SandboxId) -> Result<(), Refused> {
        if self.pinned(id)?.is_some() {
            return Err(Refused::plain(libc::EEXIST));
        }
        self.open.remove(id);
        let pin = self.pin(id);
        // A crash may have left the file, with nothing mounted on it.
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o400).open(&pin)?;
        let mount = pin.clone();
        let made = self.visitor.visit(Where::New, move || {
            let rt = Rtnetlink::open()?;
            let ns = File::open(OWN)?;
            let inode = ns.metadata()?.ino();
            sysctl::forward_nothing()?;
            mount_bind(OWN, &mount)?;
            Ok(Space { rt, nft: None, ns: ns.into(), inode, nsid: None, listens: false })
        });
        match made {
            Ok(space) => {
                self.open.insert(id.clone(), space);
                Ok(())
            }
            Err(err) => {
                // Nothing is mounted on it: the mount came last.
                let _ = fs::remove_file(&pin);
                Err(err.into())
            }
        }
    }

    /// Unpin, and let go of all that holds the namespace here. The kernel removes it when nobody is left in it.
    pub fn delete(&mut self, id: &SandboxId) -> Result<(), Refused> {
        let pin = self.pin(id);
        let pinned = self.pinned(id)?.is_some();
        self.open.remove(id);
        if pinned {
            unmount(&pin, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        }
        match fs::remove_file(&pin) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err.into()),
            _ => {}
        }
        if pinned { Ok(()) } else { Err(Refused::plain(libc::ENOENT)) }
    }

    /// A pinned namespace, opened if it is not yet; `None` if there is none.
    pub fn get(&mut self, id: &SandboxId) -> Result<Option<&mut Space>, Refused> {
        let Some(inode) = self.pinned(id)? else {
            self.open.remove(id);
            return Ok(None);
        };
        if self.open.get(id).is_none_or(|space| space.inode != inode) {
            let ns: OwnedFd = File::open(self.pin(id))?.into();
            let rt = self.visitor.visit(Where::In(ns.try_clone()?), Rtnetlink::open)?;
            self.open.insert(id.clone(), Space { rt, nft: None, ns, inode, nsid: None, listens: false });
        }
        Ok(self.open.get_mut(id))
    }

    /// The socket for a namespace's tables, opened if it is not yet; `None` if there is no such namespace.
    pub fn nft(&mut self, id: &SandboxId) -> Result<Option<&mut Nft>, Refused> {
        let Some(space) = self.get(id)? else { return Ok(None) };
        if space.nft.is_none() {
            let ns = space.ns.try_clone()?;
            let opened = self.visitor.visit(Where::In(ns), Nft::open)?;
            if let Some(space) = self.open.get_mut(id) {
                space.nft = Some(opened);
            }
        }
        Ok(self.open.get_mut(id).and_then(|space| space.nft.as_mut()))
    }

    /// Opens the resolver's sockets in a namespace, and the one for its tables on the same visit. `None` if there is no such
    /// namespace; no sockets if they were open.
    pub fn listen(&mut self, id: &SandboxId) -> Result<Option<Option<Listeners>>, Refused> {
        let Some(space) = self.get(id)? else { return Ok(None) };
        if space.listens {
            return Ok(Some(None));
        }
        let (ns, no_nft) = (space.ns.try_clone()?, space.nft.is_none());
        let open = move || Ok((Listeners::open()?, no_nft.then(Nft::open).transpose()?));
        let (listeners, nft) = self.visitor.visit(Where::In(ns), open)?;
        if let Some(space) = self.open.get_mut(id) {
            space.listens = true;
            space.nft = space.nft.take().or(nft);
        }
        Ok(Some(Some(listeners)))
    }

    /// Do something inside a namespace; `None` if there is none.
    pub fn inside<T: Send + 'static>(
        &mut self,
        id: &SandboxId,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, Refused> {
        let Some(space) = self.get(id)? else { return Ok(None) };
        let ns = space.ns.try_clone()?;
        Ok(Some(self.visitor.visit(Where::In(ns), job)?))
    }

    /// Which namespaces are pinned now. What is no pin (a file without a mount, a stranger's file) is passed over.
    pub fn list(&mut self) -> Result<Vec<SandboxId>, Refused> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.pins)? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<SandboxId>().ok()) else { continue };
            if self.pinned(&id)?.is_some() {
                ids.push(id);
            }
        }
        ids.sort();
        self.open.retain(|id, _| ids.binary_search(id).is_ok());
        Ok(ids)
    }
}

fn is_mount(path: &Path) -> io::Result<bool> {
    let seen = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())?;
    Ok(seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
