"""What the documents say of the code is so: tables are compared with what they are tables of, examples are tried."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from aiohttp import web

from router.config.loader import parse
from router.config.presets import PRESETS
from router.config.schema import PIN_FAMILIES
from router.events import Attempt, ExchangeEnded, Usage
from router.policy import price
from router.protocol import endpoints
from router.protocol.endpoints import Body, Endpoints
from router.protocol.realtime import REALTIME_SPEECH, RESPONSES_SPEECH
from router.telemetry.metrics import ENDPOINTS
from router.web import data
from tests.config.files import pem_files
from tests.sdk import anthropic_cases, openai_cases

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md", "config/README.md", "config/API.md", "config/ERRORS.md", "config/SETTINGS.md", "deploy/README.md",
    "deploy/OBSERVING.md", "deploy/METRICS.md", "deploy/COMMANDS.md", "deploy/RUNBOOK.md", "router/README.md",
    "tests/README.md",
)  # fmt: skip
API, CONFIGURING, OBSERVING = "config/API.md", "config/README.md", "deploy/OBSERVING.md"
FIVE_MINUTES = "## Two upstreams, keys and metrics in five minutes"
README_LINES_MAX = 300
"""A newcomer reads it in one go; what is longer stands in the other documents."""

WEB_LABELS = {
    "GET /v1/realtime": REALTIME_SPEECH.endpoint,
    "GET /v1/responses": RESPONSES_SPEECH.endpoint,
    "GET /v1/models": "models",
    "GET /v1/models/{id}": "models",
    "GET /health": "none",
}
"""Requests that the relay does not carry, and the label of each."""

BODIES = {Body.JSON: "JSON", Body.FORM: "form", Body.EITHER: "form or JSON", Body.CALL: "SDP or form"}


def section(document: str, title: str) -> str:
    """The text below a heading, up to the next one of its rank."""
    text, rank = (ROOT / document).read_text(), title.partition(" ")[0]
    assert f"\n{title}\n" in text, f"{document} has no {title}"
    return text.partition(f"\n{title}\n")[2].partition(f"\n{rank} ")[0]


def rows(document: str, title: str, first: str) -> Iterator[list[str]]:
    """The cells of a table below a heading: of the one whose head begins with `first`."""
    table = section(document, title).partition(f"\n| {first} |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def code(cell: str) -> list[str]:
    """What stands between back quotes."""
    return re.findall(r"`([^`]+)`", cell)


def carried() -> list[list[str]]:
    return [row for row in rows(API, "## What is carried", "request") if row[0].startswith("`")]


def requests_of_the_code() -> set[str]:
    """Every method and path that the relay and the aiohttp side know, `{id}` for any id."""
    stored: dict[str, Mapping[bytes, tuple[bytes, ...]]] = {
        "/responses": endpoints._STORED,
        "/videos": endpoints._STORED_VIDEO,
        "/realtime/calls": endpoints._STORED_CALL,
    }
    return {
        *(f"POST /v1{endpoint.path.decode()}" for endpoint in endpoints._ENDPOINTS),
        *("POST /rerank", "POST /v2/rerank"),
        *(
            f"{method.decode()} /v1{family}/{{id}}{action.decode()}"
            for family, kinds in stored.items()
            for action, methods in kinds.items()
            for method in methods
        ),
        *(f"/v1/{family}" for family in PIN_FAMILIES),
        *WEB_LABELS,
    }


def test_the_table_of_endpoints_is_that_of_the_code() -> None:
    """Every request that is carried or answered stands in exactly one row, and nothing else does."""
    written = [request for row in carried() for request in code(row[0])]
    assert len(set(written)) == len(written)
    assert set(written) == requests_of_the_code()


def test_the_aiohttp_side_has_no_other_paths() -> None:
    """What the router answers itself is what the table says: no route is forgotten there."""
    routes = {
        f"GET {resource.canonical}"
        for resource in data.build(object(), object()).router.resources()  # type: ignore[arg-type] # nothing is asked
        if isinstance(resource, web.PlainResource | web.DynamicResource)
    }
    bare = {route for route in routes if not route.startswith(("GET /v1/", "GET /health"))}
    assert bare == {route.replace("/v1", "") for route in routes if "/v1/" in route}, "each has its alias"
    assert routes - bare == set(WEB_LABELS)


@pytest.mark.parametrize("row", carried(), ids=lambda row: code(row[0])[0])
def test_a_row_says_how_it_is_carried(row: list[str]) -> None:
    """Label, way and body of a row are those of the endpoint that serves it."""
    requests, label, way, body = code(row[0]), row[1].strip("`"), row[2], row[3]
    for request in requests:
        if request in WEB_LABELS:
            assert (label, body) in {(WEB_LABELS[request], "none"), (WEB_LABELS[request], "WebSocket")}
            assert ("own" in way) is (body == "none")
            continue
        method, _, path = request.rpartition(" ")
        pins = dict.fromkeys(PIN_FAMILIES, "a")
        found = Endpoints(bare=False, unknown=False, pins=pins).find(
            method.encode() or b"GET", path.replace("{id}", "x").encode()
        )
        assert found is not None
        assert method.encode() in found.methods or found.pinned
        assert label == ("the first step" if found.pinned else found.name)
        assert ("pinned" in way) is bool(found.pinned)
        assert way.startswith("sticky") is bool(found.named_id)
        assert ("translated" in way) is found.view.endswith("+translated")
        assert body == BODIES.get(found.body, "none" if found.name == "responses" else "any")


@pytest.mark.parametrize("row", list(rows(API, "## What is carried", "request")), ids=lambda row: row[0][:40])
def test_a_row_names_tests_that_there_are(row: list[str]) -> None:
    """Every row is called by a real client, by this method of an SDK, or names the test that plays its bytes."""
    links = dict(re.findall(r"\[`(\w+)`\]\(([\w/.]+)\)", row[5]))
    methods = set(code(row[5])) - set(links)
    assert links or methods
    assert methods <= {call["method"] for call in (*openai_cases.CALLS, *anthropic_cases.CALLS)}
    for test, file in links.items():
        assert f"def {test}(" in (ROOT / "config" / file).read_text()


def test_labels_are_those_of_the_metrics() -> None:
    """What the table calls a label is one: no endpoint is folded into `other`."""
    labels = {label for row in carried() for label in code(row[1])} - {"none"}
    assert labels | set(PIN_FAMILIES) | {"other"} == ENDPOINTS


def test_the_table_of_the_log_is_that_of_the_code() -> None:
    """Every field of a request's line is explained, and so is no other."""
    fields = {field.encode_name for field in msgspec.structs.fields(ExchangeEnded)} | {"ts", "level", "event"}
    assert {name for row in rows(OBSERVING, "## The log", "field") for name in code(row[0])} == fields
    assert {"upstream", "cause", "status"} <= {field.name for field in msgspec.structs.fields(Attempt)}


