//! Gives system calls up, by seccomp. A list of what is refused, not of what is allowed: C libraries differ in what they call.

use super::Thread;
use nix::sched::CloneFlags;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
};
use std::collections::BTreeMap;

/// By system call: when it is refused; always, if there are no rules.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;
/// Conditions that must all be true.
type All = Vec<SeccompCondition>;

/// Other programs, other processes, the machine itself: nobody here has to do with them.
const NEVER: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_syslog,
    libc::SYS_personality,
    libc::SYS_vhangup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_open_by_handle_at,
    libc::SYS_unshare,
    libc::SYS_memfd_create,
    libc::SYS_mknodat,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_listen,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];
/// The same, where only some machines have them.
#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_mknod,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[i64] = &[];

/// What changes files, other than to write to one that is open.
const CHANGES: &[i64] = &[
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat2,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_utimensat,
];
#[cfg(target_arch = "x86_64")]
const CHANGES_HERE: &[i64] = &[
    libc::SYS_creat,
    libc::SYS_unlink,
    libc::SYS_rmdir,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_mkdir,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
];
#[cfg(target_arch = "aarch64")]
const CHANGES_HERE: &[i64] = &[libc::SYS_renameat];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const CHANGES_HERE: &[i64] = &[];

/// Kernel programs, other namespaces, and sockets beyond those that are open.
const REACHES_OUT: &[i64] =
    &[libc::SYS_bpf, libc::SYS_setns, libc::SYS_socket, libc::SYS_connect, libc::SYS_bind];

/// Opening a file by its name, and which argument has the flags.
#[cfg(target_arch = "x86_64")]
const OPENS: &[(i64, u8)] = &[(libc::SYS_openat, 2), (libc::SYS_open, 1)];
#[cfg(not(target_arch = "x86_64"))]
const OPENS: &[(i64, u8)] = &[(libc::SYS_openat, 2)];

/// Calls whose arguments a filter cannot see, and for which there is another that C libraries then take.
const OTHERS_DO: [i64; 2] = [libc::SYS_clone3, libc::SYS_openat2];

/// What is done by bpf() to maps, iterators and links that are open already: to look up, update, delete, walk (1 to 4), to
/// be told of (15), to begin and end a walk (28, 33, 34). From include/uapi/linux/bpf.h.
const BPF_USES: [u64; 8] = [1, 2, 3, 4, 15, 28, 33, 34];

/// The calling thread can do these no more; they then fail with EPERM.
///
/// # Errors
/// The kernel has no filters, or refuses this one.
pub fn forbid(thread: &Thread) -> Result<(), String> {
    let missing = |why: String| format!("no seccomp filter: {why}");
    let arch = arch().map_err(missing)?;
    let rules = rules(thread).map_err(|error| missing(error.to_string()))?;
    let others: Rules = OTHERS_DO.into_iter().map(|call| (call, Vec::new())).collect();
    for (rules, errno) in [(others, libc::ENOSYS), (rules, libc::EPERM)] {
        let action = SeccompAction::Errno(errno.unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch);
        let mut program: BpfProgram =
            filter.and_then(TryInto::try_into).map_err(|error| missing(error.to_string()))?;
        program.splice(0..0, other_numbers());
        apply_filter(&program).map_err(|error| missing(error.to_string()))?;
    }
    Ok(())
}

/// The x32 calls of an x86-64 kernel are the same calls with other numbers: refused, all of them.
fn other_numbers() -> Vec<sock_filter> {
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS, at 0 of struct seccomp_data
    const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const X32: u32 = 0x4000_0000; // __X32_SYSCALL_BIT
    if !cfg!(target_arch = "x86_64") {
        return Vec::new();
    }
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    vec![
        sock_filter { code: LOAD_NUMBER, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: X32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: refuse },
    ]
}

