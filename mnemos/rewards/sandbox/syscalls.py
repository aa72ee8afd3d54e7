"""The system calls that sandboxed code may make, and the filter that refuses every other one.

A classic BPF program for seccomp (Linux `Documentation/userspace-api/seccomp_filter.rst`). What is not
on the list fails with EPERM: no new process, no exec, no signal to anybody, no socket (but a pair
within the process, which event loops need), no mount, no ptrace, no namespace, no module, no key.
"""

from __future__ import annotations

import errno
import platform
import struct

X86_64, AARCH64 = 0xC000003E, 0xC00000B7
"""Names of the two architectures to the kernel (AUDIT_ARCH_…)."""

CALLS = """
access=21/ alarm=37/ arch_prctl=158/ brk=12/214 chdir=80/49 clock_getres=229/114 clock_gettime=228/113
clock_nanosleep=230/115 close=3/57 close_range=436/436 dup=32/23 dup2=33/ dup3=292/24 epoll_create1=291/20
epoll_ctl=233/21 epoll_pwait=281/22 epoll_wait=232/ eventfd2=290/19 exit=60/93 exit_group=231/94 faccessat=269/48
faccessat2=439/439 fdatasync=75/83 fstat=5/80 fsync=74/82 ftruncate=77/46 futex=202/98 get_robust_list=274/100
getcpu=309/168 getcwd=79/17 getdents64=217/61 getegid=108/177 geteuid=107/175 getgid=104/176 getitimer=36/102
getpgid=121/155 getpgrp=111/ getpid=39/172 getppid=110/173 getrandom=318/278 getrlimit=97/163 getrusage=98/165
getsid=124/156 gettid=186/178 gettimeofday=96/169 getuid=102/174 lseek=8/62 lstat=6/ madvise=28/233
membarrier=324/283 mkdir=83/ mkdirat=258/34 mmap=9/222 mprotect=10/226 mremap=25/216 munmap=11/215 nanosleep=35/101
newfstatat=262/79 open=2/ openat=257/56 pause=34/ pipe=22/ pipe2=293/59 poll=7/ ppoll=271/73 pread64=17/67
pselect6=270/72 pwrite64=18/68 read=0/63 readlink=89/ readlinkat=267/78 readv=19/65 recvfrom=45/207 rename=82/
renameat=264/38 renameat2=316/276 restart_syscall=219/128 rmdir=84/ rseq=334/293 rt_sigaction=13/134
rt_sigprocmask=14/135 rt_sigreturn=15/139 sched_getaffinity=204/123 sched_yield=24/124 select=23/ sendto=44/206
set_robust_list=273/99 set_tid_address=218/96 setitimer=38/103 sigaltstack=131/132 stat=4/ statx=332/291
sysinfo=99/179 time=201/ times=100/153 truncate=76/45 umask=95/166 uname=63/160 unlink=87/ unlinkat=263/35
write=1/64 writev=20/66
"""
"""Every call that is allowed: name=x86_64/aarch64, the numbers of the kernel's headers; empty where an architecture has
no such call. Reading, writing and closing open files, opening files (the root has few), directories, memory, clocks and
timers, waiting (poll, select, epoll, futex), signal handlers, asking for ids, usage and random bytes, sending on a
pair, ending."""


def _allowed(column: int) -> dict[str, int]:
    """Name -> number on one architecture."""
    rows = (row.replace("/", "=").split("=") for row in CALLS.split())
    return {row[0]: int(row[column]) for row in rows if row[column]}


NUMBERS = {X86_64: _allowed(1), AARCH64: _allowed(2)}
ALLOWED = {arch: tuple(sorted(numbers.values())) for arch, numbers in NUMBERS.items()}
CLONE = {X86_64: 56, AARCH64: 220}
IOCTL = {X86_64: 16, AARCH64: 29}
FCNTL = {X86_64: 72, AARCH64: 25}
SOCKETPAIR = {X86_64: 53, AARCH64: 199}
PRLIMIT = {X86_64: 302, AARCH64: 261}
CLONE3 = 435

