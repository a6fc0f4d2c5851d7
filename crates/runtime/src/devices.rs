use anyhow::{Context, bail};
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

// linux/bpf.h.
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of other managers on the same cgroup stay, and all must agree.
const ALLOW_MULTI: u32 = 2;

/// A rule of `linux.resources.devices`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// 1 block, 2 character (`BPF_DEVCG_DEV_…`); `None` both.
    kind: Option<u32>,
    major: Option<u32>,
    minor: Option<u32>,
    /// 1 mknod, 2 read, 4 write (`BPF_DEVCG_ACC_…`).
    access: u32,
}

/// What every container may use, after the rules of its own: making nodes, and the devices that libcontainer puts there.
fn always() -> [Value; 10] {
    let device = |major: Option<u32>, minor: Option<u32>, kind: &str, access: &str| json!({ "allow": true, "type": kind, "major": major, "minor": minor, "access": access });
    let usual = |major, minor: Option<u32>| device(Some(major), minor, "c", "rwm");
    [
        device(None, None, "c", "m"),
        device(None, None, "b", "m"),
        usual(1, Some(3)),
        usual(1, Some(5)),
        usual(1, Some(7)),
        usual(1, Some(8)),
        usual(1, Some(9)),
        usual(5, Some(0)),
        usual(5, Some(2)),
        usual(136, None),
    ]
}

/// Filters the devices of a cgroup of version 2, where there is no `devices` controller.
pub fn restrict(cgroup: &Path, rules: &[Value]) -> anyhow::Result<()> {
    let rules = rules.iter().cloned().chain(always()).map(|rule| parse(&rule)).collect::<anyhow::Result<Vec<_>>>()?;
    let program = load(&program(&rules)).context("loading the device filter (a BPF program of type cgroup device)")?;
    let dir = rustix::fs::open(cgroup, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let dir = dir.with_context(|| format!("cgroup {}", cgroup.display()))?;
    attach(&dir, &program).with_context(|| format!("attaching the device filter to cgroup {}", cgroup.display()))
}

fn parse(rule: &Value) -> anyhow::Result<Rule> {
    let number = |name: &str| match &rule[name] {
        Value::Null => Ok(None),
        number if number.as_i64() == Some(-1) => Ok(None),
        number => match number.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => bail!("linux.resources.devices: {name} {number} is not a device number"),
        },
    };
    let kind = match rule["type"].as_str() {
        None | Some("" | "a") => None,
        Some("b") => Some(1),
        Some("c" | "u") => Some(2),
        Some(other) => bail!("linux.resources.devices: type {other:?} is none of a, b, c"),
    };
    let access = rule["access"].as_str().filter(|access| !access.is_empty()).unwrap_or("rwm");
    let access = access.chars().try_fold(0, |all, char| match char {
        'm' => Ok(all | 1),
        'r' => Ok(all | 2),
        'w' => Ok(all | 4),
        _ => bail!("linux.resources.devices: access {access:?} has other letters than r, w, m"),
    })?;
    let allow = rule["allow"].as_bool().unwrap_or(false);
    Ok(Rule { allow, kind, major: number("major")?, minor: number("minor")?, access })
}

/// Whether a device may be used when no rule speaks of it, and the rules that matter: one for all devices and all that can be
/// done with them begins anew.
fn effective(rules: &[Rule]) -> (bool, &[Rule]) {
    let all = |rule: &Rule| rule.kind.is_none() && rule.major.is_none() && rule.minor.is_none() && rule.access == 7;
    match rules.iter().rposition(all) {
        Some(place) => (rules[place].allow, &rules[place + 1..]),
        None => (false, rules),
    }
}

