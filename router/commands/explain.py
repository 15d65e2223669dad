"""`llm-router explain`: what would happen to a request, and why; sends nothing, changes nothing."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from router.commands.options import EX_NO, EX_USAGE, DaemonError, add_admin
from router.config.loader import load

if TYPE_CHECKING:
    import argparse

    from router.config.schema import Config, Secret
    from router.explain.facts import Asked, Explanation

NAME = "explain"
HELP = "what would happen to a request, and why"

BODY_BYTES_MAX = 64 * 1024 * 1024
"""Of a body; the router takes no more by default."""
TOKEN_BYTES_MAX = 16 * 1024


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    parser.usage = "llm-router explain MODEL [OPTION ...]"
    parser.description = (
        "What would happen to such a request, and why; sends nothing. Exit status 0: a member would be tried, 1: it"
        " would be refused."
    )
    parser.add_argument("model", metavar="MODEL", help="as the client writes it; - is the one in the body")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--key", metavar="NAME", default="", help="whose request it is")
    whose.add_argument("--key-file", type=Path, metavar="FILE", help="the same, by the secret that the client sends")
    parser.add_argument(
        "--endpoint", default="chat", metavar="NAME", help="messages, embeddings, … or a path; default: chat"
    )
    parser.add_argument("--body", metavar="FILE", help="the request's body; - reads standard input")
    parser.add_argument("--stream", action="store_true", help="it asks for a stream")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--running", action="store_true", help="ask the daemon, not the file; --admin does too")
    add_admin(parser)


def run(options: argparse.Namespace) -> int:
    """Explain."""
    from router.commands import explain_text  # noqa: PLC0415 (as below)
    from router.explain.answer import BadQuestion  # noqa: PLC0415 (it takes what the daemon takes to load)

    try:
        asked = _asked(options)
        live = options.running or options.admin is not None
        answer = _of_daemon(options, asked) if live else _of_file(options.config, asked)
    except BadQuestion as error:
        raise DaemonError(
            "this cannot be explained", str(error), "see llm-router explain --help", exit_status=EX_USAGE
        ) from None
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
    else:
        explain_text.write(answer, sys.stdout)
    return 0 if answer.outlook.served else EX_NO


def _asked(options: argparse.Namespace) -> Asked:
    from router.explain.facts import Asked  # noqa: PLC0415 (as above)

    digest = ""
    if options.key_file is not None:
        digest = hashlib.sha256(_read(options.key_file, TOKEN_BYTES_MAX).strip()).hexdigest()
    return Asked(
        model="" if options.model == "-" else options.model,
        key=options.key,
        key_sha256=digest,
        endpoint=options.endpoint,
        body=msgspec.Raw(b"null") if options.body is None else _quoted(_body(options.body)),
        stream=options.stream,
    )


def _quoted(body: bytes) -> msgspec.Raw:
    """Write a body as a JSON string, which keeps every byte of it."""
    from router.explain.answer import BadQuestion  # noqa: PLC0415 (as above)

    if len(body) > BODY_BYTES_MAX:
        raise BadQuestion(f"the body is larger than {BODY_BYTES_MAX} bytes")
    try:
        return msgspec.Raw(msgspec.json.encode(body.decode()))
    except UnicodeDecodeError:  # then it is no JSON either
        raise BadQuestion("the body is not UTF-8 text") from None


def _body(name: str) -> bytes:
    return sys.stdin.buffer.read(BODY_BYTES_MAX + 1) if name == "-" else _read(Path(name), BODY_BYTES_MAX + 1)


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(bytes_max)
    except OSError as error:
        raise DaemonError(
            f"{path} cannot be read", error.strerror or str(error), "name a file that can", exit_status=EX_USAGE
        ) from None


def _of_file(path: Path, asked: Asked) -> Explanation:
    from router.explain.answer import explain, fresh  # noqa: PLC0415 (as above)

    config = load(path, environ=None).config
    now = time.monotonic()
    return explain(fresh(config, _known(config, path) if asked.key_sha256 else {}, now), asked, now)


def _known(config: Config, path: Path) -> dict[Secret, str]:
    """The secrets of keys that can be looked up here: no others can be told from what a client sends."""
    from router.config import secrets  # noqa: PLC0415 (as above)
    from router.config.sources import Sources  # noqa: PLC0415 (as above)

    found = {}
    for key in config.keys.values():
        if key.secret.sha256 is not None:
            continue
        try:
            found[key.secret] = secrets.resolve(
                key.secret, directory=path.absolute().parent, environ=os.environ, sources=Sources()
            )
        except secrets.Unresolved as error:
            print(f"not compared: {error}", file=sys.stderr)
    return found


def _of_daemon(options: argparse.Namespace, asked: Asked) -> Explanation:
    from router.commands.daemon import Daemon  # noqa: PLC0415 (as above)
    from router.explain.answer import BadQuestion  # noqa: PLC0415 (as above)
    from router.explain.facts import Explanation  # noqa: PLC0415 (as above)

    daemon = Daemon.find(options)
    status, answer = daemon.post("/-/explain", asked)
    if status == 413:
        raise BadQuestion("the daemon takes no question of more than 1 MiB; ask about its file")
    if status == 400:
        raise BadQuestion(_message(answer))
    try:
        if status == 200:
            return msgspec.convert(answer, Explanation)
        why = f"it answered {status}: {_message(answer)}"
    except msgspec.ValidationError as error:
        why = f"its answer is not understood: {error}"
    raise DaemonError(
        f"the daemon at {daemon.place} does not explain", why, "is it of the same version as this program?"
    )


def _message(answer: Any) -> str:
    try:
        return str(answer["error"]["message"])
    except (LookupError, TypeError):
        return ""