def test_the_table_of_prices_is_that_of_the_code() -> None:
    """Everything that is counted has its row, and everything that can be priced."""
    table = list(rows(CONFIGURING, "## Tokens and money", "counted (in the log under `tokens`)"))
    counted = {field.name for field in msgspec.structs.fields(Usage)} - {"reasoning", "clamped"}
    assert {name for row in table for name in code(row[0])} == counted
    assert {name for row in table for name in code(row[1])} == {name[1:] for name in _PRICES}


_PRICES = {"_characters" if name == "_character" else name for name in price.PriceList.__slots__}


def test_every_preset_is_explained() -> None:
    """The table of presets names each of them once."""
    written = [name for row in rows(CONFIGURING, "## Upstreams of every kind", "preset") for name in code(row[0])]
    assert sorted(written) == sorted(PRESETS)


def test_the_first_configuration_is_good() -> None:
    """What a newcomer is told to write has no fault: the file that the shell makes of it is accepted."""
    written = section(CONFIGURING, "## Two upstreams, keys and metrics in five minutes").partition(
        "router.yaml <<EOF\n"
    )[2]
    text = re.sub(r"\$\(printf [^)]*\)", "0" * 64, written.partition("\nEOF\n")[0])
    loaded = parse(text, "f", directory=ROOT, environ={"OPENAI_API_KEY": "a", "OPENROUTER_API_KEY": "b"})
    assert set(loaded.config.upstreams) == {"openai", "openrouter"}


def test_an_upstream_behind_a_proxy_is_good(tmp_path: Path) -> None:
    """The upstream with a proxy and certificates is accepted, once its files are there."""
    pem_files(tmp_path, ca="partner-ca.pem", cert="client.pem", key="client.key")
    text = section(CONFIGURING, "## Upstreams of every kind").partition("```yaml\n")[2].partition("```")[0]
    environ = {"PARTNER_API_KEY": "a", "PROXY_PASSWORD": "b"}
    assert (
        parse(text + "models: {m: partner}\n", "f", directory=tmp_path, environ=environ)
        .config.upstreams["partner"]
        .proxy
    )


def test_the_tree_of_the_code_is_whole() -> None:
    """The tree names every module below its folder, and none that is not there."""
    written: set[str] = set()
    folders: list[str] = []
    for line in (ROOT / "router/README.md").read_text().partition("```\n")[2].partition("```")[0].splitlines():
        names = re.match(r"( *)((?:[\w.]+/|[\w.]+\.py)(?:, [\w.]+\.py)*)", line)
        if names is None or len(names[1]) > 10:  # what a long line of names means stands in the next
            continue
        folders = folders[: len(names[1]) // 2]
        if names[2].endswith("/"):
            folders.append(names[2])
        else:
            written.update("".join(folders) + name for name in names[2].split(", "))
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "router").rglob("*.py")}
    assert written == {path for path in modules if not path.endswith("__init__.py")}


def headings(document: Path) -> set[str]:
    """The names under which its sections are linked to."""
    titles = re.findall(r"(?m)^#+ (.+)$", document.read_text())
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_can_be_read_in_one_go() -> None:
    """It has no more than 300 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES_MAX


def test_the_configuration_in_the_readme_is_good() -> None:
    """The example that everybody copies has no fault."""
    text = section("README.md", "## Configuration").partition("```yaml\n")[2].partition("```")[0]
    environ = {"OPENAI_API_KEY": "a", "OPENROUTER_API_KEY": "b"}
    assert "team-search" in parse(text, "f", directory=ROOT, environ=environ).config.keys


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    """Every link is a file of the checkout, or a heading of one."""
    document = ROOT / name
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not heading or heading in headings(target), link
