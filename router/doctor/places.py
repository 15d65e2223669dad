"""Where the router will listen: whether each address is free, or held by a router that runs already."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from router.config import addresses

if TYPE_CHECKING:
    from router.config.schema import Config, Listener
    from router.doctor.findings import Notes

_HEALTH: Final = {"listen": "/health", "admin": "/healthz"}
"""What a running router answers for, on each kind of listener."""

_NEAR: Final = {None: "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (asked, not bound)
_ANSWER_BYTES_MAX: Final = 16 * 1024


async def examine(notes: Notes, config: Config, timeout_s: float) -> None:
    """Try every address of `listen` and `admin`. Nothing listens there for it, so no client is let in by mistake."""
    for setting in ("listen", "admin"):
        for listener in getattr(config, setting):
            await _examine(notes, setting, listener, timeout_s)


async def _examine(notes: Notes, setting: str, listener: Listener, timeout_s: float) -> None:
    where = listener.address
    check = f"{setting} {where}"
    path = addresses.unix_path(where)
    try:
        async with asyncio.timeout(timeout_s):
            problem = await (_bound(*addresses.address(where)) if path is None else asyncio.to_thread(_claimed, path))
    except TimeoutError:
        notes.fail(check, f"its host was not resolved within {timeout_s:g} s", f"give an address under {setting}")
        return
    if problem is None:
        notes.ok(check, "free")
    elif problem.errno == errno.EADDRINUSE:
        if await _is_router(listener, _HEALTH[setting], timeout_s):
            notes.ok(check, "held by a router that runs and is well")
        else:
            who = "ss -xlp" if path is not None else f"ss -ltnp sport = :{addresses.address(where)[1]}"
            notes.fail(check, "held by something that is no router of ours", f"stop that ({who}), or change {setting}")
    elif problem.errno in {errno.EACCES, errno.EPERM}:
        cure = "below 1024 it needs CAP_NET_BIND_SERVICE (deploy/ has units with it)" if path is None else (
            f"let the router write to the folder of {path}"
        )  # fmt: skip
        notes.fail(check, f"this user may not listen there: {problem.strerror}", cure)
    else:
        notes.fail(check, problem.strerror or str(problem), f"is it an address of this machine? see {setting}")


async def _bound(host: str | None, port: int) -> OSError | None:
    """Bind to an address without listening, as servers do; why that cannot be."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        return error
    for family, kind, protocol, _, at in found:
        with contextlib.ExitStack() as stack:
            try:
                each = stack.enter_context(socket.socket(family, kind, protocol))
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                each.bind(at)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:  # a machine without IPv6 has none of every interface's
                    return error
    return None


def _claimed(path: str) -> OSError | None:
    """Whether a unix socket can be made there: nobody answers where it will be, and its folder is ours to write to."""
    with socket.socket(socket.AF_UNIX) as each:
        each.settimeout(1)
        try:
            each.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):  # not there, or left behind: the router replaces it
            folder = Path(path).parent
            if not folder.is_dir():
                return FileNotFoundError(errno.ENOENT, f"there is no folder {folder}")
            return None if os.access(folder, os.W_OK | os.X_OK) else PermissionError(errno.EACCES, "not writable")
        except OSError as error:
            return error
    return OSError(errno.EADDRINUSE, "in use")


async def _is_router(listener: Listener, path: str, timeout_s: float) -> bool:
    """Ask who answers there whether it is one of ours, and well."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _opened(listener)
            try:
                writer.write(request)
                answer = await reader.read(_ANSWER_BYTES_MAX)
                while len(answer) < _ANSWER_BYTES_MAX and (more := await reader.read(_ANSWER_BYTES_MAX)):
                    answer += more
            finally:
                writer.transport.abort()
    except OSError:  # TimeoutError and TLS errors are such
        return False
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.startswith(b"HTTP/1.1 200 ") and body.replace(b" ", b"").startswith(b'{"status":"ok"')


async def _opened(listener: Listener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    file = addresses.unix_path(listener.address)
    tls = None
    if listener.tls is not None:  # it is not trusted with anything, so it need not prove who it is
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        if listener.tls.client_ca is not None:
            tls.load_cert_chain(listener.tls.cert, listener.tls.key, password="")
    if file is not None:
        return await asyncio.open_unix_connection(file, ssl=tls, server_hostname="localhost" if tls else None)
    host, port = addresses.address(listener.address)
    return await asyncio.open_connection(_NEAR.get(host, host), port, ssl=tls)