fn rules(thread: &Thread) -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    for call in NEVER.iter().chain(NEVER_HERE) {
        rules.insert(*call, Vec::new());
    }
    // A thread may be started, a process not.
    let a_thread = CloneFlags::CLONE_THREAD.bits() as u64;
    when(&mut rules, libc::SYS_clone, vec![masked(0, a_thread, 0)?])?;
    // abort() sends a signal, to this very process.
    when(&mut rules, libc::SYS_tgkill, vec![not(0, u64::from(std::process::id()))?])?;
    // What is typed into a terminal is not to come from here.
    when(&mut rules, libc::SYS_ioctl, vec![is(1, libc::TIOCSTI)?])?;
    match thread {
        Thread::Tracer { .. } => {
            reads_only(&mut rules)?;
            let unused = BPF_USES.into_iter().map(|used| not(0, used)).collect::<Result<_, _>>()?;
            when(&mut rules, libc::SYS_bpf, unused)?;
            let network = CloneFlags::CLONE_NEWNET.bits() as u64;
            when(&mut rules, libc::SYS_setns, vec![not(1, network)?])?;
            // Netlink; and UDP, by which the kernel tells whether there is a route.
            sockets(&mut rules, &[libc::AF_NETLINK, libc::AF_INET, libc::AF_INET6])?;
            for family in [libc::AF_INET, libc::AF_INET6] {
                for kind in [libc::SOCK_STREAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET, libc::SOCK_DCCP] {
                    const KIND: u64 = 0xf; // the rest is SOCK_NONBLOCK and SOCK_CLOEXEC
                    when(
                        &mut rules,
                        libc::SYS_socket,
                        vec![is(0, family as u64)?, masked(1, KIND, kind as u64)?],
                    )?;
                }
            }
        }
        Thread::Pusher(_) => {
            reads_only(&mut rules)?;
            forbid_all(&mut rules, &[libc::SYS_bpf, libc::SYS_setns]);
            sockets(&mut rules, &[libc::AF_UNIX, libc::AF_NETLINK, libc::AF_INET, libc::AF_INET6])?;
        }
        Thread::Recorder(_) => forbid_all(&mut rules, REACHES_OUT),
        Thread::Server => {
            forbid_all(&mut rules, CHANGES);
            forbid_all(&mut rules, CHANGES_HERE);
            OPENS.iter().for_each(|(call, _)| forbid_all(&mut rules, &[*call]));
            forbid_all(&mut rules, REACHES_OUT);
        }
    }
    Ok(rules)
}

/// Files may be opened to be read, and nothing else be done to them.
fn reads_only(rules: &mut Rules) -> Result<(), BackendError> {
    forbid_all(rules, CHANGES);
    forbid_all(rules, CHANGES_HERE);
    for (call, flags) in OPENS {
        for way in [libc::O_WRONLY, libc::O_RDWR] {
            when(rules, *call, vec![masked(*flags, libc::O_ACCMODE as u64, way as u64)?])?;
        }
        for change in [libc::O_CREAT, libc::O_TRUNC] {
            when(rules, *call, vec![masked(*flags, change as u64, change as u64)?])?;
        }
    }
    Ok(())
}

/// Sockets of other families than these cannot be made.
fn sockets(rules: &mut Rules, families: &[libc::c_int]) -> Result<(), BackendError> {
    let others = families.iter().map(|family| not(0, *family as u64)).collect::<Result<_, _>>()?;
    when(rules, libc::SYS_socket, others)
}

fn forbid_all(rules: &mut Rules, calls: &[i64]) {
    rules.extend(calls.iter().map(|call| (*call, Vec::new())));
}

/// One more case in which a call is refused.
fn when(rules: &mut Rules, call: i64, all: All) -> Result<(), BackendError> {
    rules.entry(call).or_default().push(SeccompRule::new(all)?);
    Ok(())
}

fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn not(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}

fn arch() -> Result<TargetArch, String> {
    TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| format!("there is none for {} in this program", std::env::consts::ARCH))
}

/// What this kernel has.
///
/// # Errors
/// It has none, and why.
pub fn available() -> Result<String, String> {
    let why = |why: String| format!("no seccomp filter: {why}");
    arch().map_err(why)?;
    // Since 4.14; also where a sandbox around us hides it.
    match std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_whitespace().any(|action| action == "errno") => Ok("seccomp".to_owned()),
        Ok(_) => Err(why("this kernel's filters cannot refuse calls".to_owned())),
        Err(_) => Err(why("it is not in this kernel (CONFIG_SECCOMP_FILTER)".to_owned())),
    }
}
