use libseccomp::{ScmpArch, ScmpSyscall};
use std::collections::BTreeSet;

// struct seccomp_data (seccomp(2)): the call's number, then the architecture.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
// linux/bpf_common.h and linux/filter.h.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;
/// On x86-64 the numbers from here on are x32's.
const X32: u32 = 0x4000_0000;
/// Instructions for one architecture.
const BLOCK: usize = 6;

/// Instructions to go before a filter that refuses what it does not name: a call with a number above all that the profile
/// names was added to Linux after the profile was written, and answers ENOSYS. The C library then uses the older call;
/// at the EPERM of the default action it would give up. (runc does the same.)
pub fn prefix(archs: &[ScmpArch], named: &BTreeSet<&str>) -> Vec<u8> {
    let mut known: Vec<(u32, u32)> = Vec::new();
    for arch in archs {
        let numbers = named.iter().filter_map(|name| ScmpSyscall::from_name_by_arch(name, *arch).ok());
        // Negative numbers are libseccomp's own, for calls that the architecture does not have.
        let newest = numbers.map(ScmpSyscall::as_raw_syscall).filter_map(|number| u32::try_from(number).ok()).max();
        if let (Some(token), Some(newest)) = (token(*arch), newest)
            && !known.iter().any(|(other, _)| *other == token)
        {
            known.push((token, newest));
        }
    }
    let mut program = instruction(LOAD, 0, 0, ARCH);
    for (place, (token, newest)) in known.iter().enumerate() {
        let to_the_filter = (known.len() - place - 1) * BLOCK + 1;
        program.extend(instruction(IF_EQUAL, 0, BLOCK as u8 - 1, *token));
        program.extend(instruction(LOAD, 0, 0, NUMBER));
        program.extend(instruction(IF_NOT_LESS, 1, 0, X32));
        program.extend(instruction(IF_GREATER, 1, 0, *newest));
        program.extend(instruction(JUMP, 0, 0, to_the_filter as u32));
        program.extend(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    }
    program
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Vec<u8> {
    [&code.to_ne_bytes()[..], &[jt, jf], &k.to_ne_bytes()].concat()
}

/// `AUDIT_ARCH_…` of linux/audit.h. An architecture without one here goes without the prefix.
fn token(arch: ScmpArch) -> Option<u32> {
    Some(match arch {
        ScmpArch::X8664 => 0xc000_003e,
        ScmpArch::X86 => 0x4000_0003,
        ScmpArch::Arm => 0x4000_0028,
        ScmpArch::Aarch64 => 0xc000_00b7,
        ScmpArch::Riscv64 => 0xc000_00f3,
        ScmpArch::Ppc64Le => 0xc000_0015,
        ScmpArch::S390X => 0x8000_0016,
        ScmpArch::Loongarch64 => 0xc000_0102,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the prefix does with a call: an errno, or `None` when the filter behind it decides.
    fn run(program: &[u8], arch: u32, number: u32) -> Option<u32> {
        let word = |at: usize| u32::from_ne_bytes(program[at..at + 4].try_into().unwrap());
        let (mut at, mut accumulator) = (0, 0);
        while at < program.len() / 8 {
            let code = u16::from_ne_bytes([program[at * 8], program[at * 8 + 1]]);
            let (jt, jf, k) = (program[at * 8 + 2], program[at * 8 + 3], word(at * 8 + 4));
            at += 1;
            let when = |yes: bool| usize::from(if yes { jt } else { jf });
            match code {
                LOAD => accumulator = if k == ARCH { arch } else { number },
                JUMP => at += k as usize,
                IF_EQUAL => at += when(accumulator == k),
                IF_GREATER => at += when(accumulator > k),
                IF_NOT_LESS => at += when(accumulator >= k),
                RETURN => return Some(k & 0xffff),
                code => panic!("instruction {code:#x}"),
            }
        }
        assert_eq!(at, program.len() / 8, "a jump ends exactly where the filter begins");
        None
    }

    #[test]
    fn only_calls_newer_than_the_profile_are_unknown() {
        let (x86_64, i386) = (0xc000_003e, 0x4000_0003);
        let program = prefix(&[ScmpArch::X8664, ScmpArch::X86, ScmpArch::X32], &BTreeSet::from(["read", "openat2"]));
        for arch in [x86_64, i386] {
            assert_eq!(run(&program, arch, 437), None, "openat2 itself");
            assert_eq!(run(&program, arch, 438), Some(libc::ENOSYS as u32));
            assert_eq!(run(&program, arch, 0), None);
        }
        assert_eq!(run(&program, x86_64, X32 + 500), None, "x32 is the filter's to refuse");
        assert_eq!(run(&program, 0xc000_00b7, 1000), None, "and so is an architecture that is not listed");
    }
}
