//! `floor none|host|bridge NAME`: the least program that does what starting a container does to the kernel: new namespaces,
//! a veth pair into them, loopback, address and route, and the exec of the static `true` of busybox. Engines are
//! measured beside it.

use lab::busybox::PROGRAM;
use lab::floor::{Far, Route, addresses, index};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["none"] => start(libc::CLONE_NEWNET, None),
        ["host"] => start(0, None),
        ["bridge", name] => index(name).and_then(|bridge| start(libc::CLONE_NEWNET, Some(bridge))),
        _ => Err(io::Error::other("usage: floor none | host | bridge NAME")),
    };
    match result {
        Ok(0) => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("floor: the child ended with wait status {status:#x}");
            ExitCode::FAILURE
        }
        Err(err) => {
            eprintln!("floor: {err}");
            ExitCode::FAILURE
        }
    }
}

/// Answers the wait status of the child.
fn start(net: libc::c_int, bridge: Option<u32>) -> io::Result<i32> {
    let (go, mut ready) = io::pipe()?;
    let flags = net | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::SIGCHLD;
    // SAFETY: without a stack and with none of the sharing flags this is fork(2); this process has one thread only.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_long, 0, 0, 0, 0) };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(ready);
            Err(container(go, net != 0, bridge.is_some()))
        }
        child => {
            drop(go);
            if let Some(bridge) = bridge {
                let pid = child as u32;
                Route::open()?.add_veth(&format!("flr{}", std::process::id()), Some(bridge), Far::Pid(pid))?;
            }
            ready.write_all(b"!")?;
            let mut status = 0;
            // SAFETY: `status` is a live int.
            if unsafe { libc::waitpid(child as libc::pid_t, &mut status, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(status)
        }
    }
}

/// The child: returns only if something failed.
fn container(mut go: impl Read, own_network: bool, linked: bool) -> io::Error {
    let prepare = || -> io::Result<()> {
        go.read_exact(&mut [0])?;
        if own_network {
            Route::open()?.configure(linked.then(addresses))?;
        }
        Ok(())
    };
    match { prepare }() {
        Ok(()) => Command::new(PROGRAM).arg0("true").exec(),
        Err(err) => err,
    }
}
