"""Having a configuration examined, and looking at what was found."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import yaml

from router.doctor.examination import examine
from router.doctor.findings import Finding, Notes, Result
from tests.harness import answers, chat
from tests.harness.router import ENVIRON
from tests.harness.upstream import json_answer

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from tests.harness.upstream import Script

PATIENCE_S = 10.0
"""For a step that is to succeed, on however loaded a machine."""
SOON_S = 2.5
"""For a step that is to run into its time limit; on loopback all others are long done by then."""

ONE_KEY = {"env": "UPSTREAM_SECRET"}


def list_of(*models: str) -> Script:
    """An answer with a list of models as OpenAI writes it."""
    return json_answer(json.dumps(answers.models(*models)).encode())


def serving(base_url: str, **upstream: Any) -> dict[str, Any]:
    """A configuration with one upstream, `first`, that serves `m`."""
    return {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "upstreams": {"first": {"base_url": base_url} | upstream},
        "models": {"m": "first"},
    }


async def examined(
    folder: Path,
    settings: dict[str, Any] | str,
    *,
    only: Collection[str] = ("first",),
    is_deep: bool = False,
    timeout_s: float = PATIENCE_S,
    room: int = sys.maxsize,
) -> list[Finding]:
    """Write the file, examine it; no secret may be in anything that was found."""
    path = folder / "router.yaml"
    path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
    found: list[Finding] = []
    await examine(path, ENVIRON, found.extend, only=only, is_deep=is_deep, timeout_s=timeout_s, room=room)
    for each in found:
        text = f"{each.subject} {each.check} {each.found} {each.cure}"
        assert text.isprintable(), text
        assert len(text) < 1000, text
        assert not any(secret in text for secret in ENVIRON.values()), text
    return found


def about(found: list[Finding], check: str, subject: str = "first") -> Finding:
    """The one finding of this name."""
    [finding] = [each for each in found if (each.subject, each.check) == (subject, check)]
    return finding


def results(found: list[Finding] | Notes, subject: str = "first") -> list[tuple[str, str]]:
    """What was looked at and how it is, in order."""
    findings = found.findings if isinstance(found, Notes) else found
    return [(each.check, str(each.result)) for each in findings if each.subject == subject]


def only_one(notes: Notes) -> tuple[Result, str, str]:
    """The result, the words and the cure of the only finding there is."""
    [finding] = notes.findings
    assert finding.cure if finding.result is not Result.OK else not finding.cure
    return finding.result, finding.found, finding.cure


CONTENT_TYPE_HTML = "content-type: text/html"
JSON = chat.CONTENT_TYPE_JSON