/// The program: the last rule that speaks of an access decides. An allowing rule speaks of it when it grants all that is
/// asked, a denying one when it forbids a part.
fn program(rules: &[Rule]) -> Vec<u64> {
    use asm::*;
    let (default, rules) = effective(rules);
    // struct bpf_cgroup_dev_ctx { u32 access_type (access << 16 | type), major, minor }
    let mut program = vec![
        load_word(KIND, CONTEXT, 0),
        load_word(ACCESS, CONTEXT, 0),
        load_word(MAJOR, CONTEXT, 4),
        load_word(MINOR, CONTEXT, 8),
        and(KIND, 0xffff),
        shift_right(ACCESS, 16),
    ];
    for rule in rules.iter().rev() {
        let mut tests = Vec::new();
        if let Some(kind) = rule.kind {
            tests.push(Test::Differs(KIND, kind));
        }
        if rule.access != 7 || !rule.allow {
            tests.push(if rule.allow { Test::Exceeds(rule.access) } else { Test::Avoids(rule.access) });
        }
        tests.extend(rule.major.map(|major| Test::Differs(MAJOR, major)));
        tests.extend(rule.minor.map(|minor| Test::Differs(MINOR, minor)));
        let mut left: usize = tests.iter().map(Test::length).sum();
        for test in tests {
            left -= test.length();
            // Over the tests that are left, and the two instructions of the verdict.
            test.emit(&mut program, left as i16 + 2);
        }
        program.extend([set(RESULT, rule.allow.into()), exit()]);
    }
    program.extend([set(RESULT, default.into()), exit()]);
    program
}

/// The few eBPF instructions needed (Linux documentation, `bpf/standardization/instruction-set.rst`).
mod asm {
    pub const RESULT: u8 = 0;
    /// Holds the context at the beginning; free afterwards.
    pub const CONTEXT: u8 = 1;
    pub const KIND: u8 = 2;
    pub const ACCESS: u8 = 3;
    pub const MAJOR: u8 = 4;
    pub const MINOR: u8 = 5;

    fn encode(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
        u64::from(code)
            | u64::from(from << 4 | to) << 8
            | u64::from(offset.cast_unsigned()) << 16
            | u64::from(value.cast_unsigned()) << 32
    }
    pub fn load_word(to: u8, from: u8, offset: i16) -> u64 {
        encode(0x61, to, from, offset, 0)
    }
    pub fn and(to: u8, value: i32) -> u64 {
        encode(0x54, to, 0, 0, value)
    }
    pub fn shift_right(to: u8, bits: i32) -> u64 {
        encode(0x74, to, 0, 0, bits)
    }
    pub fn copy(to: u8, from: u8) -> u64 {
        encode(0xbc, to, from, 0, 0)
    }
    pub fn set(to: u8, value: i32) -> u64 {
        encode(0xb7, to, 0, 0, value)
    }
    /// 32-bit comparisons: a device number may have its highest bit set.
    pub fn jump_if_not(to: u8, value: i32, over: i16) -> u64 {
        encode(0x56, to, 0, over, value)
    }
    pub fn jump_if(to: u8, value: i32, over: i16) -> u64 {
        encode(0x16, to, 0, over, value)
    }
    pub fn exit() -> u64 {
        encode(0x95, 0, 0, 0, 0)
    }

    /// Leads past the rule when it does not speak of the access.
    pub enum Test {
        /// A register differs from the rule's value.
        Differs(u8, u32),
        /// More is asked than is granted.
        Exceeds(u32),
        /// Nothing that is asked is forbidden.
        Avoids(u32),
    }

    impl Test {
        pub fn length(&self) -> usize {
            match self {
                Test::Differs(..) => 1,
                _ => 3,
            }
        }

        pub fn emit(&self, program: &mut Vec<u64>, over: i16) {
            match self {
                Test::Differs(register, value) => program.push(jump_if_not(*register, value.cast_signed(), over)),
                Test::Exceeds(access) => {
                    program.extend([
                        copy(CONTEXT, ACCESS),
                        and(CONTEXT, !access.cast_signed()),
                        jump_if_not(CONTEXT, 0, over),
                    ]);
                }
                Test::Avoids(access) => {
                    program.extend([
                        copy(CONTEXT, ACCESS),
                        and(CONTEXT, access.cast_signed()),
                        jump_if(CONTEXT, 0, over),
                    ]);
                }
            }
        }
    }
}

/// The attributes of `BPF_PROG_LOAD` up to the flags; what follows in newer kernels may be left out.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    length: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn load(program: &[u64]) -> io::Result<OwnedFd> {
    let attributes = LoadAttributes {
        kind: TYPE_CGROUP_DEVICE,
        length: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the attributes are live, without padding, and of the size given; the pointers in them are to live data.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &attributes, size_of::<LoadAttributes>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn attach(cgroup: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    let attributes = AttachAttributes {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the attributes are live, without padding, and of the size given.
    match unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &attributes, size_of::<AttachAttributes>()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