CLONE_THREAD = 0x00010000
HARMLESS_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""
AF_UNIX = 1
SIGNALLING = (8, 10, 15)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX: by which a process could have itself killed as if from outside."""

LOAD, JUMP_EQUAL, JUMP_ANY, JUMP_AT_LEAST, RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
# Offsets in struct seccomp_data: int nr, u32 arch, u64 instruction pointer, u64 args[6]. LOAD takes 32 bits, the
# lower half of an argument.
NUMBER, ARCH, ARGUMENTS = 0, 4, 16
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000


def architecture() -> int:
    """The kernel's name of this machine's architecture. Raises OSError for one without a list."""
    names = {"x86_64": X86_64, "aarch64": AARCH64}
    machine = platform.machine()
    if machine not in names or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, f"no list of system calls for {machine}")
    return names[machine]


def program(arch: int) -> bytes:
    """The filter: struct sock_filter[], 8 bytes each."""
    # The architecture first: under another one the same numbers are other calls.
    lines = [_line(LOAD, ARCH), _line(JUMP_EQUAL, arch, 1, 0), _line(RETURN, KILL), _line(LOAD, NUMBER)]
    if arch == X86_64:
        # The x32 twins of all calls have numbers of their own, and none is needed.
        lines += [_line(JUMP_AT_LEAST, 0x40000000, 0, 1), _line(RETURN, KILL)]
    for number in ALLOWED[arch]:
        lines += [_line(JUMP_EQUAL, number, 0, 1), _line(RETURN, ALLOW)]
    # clone3 hides its flags in memory; ENOSYS makes the C library use clone.
    lines += [_line(JUMP_EQUAL, CLONE3, 0, 1), _line(RETURN, FAIL | errno.ENOSYS)]
    lines += _when(CLONE[arch], [_line(LOAD, ARGUMENTS), _line(JUMP_ANY, CLONE_THREAD, 0, 1), _line(RETURN, ALLOW)])
    lines += _when(SOCKETPAIR[arch], [_line(LOAD, ARGUMENTS), _line(JUMP_EQUAL, AF_UNIX, 0, 1), _line(RETURN, ALLOW)])
    asked = [_line(LOAD, ARGUMENTS + 8)]
    for request in HARMLESS_IOCTLS:
        asked += [_line(JUMP_EQUAL, request, 0, 1), _line(RETURN, ALLOW)]
    lines += _when(IOCTL[arch], asked)
    refused = [_line(LOAD, ARGUMENTS + 8)]
    for command in SIGNALLING:
        refused += [_line(JUMP_EQUAL, command, 0, 1), _line(RETURN, FAIL | errno.EPERM)]
    lines += _when(FCNTL[arch], [*refused, _line(RETURN, ALLOW)])
    # prlimit may read limits: its third argument, the new ones, is a null pointer then.
    low, high = ARGUMENTS + 16, ARGUMENTS + 20
    reading = [_line(LOAD, low), _line(JUMP_EQUAL, 0, 0, 3), _line(LOAD, high), _line(JUMP_EQUAL, 0, 0, 1)]
    lines += _when(PRLIMIT[arch], [*reading, _line(RETURN, ALLOW)])
    return b"".join([*lines, _line(RETURN, FAIL | errno.EPERM)])


def _line(code: int, value: int, equal: int = 0, other: int = 0) -> bytes:
    # struct sock_filter: code, lines to skip where it holds, and where not, operand
    return struct.pack("=HBBI", code, equal, other, value)


def _when(number: int, then: list[bytes]) -> list[bytes]:
    """Lines for one call, which end in a refusal."""
    body = [*then, _line(RETURN, FAIL | errno.EPERM)]
    # Another call skips the whole body.
    return [_line(JUMP_EQUAL, number, 0, len(body)), *body]
