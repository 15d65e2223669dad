"""`config/router.yaml` is the twin of the schema: this compares them."""

from __future__ import annotations

import inspect
import re
import typing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from router.config import schema
from router.config.loader import parse
from router.config.presets import PRESETS
from router.config.schema import Config, Settings
from router.config.yaml_nodes import Mapping, Node, compose
from tests.config.files import TWIN, pem_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT = TWIN.read_text()
WHOLE = re.sub(r'(?m)^( *)#(?=[a-z"-])', r"\1", TEXT)
"""The twin with every setting in effect that is commented out: `#name: value`. A remark begins with `# `."""

EVERY = [kind for kind in vars(schema).values() if isinstance(kind, type) and issubclass(kind, Settings)][1:]


def structs(kind: Any) -> Iterator[type[Settings]]:
    """The struct, if any, that a type of the schema holds."""
    if inspect.isclass(kind) and issubclass(kind, Settings):
        yield kind
    for argument in typing.get_args(kind):
        yield from structs(argument)


def written(node: Node, kind: type[Settings]) -> Iterator[tuple[type[Settings], str, int]]:
    """Every setting that stands in a tree: the struct it belongs to, its name, and its line."""
    if not isinstance(node, Mapping):
        return
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, entry in node.entries.items():
        yield kind, name, entry.mark.line
        for inner in structs(fields[name].type):
            children = [entry.node]
            if typing.get_origin(fields[name].type) is dict:
                assert isinstance(entry.node, Mapping)
                children = [child.node for child in entry.node.entries.values()]
            elif not isinstance(entry.node, Mapping):
                children = getattr(entry.node, "items", [])
            for child in children:
                yield from written(child, inner)


def test_every_setting_stands_in_the_twin() -> None:
    """No struct has a field that `config/router.yaml` does not show, in effect or commented out."""
    shown = {(kind, name) for kind, name, _ in written(compose(WHOLE), Config)}
    everything = {(kind, field.name) for kind in EVERY for field in msgspec.structs.fields(kind)}
    assert everything - shown == set()


def test_what_is_in_effect_equals_the_defaults() -> None:
    """The twin without its required entries is the default configuration, so that any of it may be left out."""
    config = parse(TEXT, TWIN.name, directory=TWIN.parent, environ={}).config
    for value in defaulted(config):
        required = {field.name: None for field in msgspec.structs.fields(type(value)) if field.required}
        kept = {name: getattr(value, name) for name in required}
        assert value == type(value)(**kept)


def defaulted(value: Any) -> Iterator[Settings]:
    """Every struct in a configuration."""
    if isinstance(value, Settings):
        yield value
        value = msgspec.structs.asdict(value)
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ():
        yield from defaulted(each)


@pytest.fixture
def whole(tmp_path: Path) -> Config:
    """The whole twin, with the files and secrets that its examples refer to."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra [otel] is not installed")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "first").write_text("1")
    (tmp_path / "second").write_text("2")
    (tmp_path / "secrets" / "proxy").write_text("Bearer 3")
    (tmp_path / "spool").mkdir()
    (tmp_path / "keys.yaml").touch()
    (tmp_path / "teams").mkdir()
    (tmp_path / "secrets" / "admin").write_text("4")
    pem_files(tmp_path, ca="authorities.pem", cert="client.pem", key="client.key")
    pem_files(tmp_path, ca="clients.pem", cert="tls.crt", key="tls.key")
    environ = {name: name for name in ("HOSTED_API_KEY", "AZURE_API_KEY", "PROXY_PASSWORD", "TEAM_CHAT_KEY")}
    environ["COLLECTOR_AUTHORIZATION"] = "Bearer 4"
    environ["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    return parse(WHOLE, TWIN.name, directory=tmp_path, environ=environ).config


def test_what_is_commented_out_shows_its_default(whole: Config) -> None:
    """A commented line whose setting has a plain default shows that default; where there is none, an example."""
    pace = whole.upstreams["hosted"].pace
    assert pace is not None
    assert (pace.per, pace.wait) == (
        schema.Pace(requests=schema.Count(1)).per,
        schema.Pace(requests=schema.Count(1)).wait,
    )
    key = whole.keys["team-search"]
    assert (key.models, key.disabled) == (("*",), False)
    model = whole.models["*"]
    for overrides in (whole.upstreams["hosted"].timeouts, model.timeouts):
        assert msgspec.structs.asdict(overrides) == msgspec.structs.asdict(schema.Timeouts())
    assert model.choose == schema.Defaults().choose
    assert model.default_output_tokens == schema.Defaults().default_output_tokens
    hosted = whole.upstreams["hosted"]
    assert (hosted.auth, hosted.protocol) == (schema.Auth.BEARER, schema.Protocol.OPENAI)
    assert hosted.expose_errors is False
    assert whole.tracing is not None
    assert whole.tracing.sample == schema.Tracing(endpoint="").sample
    assert whole.tracing.service_name == schema.Tracing(endpoint="").service_name


def test_the_example_of_a_preset_shows_what_it_fills_in(whole: Config) -> None:
    """What stands beside a preset is what the preset gives, so that one sees where to change it."""
    azure = whole.upstreams["azure-eu"]
    assert azure.preset is not None
    given = PRESETS[azure.preset]
    assert (azure.path, list(azure.path_for), azure.query) == (given["path"], given["path_for"], given["query"])


def test_the_twin_names_every_preset_family_and_endpoint() -> None:
    """Where the schema takes only certain names, the remark above lists them all."""
    remarks = re.sub(r"\s*#\s*", " ", TEXT)
    assert f"One of {', '.join(PRESETS)}." in remarks
    assert f"upstream that has it: {', '.join(schema.PIN_FAMILIES)}." in remarks
    assert f"need not name one: of {', '.join(schema.MODEL_OPTIONAL)}." in remarks
    assert f"stands for {', '.join(schema.PASSING_HEADERS[:-1])} and {schema.PASSING_HEADERS[-1]}." in remarks


def test_the_whole_twin_is_a_configuration(whole: Config) -> None:
    """With every commented line in effect it still loads: the examples are right, and fit together."""
    assert set(whole.upstreams) == {"local", "azure-eu", "hosted", "two-accounts"}


def test_every_line_of_the_twin_is_a_remark_or_a_setting() -> None:
    """Nothing in the twin hides from these tests, and no line is wider than a screen."""
    for line in TEXT.splitlines():
        assert len(line) <= 120, line
        assert re.fullmatch(r'|#|# .*| *# .*| *#?(- )?[a-z"*][^#]*', line), line


def test_every_setting_is_introduced() -> None:
    """Each struct says in its docstring what it is."""
    assert all(kind.__doc__ for kind in EVERY)
