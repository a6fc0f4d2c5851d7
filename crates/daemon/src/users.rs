//! Who a container runs as: names from the image's `/etc/passwd` and `/etc/group`, or numbers.

use crate::error::{Doing, Error, Result};
use crate::rootfs::inside;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Docker's range of numbers.
const RANGE: std::ops::RangeInclusive<i64> = 0..=i32::MAX as i64;
/// Larger than any true list of users; an image may not make the engine read without end.
const LARGEST: u64 = 4 << 20;

/// A user as the kernel knows one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, without repetition.
    pub additional: Vec<u32>,
    /// Home directory; `/` if nobody says.
    pub home: String,
    /// The name in `/etc/passwd`.
    pub name: Option<String>,
}

/// Finds a user (`user[:group]`, names or numbers; empty is number 0) and further groups (`--group-add`) in the root file
/// system. No link of the image leads out of it.
///
/// # Errors
/// [`Error::Invalid`] for a name that is not there or a number out of range; [`Error::Fault`] when the files cannot be read.
pub fn resolve(root: BorrowedFd, user: &str, groups: &[String]) -> Result<Resolved> {
    let passwd = read(root, "etc/passwd")?;
    let group = read(root, "etc/group")?;
    find(&passwd, &group, user, groups)
}

/// A text file of the image's; one that is not there is empty.
fn read(root: BorrowedFd, path: &str) -> Result<String> {
    // NONBLOCK: a hostile image may have a pipe there, and opening it would wait for a writer.
    let fd = match inside::open(root, Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(String::new()),
        Err(errno) => return Err(errno).doing(format_args!("open /{path} of the container")),
    };
    let stat = rustix::fs::fstat(&fd).doing(format_args!("stat /{path} of the container"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::Invalid(format!("/{path} of the container is not a regular file")));
    }
    let mut bytes = Vec::new();
    File::from(fd).take(LARGEST + 1).read_to_end(&mut bytes).doing(format_args!("read /{path} of the container"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::Invalid(format!("/{path} of the container is larger than {} MiB", LARGEST >> 20)));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The fields of each line, without comments.
fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split(':').collect())
}

fn number(fields: &[&str], index: usize) -> Option<i64> {
    fields.get(index).and_then(|field| field.trim().parse().ok())
}

fn in_range(number: i64) -> Result<u32> {
    match u32::try_from(number) {
        Ok(id) if RANGE.contains(&number) => Ok(id),
        _ => Err(Error::Invalid("uids and gids must be in range 0-2147483647".into())),
    }
}

