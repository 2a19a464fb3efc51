"""What the kernel refuses to a program that parses untrusted bytes, in case a hostile file takes it over.

A filter of system calls (seccomp, Linux's Documentation/userspace-api/seccomp_filter.rst), and no
capabilities where the worker is root. The filter lets no process leave its group, which is killed as a whole;
no link be made, which the worker would follow when it reads results; no other process be looked into,
signalled or limited; no port be listened on; and without a network, no socket be opened. A process may not
signal itself either: abort(3) ends it by a signal that is not SIGABRT.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable, Sequence

# prctl(2), and its operations that are used.
prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 22, 24, 38
_SECCOMP_MODE_FILTER = 2
#: More than any kernel has.
_CAPABILITIES = 64

#: The numbers of system calls by architecture; 0: it has no such call.
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_DENIED = {
    "accept": (43, 202),
    "accept4": (288, 242),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "link": (86, 0),
    "linkat": (265, 37),
    "listen": (50, 201),
    "mknod": (133, 0),
    "mknodat": (259, 33),
    "mount": (165, 40),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setns": (308, 268),
    "setpgid": (109, 154),
    "setsid": (112, 157),
    "symlink": (88, 0),
    "symlinkat": (266, 36),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
#: With a network, also binding is allowed: musl's resolver does it.
_DENIED_WITHOUT_NETWORK = {"connect": (42, 203), "socket": (41, 198), "socketpair": (53, 199)}
_CLONE, _CLONE3 = (56, 220), (435, 435)
#: Allowed for the process itself, which is 0: the C library asks for its limits.
_PRLIMIT = (302, 261)
#: Their operations that name who is sent a signal when a file is ready: F_SETOWN and F_SETOWN_EX; FIOSETOWN
#: and SIOCSPGRP.
_FCNTL, _SETTING_OWNERS = (72, 25), (8, 15)
_IOCTL, _SETTING_OWNERS_TOO = (16, 29), (0x8901, 0x8902)
#: The flags of all namespaces, in which a process would have capabilities again.
_NAMESPACES = 0x7E020000
#: The first system call of x86-64's other interface (x32), which has numbers of its own.
_X32 = 0x40000000

#: Instructions of classic BPF (linux/bpf_common.h), and what a filter returns (linux/seccomp.h).
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
#: Offsets in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class Sandbox:
    """Restricts a new process before it becomes the program, with a network or without one."""

    def __init__(self, *, network: bool) -> None:
        self._filter = _filter(network=network)
        self._program = _Program(len(self._filter) // 8, self._filter)
        self._address = ctypes.addressof(self._program)
        #: Whether system calls can be filtered on this machine.
        self.is_filtered = bool(self._filter) and _kernel_filters()

    def enter(self) -> None:
        """Restrict the calling process for good, as far as the kernel can. Raises OSError where it fails."""
        for capability in range(_CAPABILITIES):
            # Of no effect for who is not root. What root executes then has no capabilities.
            prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if self.is_filtered and prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, self._address, 0, 0):
            raise OSError(ctypes.get_errno(), "the filter of system calls cannot be installed")


def _kernel_filters() -> bool:
    # A kernel that knows the operation looks for the filter at address 0.
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, 0, 0, 0)
    return ctypes.get_errno() == errno.EFAULT


def _filter(*, network: bool) -> bytes:
    """Return a filter for this machine; empty for an architecture of which the numbers are not known."""
    if platform.machine() not in _ARCHITECTURES:
        return b""
    column, architecture = _ARCHITECTURES[platform.machine()]
    denied = _DENIED if network else _DENIED | _DENIED_WITHOUT_NETWORK
    refused = _ERROR | errno.EPERM
    program = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_JUMP_EQUAL, architecture, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_JUMP_AT_LEAST, _X32, 0, 1),
        _instruction(_RETURN, refused),
        # The older call is used then, whose flags can be looked at.
        *_refused([_CLONE3[column]], _ERROR | errno.ENOSYS),
        *_refused((numbers[column] for numbers in denied.values() if numbers[column]), refused),
        *_refused_to_do(_FCNTL[column], _SETTING_OWNERS, refused),
        *_refused_to_do(_IOCTL[column], _SETTING_OWNERS_TOO, refused),
        _instruction(_JUMP_EQUAL, _PRLIMIT[column], 0, 4),
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_JUMP_EQUAL, 0, 0, 1),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, refused),
        _instruction(_JUMP_EQUAL, _CLONE[column], 0, 3),
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_JUMP_SET, _NAMESPACES, 0, 1),
        _instruction(_RETURN, refused),
        _instruction(_RETURN, _ALLOW),
    ]
    return b"".join(program)


def _refused(numbers: Iterable[int], answer: int) -> Iterable[bytes]:
    for number in numbers:
        yield _instruction(_JUMP_EQUAL, number, 0, 1)
        yield _instruction(_RETURN, answer)


def _refused_to_do(number: int, operations: Sequence[int], answer: int) -> Iterable[bytes]:
    yield _instruction(_JUMP_EQUAL, number, 0, 2 * len(operations) + 2)
    yield _instruction(_LOAD, _SECOND_ARGUMENT)
    yield from _refused(operations, answer)
    yield _instruction(_RETURN, _ALLOW)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


_sandboxes = {network: Sandbox(network=network) for network in (False, True)}


def sandbox(*, network: bool) -> Sandbox:
    """Return the sandbox of a program that reads a URL, or (without a network) files alone."""
    return _sandboxes[network]
