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

_X86_64_CALLS = """
0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 17 18 19 20 21 22 23 24 25 28 32 33 34 35 36 37 38 39 44 45 60 63 74
75 76 77 79 80 82 83 84 87 89 95 96 97 98 99 100 102 104 107 108 110 111 121 124 131 158 186 201 202 204 217
218 219 228 229 230 231 232 233 257 258 262 263 264 267 269 270 271 273 274 281 290 291 292 293 309 316 318
324 332 334 436 439
"""
_AARCH64_CALLS = """
17 19 20 21 22 23 24 34 35 38 45 46 48 49 56 57 59 61 62 63 64 65 66 67 68 72 73 78 79 80 82 83 93 94 96 98
99 100 101 102 103 113 114 115 123 124 128 132 134 135 139 153 155 156 160 163 165 166 168 169 172 173 174 175
176 177 178 179 206 207 214 215 216 222 226 233 276 278 283 291 293 436 439
"""
ALLOWED = {
    X86_64: tuple(map(int, _X86_64_CALLS.split())),
    AARCH64: tuple(map(int, _AARCH64_CALLS.split())),
}
"""Reading, writing and closing open files, opening files (the root has few), directories, memory, clocks and
timers, waiting (poll, select, epoll, futex), signal handlers, asking for ids, usage and random bytes, sending
on a pair, ending. Numbers from the kernel's headers."""
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
    return struct.pack("=HBBI", code, equal, other, value)


def _when(number: int, then: list[bytes]) -> list[bytes]:
    """Lines for one call, which end in a refusal."""
    body = [*then, _line(RETURN, FAIL | errno.EPERM)]
    return [_line(JUMP_EQUAL, number, 0, len(body)), *body]
