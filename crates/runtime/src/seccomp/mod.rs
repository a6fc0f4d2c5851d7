//! Seccomp profiles as BPF, compiled once.
//!
//! libseccomp needs milliseconds for a big profile of several architectures, which is more than all the rest of a start.
//! So the compiled filter is kept in a cache directory, one file a profile, and loaded with seccomp(2) itself.

/// From a profile to a filter.
mod compile;
/// System calls newer than the profile answer ENOSYS.
mod unknown;

use anyhow::Context;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::rc::Rc;

/// The length of one `struct sock_filter`.
const INSTRUCTION: usize = 8;
/// `BPF_MAXINSNS` of the kernel.
const MOST: usize = 4096;
/// In the key of the cache: changed whenever the same profile shall give another filter.
const VERSION: &str = "berth seccomp 1";

/// A filter, ready to be loaded.
#[derive(Clone)]
pub struct Filter {
    /// An array of `struct sock_filter`.
    program: Rc<[u8]>,
    /// For seccomp(2).
    flags: u32,
}

/// Whether a profile wants a listener, which has to be served while the filter is loaded.
pub fn notifies(profile: &Value) -> bool {
    let calls = profile["syscalls"].as_array().map_or(&[][..], Vec::as_slice);
    calls
        .iter()
        .chain([profile])
        .any(|rule| rule["action"] == "SCMP_ACT_NOTIFY" || rule["defaultAction"] == "SCMP_ACT_NOTIFY")
}

/// The filter of a profile, from the cache if it is there. A cache that cannot be read or written costs time, nothing else.
pub fn filter(profile: &Value, cache: &Path) -> anyhow::Result<Filter> {
    let flags = flags(profile)?;
    let digest = Sha256::new()
        .chain_update(VERSION)
        .chain_update(compile::library()?)
        .chain_update(std::env::consts::ARCH)
        .chain_update(profile.to_string());
    let file = cache.join(hex(&digest.finalize()));
    if let Some(program) = fs::read(&file).ok().and_then(|kept| unpack(&kept)) {
        return Ok(Filter { program, flags });
    }
    let program = compile::compile(profile).context("linux.seccomp")?;
    // The next container will try again.
    let _ = store(cache, &file, &program);
    Ok(Filter { program: program.into(), flags })
}

impl Filter {
    /// Puts the filter in force for this process and all that it becomes. Without no_new_privs this needs CAP_SYS_ADMIN.
    pub fn load(&self) -> std::io::Result<()> {
        // Copied, because the kernel wants the alignment of the instructions' fields.
        let instructions: Vec<libc::sock_filter> = self
            .program
            .chunks_exact(INSTRUCTION)
            .map(|bytes| libc::sock_filter {
                code: u16::from_ne_bytes([bytes[0], bytes[1]]),
                jt: bytes[2],
                jf: bytes[3],
                k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            })
            .collect();
        let program = libc::sock_fprog { len: instructions.len() as u16, filter: instructions.as_ptr().cast_mut() };
        // SAFETY: `program` points to as many live instructions as it says, and the kernel only reads them.
        let loaded = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, &program) };
        if loaded == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }
}

fn flags(profile: &Value) -> anyhow::Result<u32> {
    let flags = profile["flags"].as_array().map_or(&[][..], Vec::as_slice);
    flags.iter().try_fold(0, |all, flag| {
        Ok(all
            | match flag.as_str().unwrap_or_default() {
                "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC as u32,
                "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG as u32,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32,
                _ => anyhow::bail!("linux.seccomp.flags: {flag} is not known here"),
            })
    })
}

/// A file of the cache: the program's digest, then the program. A torn or foreign file is as good as none.
fn unpack(kept: &[u8]) -> Option<Rc<[u8]>> {
    let (digest, program) = kept.split_at_checked(32)?;
    let whole = fits(program) && Sha256::digest(program).as_slice() == digest;
    whole.then(|| program.into())
}

fn store(cache: &Path, file: &Path, program: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(cache)?;
    let new = file.with_extension(std::process::id().to_string());
    let kept = [Sha256::digest(program).as_slice(), program].concat();
    fs::write(&new, kept).and_then(|()| fs::rename(&new, file)).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

fn fits(program: &[u8]) -> bool {
    !program.is_empty() && program.len().is_multiple_of(INSTRUCTION) && program.len() / INSTRUCTION <= MOST
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn profile() -> Value {
        json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{ "names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW" }]
        })
    }

    #[test]
    fn a_profile_is_compiled_once_and_a_torn_file_again() {
        let cache = tempfile::tempdir().unwrap();
        let dir = cache.path().join("new");
        let first = filter(&profile(), &dir).unwrap();
        let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1);
        let whole = fs::read(&files[0]).unwrap();
        assert_eq!(unpack(&whole).unwrap(), first.program);
        // What is in the file is what is used.
        let other = [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f];
        fs::write(&files[0], [Sha256::digest(other).as_slice(), &other].concat()).unwrap();
        assert_eq!(&*filter(&profile(), &dir).unwrap().program, other);
        for torn in [&whole[..whole.len() - 8], &whole[..20], &[]] {
            fs::write(&files[0], torn).unwrap();
            assert_eq!(filter(&profile(), &dir).unwrap().program, first.program);
            assert_eq!(fs::read(&files[0]).unwrap(), whole, "and mended");
        }
    }

    #[test]
    fn another_profile_is_another_file_and_no_cache_no_failure() {
        let cache = tempfile::tempdir().unwrap();
        filter(&profile(), cache.path()).unwrap();
        let mut other = profile();
        other["architectures"] = json!(["SCMP_ARCH_X86_64"]);
        filter(&other, cache.path()).unwrap();
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 2);
        filter(&profile(), Path::new("/proc/no/such/place")).unwrap();
    }

    #[test]
    fn what_is_not_known_is_refused_and_not_ignored() {
        let told = |change: fn(&mut Value)| {
            let mut profile = profile();
            change(&mut profile);
            format!("{:#}", filter(&profile, Path::new("/proc/no")).err().unwrap())
        };
        assert!(told(|profile| profile["defaultAction"] = "SCMP_ACT_MAYBE".into()).contains("SCMP_ACT_MAYBE"));
        assert!(told(|profile| profile["architectures"][0] = "SCMP_ARCH_PDP11".into()).contains("SCMP_ARCH_PDP11"));
        assert!(told(|profile| profile["flags"] = json!(["X"])).contains("\"X\""));
        assert!(
            told(|profile| profile["syscalls"][0]["args"] = json!([{ "index": 9, "op": "SCMP_CMP_EQ" }])).contains("9")
        );
    }
}
