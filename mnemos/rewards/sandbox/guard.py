"""Walls around a process, by Linux's own means: namespaces, a root of its own, limits, a call filter.

Used inside the sandbox's process only; see `sandbox.inside`. Everything is done through the C library,
because Python 3.11 has no functions for it. Every failure raises OSError: nothing goes on half guarded.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from mnemos.rewards.sandbox import syscalls

NEW_MOUNTS, NEW_CGROUP, NEW_UTS, NEW_IPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
BIND, RECURSIVE, PRIVATE, REMOUNT, READ_ONLY, NO_SUID, NO_DEVICES = 0x1000, 0x4000, 0x40000, 0x20, 0x1, 0x2, 0x4
DETACH = 2
SET_DEATH_SIGNAL, SET_SECCOMP, DROP_BOUNDING, SET_NO_NEW_PRIVILEGES, AMBIENT = 1, 22, 24, 38, 47
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000
PIVOT_ROOT = {syscalls.X86_64: 155, syscalls.AARCH64: 41}
CAPABILITIES_VERSION = 0x20080522
NOBODY = 65534

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
LIBRARIES = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")

_libc = ctypes.CDLL(None, use_errno=True)


def _do(name: str, *arguments: object) -> int:
    ctypes.set_errno(0)
    found = int(getattr(_libc, name)(*arguments))
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return found


def die_with_parent() -> None:
    """Be killed when the process that started this one ends."""
    _do("prctl", SET_DEATH_SIGNAL, 9, 0, 0, 0)


def own_namespaces() -> None:
    """No longer see the machine's network, processes (from the next child on), shared memory, names; be
    nobody with no right outside. Needs no privilege where the kernel lets users make namespaces."""
    # Before unshare: within the new namespace both are unknown until the maps are written.
    user, group = os.geteuid(), os.getegid()
    everything = NEW_USER | NEW_MOUNTS | NEW_PROCESSES | NEW_NETWORK | NEW_IPC | NEW_UTS | NEW_CGROUP
    _do("unshare", everything)
    # The kernel lets a user without privilege write gid_map only then (user_namespaces(7)).
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")


def own_root(root: str, readable: Iterable[str]) -> None:
    """Make `root`, an empty directory, the root of all that this process sees: Python's standard library,
    shared libraries, four devices and the files `readable`, all read-only, each at its usual place."""
    # Nothing that is mounted from here on may show outside, and pivot_root refuses a shared root.
    _do("mount", None, b"/", None, RECURSIVE | PRIVATE, None)
    _do("mount", b"none", root.encode(), b"tmpfs", NO_SUID | NO_DEVICES, b"size=1m,mode=755")
    paths = sysconfig.get_paths()
    for path in dict.fromkeys((*LIBRARIES, paths["stdlib"], paths["platstdlib"], *DEVICES, *readable)):
        _show(path, root)
    for name in ("scratch", "old"):
        os.mkdir(f"{root}/{name}")
    os.chdir(root)
    _do("syscall", PIVOT_ROOT[syscalls.architecture()], b".", b"old")
    os.chdir("/")
    # Lazily, because this process still has files of the old root open.
    _do("umount2", b"/old", DETACH)
    os.rmdir("/old")
    # Last, since the places above had to be made first; the mounts within were closed one by one.
    _do("mount", None, b"/", None, REMOUNT | READ_ONLY | NO_SUID | NO_DEVICES, None)


def _show(path: str, root: str) -> None:
    place = root + path
    if os.path.lexists(place) or not os.path.exists(path):
        return
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.islink(path) and path in LIBRARIES:
        os.symlink(os.readlink(path), place)
        return
    if os.path.isdir(path):
        os.makedirs(place, exist_ok=True)
    else:
        Path(place).touch()
    _do("mount", path.encode(), place.encode(), None, BIND | RECURSIVE, None)
    flags = READ_ONLY | NO_SUID | (0 if path in DEVICES else NO_DEVICES)
    # struct mount_attr: set, clear, propagation, namespace. A remount would make only the top of a bound tree
    # read-only, and leave writable what is mounted below it.
    attributes = ctypes.create_string_buffer(struct.pack("=QQQQ", flags, 0, 0, 0), 32)
    _do("syscall", MOUNT_SETATTR, AT_FDCWD, place.encode(), AT_RECURSIVE, attributes, ctypes.c_size_t(32))


def own_scratch(size: int) -> None:
    """An empty /scratch of `size` bytes that goes away with this process."""
    # Mounts of a child's own: what it wrote is gone when its last process is.
    _do("unshare", NEW_MOUNTS)
    _do("mount", b"none", b"/scratch", b"tmpfs", NO_SUID | NO_DEVICES, f"size={size},nr_inodes=1024,mode=777".encode())


def limit(cpu_seconds: int, memory: int, file_bytes: int) -> None:
    """Kernel limits of this process: processor time in seconds, address space and file size in bytes."""
    for what, value, hard in (
        # SIGXCPU at the first number, SIGKILL at the second.
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1),
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_FSIZE, file_bytes, file_bytes),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(what, (value, hard))


def give_up_rights() -> None:
    """No capability, none to be had, and only the system calls of `syscalls`. There is no way back."""
    # Before capset, which also takes away the right to drop them.
    for capability in range(64):
        if _libc.prctl(DROP_BOUNDING, capability, 0, 0, 0) != 0:
            break  # beyond the last one, or not ours to drop: then there is none to lose either
    _libc.prctl(AMBIENT, 4, 0, 0, 0)
    # Version 3 of the call: two sets of three words, all zero.
    header = ctypes.create_string_buffer(struct.pack("=Ii", CAPABILITIES_VERSION, 0), 8)
    _do("capset", header, ctypes.create_string_buffer(24))
    # Without it the kernel takes a filter from privileged processes only.
    _do("prctl", SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    code = syscalls.program(syscalls.architecture())
    lines = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: number of lines, and where they are
    pointer = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(lines)))
    _do("prctl", SET_SECCOMP, 2, pointer, 0, 0)
