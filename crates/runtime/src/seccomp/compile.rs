use super::{fits, unknown};
use anyhow::{Context, bail};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, ScmpVersion};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::str::FromStr;

/// The library's version: another one may compile the same profile differently.
pub fn library() -> anyhow::Result<String> {
    let version = ScmpVersion::current().context("libseccomp")?;
    Ok(format!("{}.{}.{}", version.major, version.minor, version.micro))
}

/// The filter of a profile (`linux.seccomp` of the OCI configuration), as an array of `struct sock_filter`.
pub fn compile(profile: &Value) -> anyhow::Result<Vec<u8>> {
    let default = action(&profile["defaultAction"], &profile["defaultErrnoRet"]).context("defaultAction")?;
    let mut context = ScmpFilterContext::new(default)?;
    let mut archs = vec![ScmpArch::native()];
    for arch in list(&profile["architectures"]) {
        let name = arch.as_str().unwrap_or_default();
        let arch = ScmpArch::from_str(name).map_err(|_| anyhow::anyhow!("architecture {arch} is not known here"))?;
        context.add_arch(arch).with_context(|| format!("architecture {name}"))?;
        archs.push(arch);
    }
    let mut named = BTreeSet::new();
    for rule in list(&profile["syscalls"]) {
        let action = action(&rule["action"], &rule["errnoRet"]).context("action of a rule")?;
        let names: Vec<&str> = list(&rule["names"]).iter().filter_map(Value::as_str).collect();
        named.extend(names.iter().copied());
        let tests = list(&rule["args"]).iter().map(compare).collect::<anyhow::Result<Vec<_>>>()?;
        // A rule that says what happens anyway is one to libseccomp's dislike.
        if action == default {
            continue;
        }
        for name in names {
            // A call that this libseccomp does not know is left to the default action, or to ENOSYS if it is newer than all
            // that the profile names.
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            add(&mut context, action, call, &tests).with_context(|| format!("rule for {name}"))?;
        }
    }
    let program = export(&context)?;
    let program = match default {
        ScmpAction::Errno(errno) if errno != libc::ENOSYS => [unknown::prefix(&archs, &named), program].concat(),
        _ => program,
    };
    if !fits(&program) {
        bail!("the profile is too big for the kernel: {} bytes of filter", program.len());
    }
    Ok(program)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// An action; EPERM is the errno when none is given, as in runc.
fn action(name: &Value, errno: &Value) -> anyhow::Result<ScmpAction> {
    let errno = match errno {
        Value::Null => libc::EPERM,
        errno => {
            errno.as_i64().and_then(|errno| i32::try_from(errno).ok()).with_context(|| format!("errno {errno}"))?
        }
    };
    let text = name.as_str().unwrap_or_default();
    ScmpAction::from_str(text, Some(errno)).map_err(|_| anyhow::anyhow!("{name} is not a seccomp action"))
}

/// A test of one argument: its place, and what it is compared with.
fn compare(test: &Value) -> anyhow::Result<(u32, ScmpArgCompare)> {
    let index = test["index"].as_u64().and_then(|index| u32::try_from(index).ok()).filter(|index| *index < 6);
    let index = index.with_context(|| format!("argument index {} is not 0 to 5", test["index"]))?;
    let (value, second) = (test["value"].as_u64().unwrap_or(0), test["valueTwo"].as_u64().unwrap_or(0));
    let name = test["op"].as_str().unwrap_or_default();
    // For a masked comparison the first value is the mask, and the second what is left of the argument.
    let compare = match ScmpCompareOp::from_str(name) {
        Ok(ScmpCompareOp::MaskedEqual(_)) => ScmpArgCompare::new(index, ScmpCompareOp::MaskedEqual(value), second),
        Ok(op) => ScmpArgCompare::new(index, op, value),
        Err(_) => bail!("{} is not a comparison", test["op"]),
    };
    Ok((index, compare))
}

/// A rule whose tests hold all at once; tests of the same argument, which libseccomp cannot combine, become one rule each
/// (as in runc).
fn add(
    context: &mut ScmpFilterContext,
    action: ScmpAction,
    call: ScmpSyscall,
    tests: &[(u32, ScmpArgCompare)],
) -> anyhow::Result<()> {
    let places: BTreeSet<u32> = tests.iter().map(|(index, _)| *index).collect();
    if tests.is_empty() {
        context.add_rule(action, call)?;
    } else if places.len() == tests.len() {
        let tests: Vec<ScmpArgCompare> = tests.iter().map(|(_, test)| *test).collect();
        context.add_rule_conditional(action, call, &tests)?;
    } else {
        for (_, test) in tests {
            context.add_rule_conditional(action, call, &[*test])?;
        }
    }
    Ok(())
}

fn export(context: &ScmpFilterContext) -> anyhow::Result<Vec<u8>> {
    let file = File::from(memfd_create("seccomp", MemfdFlags::CLOEXEC)?);
    context.export_bpf(&file)?;
    let mut program = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut program, 0)?;
    Ok(program)
}