fn find(passwd: &str, group: &str, user: &str, groups: &[String]) -> Result<Resolved> {
    let (user, primary) = user.split_once(':').unwrap_or((user, ""));
    let uid = if user.is_empty() { Some(0) } else { user.parse::<i64>().ok() };
    let listed = entries(passwd)
        .find(|fields| (!user.is_empty() && fields[0] == user) || (uid.is_some() && number(fields, 2) == uid));
    let mut found = match (&listed, uid) {
        (Some(fields), _) => Resolved {
            uid: in_range(number(fields, 2).unwrap_or(0))?,
            gid: in_range(number(fields, 3).unwrap_or(0))?,
            additional: Vec::new(),
            home: fields.get(5).filter(|home| !home.is_empty()).map_or("/", |home| *home).to_owned(),
            name: Some(fields[0].to_owned()),
        },
        (None, Some(uid)) => {
            Resolved { uid: in_range(uid)?, gid: 0, additional: Vec::new(), home: "/".into(), name: None }
        }
        (None, None) => {
            return Err(Error::Invalid(format!("unable to find user {user}: no matching entries in passwd file")));
        }
    };
    if primary.is_empty() {
        // Who names a group wants that one; otherwise those that list the user come along.
        if let Some(name) = &found.name {
            let lists_user = |fields: &Vec<&str>| {
                fields.get(3).is_some_and(|members| members.split(',').any(|member| member.trim() == name))
            };
            for fields in entries(group).filter(lists_user) {
                found.additional.push(in_range(number(&fields, 2).unwrap_or(0))?);
            }
        }
    } else {
        found.gid = match group_id(group, primary) {
            Some(gid) => in_range(gid)?,
            None => {
                let text = format!("unable to find group {primary}: no matching entries in group file");
                return Err(Error::Invalid(text));
            }
        };
    }
    for name in groups {
        let gid = group_id(group, name).ok_or_else(|| Error::Invalid(format!("Unable to find group {name}")))?;
        found.additional.push(in_range(gid)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    found.additional.retain(|gid| seen.insert(*gid));
    Ok(found)
}

/// A group's number: by name or number in the file, or the number itself.
fn group_id(group: &str, name: &str) -> Option<i64> {
    let asked = name.parse::<i64>().ok();
    let listed = entries(group).find(|fields| fields[0] == name || (asked.is_some() && number(fields, 2) == asked));
    listed.and_then(|fields| number(&fields, 2)).or(asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# a comment\n\ndaemon:x:1:1::/usr/sbin:/sbin/nologin\n\
                          app:x:1000:1001:The App:/home/app:/bin/sh\nnohome:x:1002:1002::\n77:x:1077:1078::/odd:\nbad line\n\
                          big:x:4294967296:0::/:\n";
    const GROUP: &str =
        "root:x:0:root\ndaemon:x:1:\nstaff:x:50:app,other\nwheel:x:10:root, app\napp:x:1001:\nempty:x:60:\n";

    fn check(user: &str, groups: &[&str], want: &str) {
        let groups: Vec<String> = groups.iter().map(|name| (*name).to_owned()).collect();
        let got = match find(PASSWD, GROUP, user, &groups) {
            Ok(found) => format!(
                "{}:{} {:?} {} {}",
                found.uid,
                found.gid,
                found.additional,
                found.home,
                found.name.as_deref().unwrap_or("-")
            ),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, want, "{user:?} {groups:?}");
    }

    #[test]
    fn users_and_groups() {
        check("", &[], "0:0 [0, 10] /root root");
        check("root", &[], "0:0 [0, 10] /root root");
        check("0", &[], "0:0 [0, 10] /root root");
        check("app", &[], "1000:1001 [50, 10] /home/app app");
        check("1000", &[], "1000:1001 [50, 10] /home/app app");
        check("app:staff", &[], "1000:50 [] /home/app app");
        check("app:50", &[], "1000:50 [] /home/app app");
        check("app:4711", &["wheel"], "1000:4711 [10] /home/app app");
        check("app", &["60", "empty", "staff", "99"], "1000:1001 [50, 10, 60, 99] /home/app app");
        check("1234", &[], "1234:0 [] / -");
        check("1234:staff", &[], "1234:50 [] / -");
        check(":staff", &[], "0:50 [] /root root");
        check("nohome", &[], "1002:1002 [] / nohome");
        // The first line that has the name or the number.
        check("77", &[], "1077:1078 [] /odd 77");
    }

    #[test]
    fn refusals_in_dockers_words() {
        check("foo", &[], "unable to find user foo: no matching entries in passwd file");
        check("app:foo", &[], "unable to find group foo: no matching entries in group file");
        check("app", &["foo"], "Unable to find group foo");
        for user in ["-1", "2147483648", "0:-1", "0:2147483648", "big", "99999999999"] {
            check(user, &[], "uids and gids must be in range 0-2147483647");
        }
        check("0", &["-5"], "uids and gids must be in range 0-2147483647");
        check("bad", &[], "unable to find user bad: no matching entries in passwd file");
    }

    #[test]
    fn a_hostile_image_is_read_inside_and_not_forever() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let root = rustix::fs::open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(resolve(root.as_fd(), "", &[]).unwrap().home, "/");

        // The host's own list of users is not the container's.
        std::os::unix::fs::symlink("../../../../../../../../etc/passwd", etc.join("group")).unwrap();
        std::os::unix::fs::symlink("/proc/self/status", etc.join("passwd")).unwrap();
        assert_eq!(resolve(root.as_fd(), "0", &[]).unwrap().name, None);
        std::fs::remove_file(etc.join("passwd")).unwrap();
        std::fs::remove_file(etc.join("group")).unwrap();

        rustix::fs::mkfifoat(&root, "etc/passwd", Mode::from_raw_mode(0o644)).unwrap();
        let error = resolve(root.as_fd(), "0", &[]).unwrap_err().to_string();
        assert_eq!(error, "/etc/passwd of the container is not a regular file");
        std::fs::remove_file(etc.join("passwd")).unwrap();

        File::create(etc.join("passwd")).unwrap().set_len(1 << 40).unwrap();
        let error = resolve(root.as_fd(), "0", &[]).unwrap_err().to_string();
        assert_eq!(error, "/etc/passwd of the container is larger than 4 MiB");
    }
}
