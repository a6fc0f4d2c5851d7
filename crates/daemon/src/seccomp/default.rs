//! The default system call filter: Docker's (profile of Engine 29), as data of our own.
//!
//! Everything not named here fails with `EPERM`. Names that a host's library does not know are passed over by the
//! runtimes, so newer calls and other processors' calls can stand here.

use super::{Action, Arg, Filter, Op, Rule};
use std::borrow::Cow;

const ENOSYS: u32 = 38;

/// Harmless in any container.
const ALWAYS: &str = "
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2
fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents
getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp
getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage
getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch
inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64
ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown
lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr
lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock
mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at
nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64
pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction
rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64
sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list
setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount
statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime
utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
";

/// Allowed with a capability: without it the kernel might still let them do harm, or they are of no use.
const WITH_CAPABILITY: [(&str, &str); 14] = [
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// Allowed on some processors, by Docker's names of them.
const ON_PROCESSOR: [(&[&str], &str); 6] = [
    (&["ppc64le"], "sync_file_range2 swapcontext"),
    (&["arm", "arm64"], "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"),
    (&["amd64", "x32"], "arch_prctl"),
    (&["amd64", "x32", "x86"], "modify_ldt"),
    (&["s390", "s390x"], "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    (&["riscv64"], "riscv_flush_icache"),
];

/// `CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET`: a new namespace of any kind.
const NEW_NAMESPACE: u64 = 0x7e02_0000;
/// `AF_ALG`: the kernel's ciphers, a wide door that containers do not need.
const AF_ALG: u64 = 38;
/// `AF_VSOCK`: reaches the hypervisor and other machines on it, past every network namespace.
const AF_VSOCK: u64 = 40;

/// The rules, in the order in which a runtime reads them.
pub fn rules() -> Vec<Rule> {
    let mut rules = vec![allow(ALWAYS)];
    // Before 4.8 tracing could escape the filter.
    let since = Filter { min_kernel: Some((4, 8)), ..Filter::default() };
    rules.push(Rule { includes: since, ..allow("process_vm_readv process_vm_writev ptrace") });
    // Every family but the two: rules with one comparison each, for a runtime reads several of one argument as "or".
    rules.push(argument("socket", 0, AF_ALG, Op::LessThan));
    rules.push(argument("socket", 0, AF_ALG + 1, Op::EqualTo));
    rules.push(argument("socket", 0, AF_VSOCK, Op::GreaterThan));
    // Linux, Linux with 32-bit addresses, their kernels that answer "2.6", and the question which it is.
    for persona in [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(argument("personality", 0, persona, Op::EqualTo));
    }
    for (arches, names) in ON_PROCESSOR {
        let includes = Filter { arches: arches.iter().map(|arch| (*arch).to_owned()).collect(), ..Filter::default() };
        rules.push(Rule { includes, ..allow(names) });
    }
    for (cap, names) in WITH_CAPABILITY {
        rules.push(Rule { includes: with(cap), ..allow(names) });
    }
    // Processes and threads yes, namespaces no. The flags are the first argument, on s390 the second.
    let s390 = || vec!["s390".to_owned(), "s390x".to_owned()];
    let clone = |index| Rule {
        names: vec![Cow::Borrowed("clone")],
        action: Action::Allow,
        args: vec![Arg { index, value: NEW_NAMESPACE, value_two: 0, op: Op::MaskedEqual }],
        ..Rule::default()
    };
    rules.push(Rule { excludes: Filter { arches: s390(), ..with("SYS_ADMIN") }, ..clone(0) });
    rules.push(Rule {
        includes: Filter { arches: s390(), ..Filter::default() },
        excludes: with("SYS_ADMIN"),
        ..clone(1)
    });
    // A filter cannot see clone3's flags. "No such call" makes libraries fall back to clone; "not permitted" would not.
    rules.push(Rule {
        names: vec![Cow::Borrowed("clone3")],
        action: Action::Errno,
        errno: Some(ENOSYS),
        excludes: with("SYS_ADMIN"),
        ..Rule::default()
    });
    rules
}

fn allow(names: &'static str) -> Rule {
    let names = names.split_whitespace().map(Cow::Borrowed).collect();
    Rule { names, action: Action::Allow, ..Rule::default() }
}

fn argument(name: &'static str, index: u32, value: u64, op: Op) -> Rule {
    Rule { args: vec![Arg { index, value, value_two: 0, op }], ..allow(name) }
}

fn with(cap: &str) -> Filter {
    Filter { caps: vec![format!("CAP_{cap}")], ..Filter::default() }
}
