"""LiteLLM's files, whole: what becomes of each kind of setting, and that none is lost, whatever stands in them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.config import yaml_nodes
from router.config.presets import PRESETS
from router.migrate import litellm_reasons
from router.migrate.account import Fate
from router.migrate.litellm_providers import PROVIDERS
from tests.migrate.importing import Imported, of_litellm

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "sk-never-to-be-seen"

RICH: dict[str, Any] = {
    "model_list": [
        {
            "model_name": "gpt-4o",
            "litellm_params": {
                "model": "azure/eu-gpt4o", "api_base": "https://eu.openai.azure.com/", "api_version": "2024-06-01",
                "api_key": "os.environ/AZURE_EU_KEY", "rpm": 600, "tpm": 100_000, "max_parallel_requests": 20,
                "weight": 3, "order": 1, "timeout": 45, "stream_timeout": 20, "organization": "org-1",
                "extra_headers": {"x-team": "blue"}, "additional_drop_params": ["logit_bias"],
                "input_cost_per_token": 2.5e-6, "output_cost_per_token": "1e-05",
            },
            "model_info": {"cache_read_input_token_cost": 0.00000125},
        },
        {
            "model_name": "gpt-4o",
            "litellm_params": {"model": "gpt-4o", "api_key": "os.environ/OPENAI", "weight": 2, "order": 1},
        },
        {
            "model_name": "claude",
            "litellm_params": {"model": "anthropic/claude-sonnet-4-6", "api_key": "os.environ/CLAUDE"},
        },
        {
            "model_name": "qwen",
            "litellm_params": {"model": "hosted_vllm/Qwen/Qwen3", "api_base": "http://10.0.0.5:8000/v1"},
        },
    ],
    "router_settings": {
        "routing_strategy": "least-busy", "num_retries": 4, "timeout": 90, "stream_timeout": 30, "allowed_fails": 6,
        "cooldown_time": 40, "model_group_alias": {"smart": "claude"}, "fallbacks": [{"gpt-4o": ["claude"]}],
        "default_fallbacks": ["gpt-4o"],
    },
    "general_settings": {"master_key": "os.environ/MASTER", "max_request_size_mb": 12},
}  # fmt: skip
"""Every setting that is carried, none as it would be by itself."""


def one(params: dict[str, Any] | str, info: dict[str, Any] | None = None, **sections: Any) -> Imported:
    """A file with one model named `m`; of a text, that is its `model`."""
    params = {"model": params} if isinstance(params, str) else params
    entry = {"model_name": "m", "litellm_params": params} | ({"model_info": info} if info else {})
    return of_litellm({"model_list": [entry]} | sections)


def group(*params: dict[str, Any], **sections: Any) -> Imported:
    """A file in which all these serve the model `m`."""
    entries = [{"model_name": "m", "litellm_params": each} for each in params]
    return of_litellm({"model_list": entries} | sections)


def upstream(made: Imported) -> dict[str, Any]:
    (only,) = made.settings["upstreams"].values()
    assert made.faults == ()
    return dict(only)


def leaves(node: yaml_nodes.Node, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every single value of a file."""
    if isinstance(node, yaml_nodes.Mapping):
        for name, entry in node.entries.items():
            yield from leaves(entry.node, (*path, name))
    elif isinstance(node, yaml_nodes.Sequence):
        for index, item in enumerate(node.items):
            yield from leaves(item, (*path, index))
    elif node.value is not None:
        yield path


def assert_sound(text: str, made: Imported) -> None:
    """No setting is lost, what comes of it is a good file, and the secret is nowhere."""
    for path in leaves(yaml_nodes.compose(text)):
        assert made.account.fate(path) is not None, path
    if made.draft.models:
        assert made.faults == ()
    told = [line for fate in Fate for line in made.account.lines(fate)]
    assert SECRET not in "".join((made.text, *told))


# Whole files


def test_every_setting_that_is_carried_takes_effect() -> None:
    """Of a file that is carried whole, taking any one setting out changes what comes of it: none is only called so."""
    whole = of_litellm(RICH)
    assert (whole.left, whole.faults) == ({}, ())
    text = yaml.safe_dump(RICH, sort_keys=False)
    for path in leaves(yaml_nodes.compose(text)):
        without = copy.deepcopy(RICH)
        parent: Any = without
        for step in path[:-1]:
            parent = parent[step]
        del parent[path[-1]]
        assert of_litellm(without).settings != whole.settings, path


def test_a_whole_file_becomes_what_it_says() -> None:
    """The file above, as it is written here."""
    settings = of_litellm(RICH).settings
    assert settings["listen"] == ":4000"
    assert settings["upstreams"]["azure-eu"] == {
        "preset": "azure-dated",
        "base_url": "https://eu.openai.azure.com/openai",
        "api_key": {"env": "AZURE_EU_KEY"},
        "query": {"api-version": "2024-06-01"},
        "limits": {"requests_per_minute": 600, "tokens_per_minute": "100k", "concurrency": 20},
        "timeouts": {"first_byte": "45s", "idle": "45s", "first_token": "20s"},
        "headers": {"set": {"openai-organization": "org-1", "x-team": "blue"}},
        "drop_params": ["logit_bias"],
    }
    assert settings["upstreams"]["hosted_vllm-10.0.0.5-8000"] == {
        "preset": "vllm",
        "base_url": "http://10.0.0.5:8000/v1",
    }
    assert settings["models"]["gpt-4o"] == {
        "pool": [
            {"upstream": "azure-eu", "model": "eu-gpt4o", "weight": 3},
            {"upstream": "openai", "weight": 2},
        ],
        "translate": True,
        "price": {"input": 2.5, "output": 10, "cached_input": 1.25},
        "fallback": ["claude"],
    }
    assert settings["models"]["smart"]["pool"] == [{"upstream": "anthropic", "model": "claude-sonnet-4-6"}]
    assert settings["models"]["qwen"]["fallback"] == ["gpt-4o"]
    assert settings["defaults"] == {
        "choose": "least_in_flight",
        "retry": {"attempts": 5},
        "timeouts": {"first_byte": "1m30s", "first_token": "30s", "idle": "1m30s"},
        "ejection": {"consecutive": 7, "eject": "40s"},
    }
    assert settings["keys"] == {"master": {"secret": {"env": "MASTER"}}}
    assert settings["requests"] == {"body_max": "12MiB"}


NAMES = st.sampled_from([
    "model_list", "router_settings", "litellm_settings", "general_settings", "environment_variables", "model_name",
    "litellm_params", "model_info", "model", "api_key", "api_base", "fallbacks", "a\x1bb", "", "x" * 300,
    *litellm_reasons.SECTIONS, *litellm_reasons.PARAMS, *litellm_reasons.ROUTER, *litellm_reasons.GENERAL,
])  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["openai/gpt-4o", "os.environ/X", "os.environ/" + SECRET, "*", "azure/a", "http://h/v1"]),
)  # fmt: skip
TREES = st.recursive(
    VALUES, lambda below: st.lists(below, max_size=4) | st.dictionaries(NAMES, below, max_size=4), max_leaves=30
)


@given(TREES)
def test_any_file_is_accounted_for(tree: Any) -> None:
    """Whatever a file holds, no setting of it is lost, no secret shows, and nothing breaks."""
    text = yaml.safe_dump(tree, allow_unicode=True)
    try:
        yaml_nodes.compose(text)
    except yaml_nodes.SyntaxFault:
        return
    assert_sound(text, of_litellm(text, {"X": "x"}))


MODELS = st.sampled_from([
    *(f"{provider}/{target}" for provider in (*PROVIDERS, "bedrock") for target in ("m", "a/b", "*")),
    "gpt-4o", "claude-3", "mystery", "*", "ft:gpt-4o:x", "",
])  # fmt: skip
BASES = st.sampled_from([
    None, "https://x.openai.azure.com", "http://127.0.0.1:4000", "http://127.0.0.1:9464/v1", "http://10.0.0.1:8000/v1",
    "https://api.anthropic.com/v1/messages", "os.environ/SET", "os.environ/UNSET", "h", "http://u:p@h/", "http://h/?a=b",
    "http://h/{1..9}", "http://[::1]:8080/v1", "https://x.openai.azure.com/openai/deployments/d",
])  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-2, 3), st.floats(), st.sampled_from(["600", "1e-6", "x", 10**30, 0.5, "os.environ/SET"])
)
PARAMS = st.fixed_dictionaries(
    {"model": MODELS},
    optional={
        "api_base": BASES,
        "api_key": st.sampled_from([SECRET, "os.environ/K1", "os.environ/K2", "none", "EMPTY", "", "os.environ/a b"]),
        "api_version": st.sampled_from(["2024-06-01", "preview", "v1", ""]),
        "extra_headers": st.dictionaries(
            st.sampled_from(["x-a", "X-A", "authorization", "host", "api-token", "b\nc", "openai-organization"]),
            st.sampled_from(["v", "", " v", "a\nb", "é", "日", "os.environ/SET"]), max_size=3,
        ),
        "organization": st.sampled_from(["org", "", "os.environ/UNSET"]),
        "additional_drop_params": st.lists(st.sampled_from(["user", "model", "a.b", "store"]), max_size=3),
        "drop_params": st.sampled_from([True, False, "x"]),
        **dict.fromkeys(
            ["rpm", "tpm", "max_parallel_requests", "weight", "order", "timeout", "stream_timeout",
             "input_cost_per_token", "output_cost_per_image", "cost_per_second", "temperature"], NUMBERS,
        ),
    },
)  # fmt: skip
GROUPS = st.sampled_from(["m", "n", "*", "gpt-*", "openai/*", "", "x" * 200, " s"])
REFERENCES = st.lists(st.dictionaries(GROUPS, st.lists(GROUPS, max_size=2), max_size=2), max_size=3)
ROUTER_SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "fallbacks": REFERENCES,
        "default_fallbacks": st.lists(GROUPS, max_size=2),
        "model_group_alias": st.dictionaries(
            st.sampled_from(["m", "alias", "other", "", "a*"]),
            st.one_of(GROUPS, st.fixed_dictionaries({"model": GROUPS, "hidden": st.booleans()})), max_size=2,
        ),
        "routing_strategy": st.sampled_from(["simple-shuffle", "least-busy", "latency-based-routing", 3]),
        **dict.fromkeys(["num_retries", "timeout", "request_timeout", "allowed_fails", "cooldown_time"], NUMBERS),
    },
)  # fmt: skip
FILES = st.fixed_dictionaries(
    {
        "model_list": st.lists(
            st.fixed_dictionaries(
                {"model_name": GROUPS, "litellm_params": PARAMS},
                optional={"model_info": st.dictionaries(st.sampled_from(["id", "input_cost_per_token"]), NUMBERS)},
            ),
            min_size=1, max_size=6,
        )
    },
    optional={
        "router_settings": ROUTER_SETTINGS,
        "litellm_settings": ROUTER_SETTINGS,
        "general_settings": st.fixed_dictionaries(
            {}, optional={"master_key": st.sampled_from([SECRET, "os.environ/K1", ""]), "max_request_size_mb": NUMBERS}
        ),
        "environment_variables": st.just({"SET": "60", "K1": SECRET}),
    },
)  # fmt: skip


@given(FILES)
def test_what_comes_of_a_file_is_good(tree: dict[str, Any]) -> None:
    """A file of LiteLLM's kind, with right and wrong values, becomes a file that `check` finds good."""
    text = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)
    assert_sound(text, of_litellm(text, {"SET": "60"}))


# Where requests go


@pytest.mark.parametrize(("provider", "kind"), PROVIDERS.items())
def test_a_provider_becomes_an_upstream(provider: str, kind: Any) -> None:
    """Every provider of the table can be carried, by its preset or its address, with the variable LiteLLM reads."""
    base = {"api_base": "https://h.example"}
    given = {} if kind.base_url or (kind.preset and "base_url" in PRESETS[kind.preset]) else base
    found = upstream(one({"model": f"{provider}/some", **given}))
    assert found.get("preset") == kind.preset
    assert found.get("api_key") == ({"env": kind.variable} if kind.variable else None)
    if not given and not kind.preset:
        assert found["base_url"] == kind.base_url


def test_a_provider_may_be_known_by_the_name_of_a_model() -> None:
    """Names of OpenAI's and Anthropic's need no provider before them; others are told to name it."""
    assert upstream(one("gpt-4o"))["preset"] == upstream(one("ft:gpt-4o:x"))["preset"] == "openai"
    assert upstream(one("claude-sonnet-4-6"))["preset"] == "anthropic"
    assert upstream(one({"model": "llama-3", "custom_llm_provider": "groq"}))["preset"] == "groq"
    assert "provider/model" in one("mystery").left["model_list[0]"]
    made = one("bedrock/claude")
    assert "bedrock" in made.left["model_list[0]"]
    assert made.draft.models == {}


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("openai/m", "http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        ("anthropic/m", "https://proxy.example", "https://proxy.example/v1"),
        ("anthropic/m", "https://proxy.example/v1/messages", "https://proxy.example/v1"),
        ("ollama_chat/m", "http://10.0.0.7:11434", "http://10.0.0.7:11434/v1"),
        ("azure/m", "https://a.openai.azure.com/openai/", "https://a.openai.azure.com/openai"),
        ("azure/m", "https://a.openai.azure.com/openai/v1/", "https://a.openai.azure.com/openai/v1"),
    ],
)
def test_an_address_is_that_of_our_v1(model: str, given: str, expected: str) -> None:
    """What LiteLLM adds to an address by itself stands in ours."""
    assert upstream(one({"model": model, "api_base": given}))["base_url"] == expected


def test_azure_is_asked_by_date_or_by_v1() -> None:
    """`api_version` says which of Azure's faces it is."""
    base = {"model": "azure/d", "api_base": "https://a.openai.azure.com"}
    assert upstream(one(base | {"api_version": "2024-10-21"}))["preset"] == "azure-dated"
    found = upstream(one(base | {"api_version": "preview"}))
    assert (found["preset"], found["query"]) == ("azure", {"api-version": "preview"})
    assert "query" not in upstream(one(base | {"api_version": "v1"}))
    assert "give api_base" in one("azure/d").left["model_list[0]"]
    assert "route" in one(base | {"model": "azure/o_series/d"}).left["model_list[0]"]


def test_an_address_may_stand_in_the_environment() -> None:
    """It is looked up while importing, in the file's own variables too; where it is not set, that is told."""
    entry = {"model_name": "m", "litellm_params": {"model": "hosted_vllm/q", "api_base": "os.environ/WHERE"}}
    assert "set WHERE" in of_litellm({"model_list": [entry]}).left["model_list[0]"]
    made = of_litellm({"model_list": [entry]}, {"WHERE": "http://10.1.1.1:8000/v1"})
    assert upstream(made)["base_url"] == "http://10.1.1.1:8000/v1"
    variables = {"WHERE": "http://10.2.2.2:8000/v1"}
    made = of_litellm({"model_list": [entry], "environment_variables": variables})
    assert upstream(made)["base_url"] == "http://10.2.2.2:8000/v1"
    assert "environment_variables.WHERE" in made.left


def test_a_pattern_keeps_the_name_that_the_client_wrote() -> None:
    """Patterns whose names are the same on both sides are carried; where LiteLLM would rewrite them, that is told."""
    for name, model in (("*", "openai/*"), ("gpt-*", "openai/gpt-*"), ("openai/*", "openrouter/openai/*")):
        made = of_litellm({"model_list": [{"model_name": name, "litellm_params": {"model": model}}]})
        assert (list(made.settings["models"]), made.left) == ([name], {})
    made = of_litellm({"model_list": [{"model_name": "openai/*", "litellm_params": {"model": "openai/*"}}]})
    assert "one by one" in made.left["model_list[0]"]
    made = of_litellm({"model_list": [{"model_name": "*", "litellm_params": {"model": "openai/gpt-4o"}}]})
    assert made.settings["models"]["*"]["pool"] == [{"upstream": "openai", "model": "gpt-4o"}]


# Credentials


def test_a_secret_in_the_file_becomes_a_reference() -> None:
    """Neither file nor remarks hold it; the variable that is to have it is named, one for each secret."""
    made = group(
        {"model": "openai/a", "api_key": SECRET},
        {"model": "openai/b", "api_key": SECRET},
        {"model": "openai/c", "api_key": "sk-another"},
        general_settings={"master_key": SECRET},
    )
    assert_sound("", made)
    assert [each["api_key"]["env"] for each in made.settings["upstreams"].values()] == [
        "ROUTER_OPENAI_KEY",
        "ROUTER_OPENAI_KEY_2",
    ]
    assert "ROUTER_OPENAI_KEY " in made.changed["model_list[1].litellm_params.api_key"]
    assert "LITELLM_MASTER_KEY" in made.changed["general_settings.master_key"]
    assert made.left == {}


def test_a_variable_that_the_file_names_is_not_taken_for_a_secret() -> None:
    """The name that is made up for a secret is none that stands in the file."""
    made = group(
        {"model": "openai/a", "api_key": SECRET}, {"model": "openai/b", "api_key": "os.environ/ROUTER_OPENAI_KEY"}
    )
    assert sorted(made.draft.environment()) == ["ROUTER_OPENAI_KEY", "ROUTER_OPENAI_KEY_2"]


def test_what_is_no_credential_is_not_sent() -> None:
    """`EMPTY` for a server that wants none is no secret; and OpenAI's key goes to nobody else's address."""
    base = {"model": "hosted_vllm/q", "api_base": "http://10.0.0.1:8000/v1"}
    assert "api_key" not in upstream(one(base | {"api_key": "EMPTY"}))
    made = one(base | {"model": "openai/q"})
    assert "api_key" not in upstream(made)
    assert "OPENAI_API_KEY" in made.changed["model_list[0].model_name"]
    assert upstream(one({"model": "groq/q", "api_key": "none"}))["api_key"] == {"env": "ROUTER_GROQ_KEY"}


def test_a_reference_that_is_none_is_not_repeated() -> None:
    """What stands behind `os.environ/` and is no name of a variable may be a secret."""
    made = one({"model": "gpt-4o", "api_key": f"os.environ/{SECRET}"})
    assert "not the name of a variable" in made.left["model_list[0]"]
    assert_sound("", made)


def test_a_header_that_may_be_a_credential_is_not_copied() -> None:
    """Headers are carried but for those whose names say that they hold a secret, or that are the router's."""
    headers = {"x-team": "blue", "x-api-token": SECRET, "Authorization": f"Bearer {SECRET}", "host": "h"}
    made = one({"model": "gpt-4o", "extra_headers": headers})
    assert upstream(made)["headers"] == {"set": {"x-team": "blue"}}
    assert len(made.left) == 3
    assert_sound("", made)


def test_without_a_master_key_only_this_machine_is_served() -> None:
    """LiteLLM without a key serves everybody; the router then listens on a loopback address."""
    assert one("gpt-4o").settings["listen"] == "127.0.0.1:4000"
    made = one({"model": "litellm_proxy/m", "api_base": "http://127.0.0.1:4000"})
    assert made.settings["listen"] == "127.0.0.1:4001"


# Upstreams and pools


def test_deployments_that_agree_share_an_upstream() -> None:
    """One provider, address and credential is one upstream, unless limits are those of one model."""
    base = {"api_key": "os.environ/K"}
    made = group({"model": "openai/a", **base}, {"model": "openai/b", **base}, {"model": "openai/a", "rpm": 5, **base})
    assert list(made.settings["upstreams"]) == ["openai", "openai-2"]
    limited = {"rpm": 5, "weight": 1} | base
    made = group({"model": "openai/a", **limited}, {"model": "openai/b", **limited})
    assert len(made.settings["upstreams"]) == 2
    assert made.faults == ()


def test_the_same_deployment_twice_is_one_member() -> None:
    """A pool holds no member twice: weights add up, which is told."""
    made = group({"model": "openai/a", "weight": 2}, {"model": "openai/a", "weight": 3})
    assert made.settings["models"]["m"]["pool"] == [{"upstream": "openai", "model": "a", "weight": 5}]
    assert "one member" in made.changed["model_list[1].model_name"]


def test_shares_are_those_of_litellm() -> None:
    """Members are drawn by `weight`, else by `rpm`, else by `tpm`; who has none beside others is a later tier."""

    def shares(*params: dict[str, Any], **sections: Any) -> list[tuple[float, int]]:
        made = group(*({"model": f"openai/{index}", **each} for index, each in enumerate(params)), **sections)
        assert made.faults == ()
        pool = made.settings["models"]["m"]["pool"]
        return [(member.get("weight", 1), member.get("tier", 1)) for member in pool]

    assert shares({}, {}) == [(1, 1), (1, 1)]
    assert shares({"weight": 9, "rpm": 1}, {"weight": 1, "rpm": 9}) == [(9, 1), (1, 1)]
    assert shares({"rpm": 900}, {"rpm": 100}, {}) == [(9, 1), (1, 1), (1, 2)]
    assert shares({"tpm": 100}, {"tpm": 250}) == [(1, 1), (2.5, 1)]
    assert shares({"weight": 0}, {"weight": 2}) == [(0, 1), (2, 1)]
    assert shares({"rpm": 10**14}, {"rpm": 1}) == [(1_000_000, 1), (1, 1)]
    assert shares({"rpm": "1_000"}, {"rpm": 500}) == [(2, 1), (1, 1)]
    assert shares({"rpm": 9}, {"rpm": 1}, router_settings={"routing_strategy": "least-busy"}) == [(1, 1), (1, 1)]
    assert shares({"order": 7}, {"order": 2}, {}) == [(1, 2), (1, 1), (1, 3)]


def test_limits_beside_the_parameters_are_no_shares() -> None:
    """`rpm` of the entry itself, as older files have it, limits its upstream and weighs nothing, as for LiteLLM."""
    entries = [{"model_name": "m", "rpm": rpm, "litellm_params": {"model": "openai/a"}} for rpm in (5, 500)]
    settings = of_litellm({"model_list": entries}).settings
    assert [each["limits"]["requests_per_minute"] for each in settings["upstreams"].values()] == [5, 500]
    assert all("weight" not in member for member in settings["models"]["m"]["pool"])


def test_what_is_blocked_is_not_carried() -> None:
    """LiteLLM sends nothing to a blocked deployment, so it must not come to life here."""
    made = one("gpt-4o", {"blocked": True})
    assert "blocked" in made.left["model_list[0]"]
    assert made.draft.models == {}
    assert one("gpt-4o", {"blocked": False}).left == {}


def test_a_model_has_one_price() -> None:
    """Prices are exact, by the million; where deployments differ the first counts and the others are told."""
    made = group(
        {"model": "openai/a", "input_cost_per_token": 0.0000000001, "output_cost_per_image": 0.04},
        {"model": "openai/b", "input_cost_per_token": "3e-07", "output_cost_per_video_per_second": 1},
    )
    assert made.settings["models"]["m"]["price"] == {"input": 0.0001, "image": 0.04}
    assert "line 5" in made.left["model_list[1].litellm_params.input_cost_per_token"]
    assert "price" in made.left["model_list[1].litellm_params.output_cost_per_video_per_second"]


# What holds for everything


def test_fallbacks_never_run_in_a_circle() -> None:
    """LiteLLM's may; here the one that would close the circle is told, and those to nowhere."""
    entries = [{"model_name": name, "litellm_params": {"model": f"openai/{name}"}} for name in "abc"]
    fallbacks = [{"a": ["b", "nowhere"]}, {"b": ["c"]}, {"c": ["a"]}]
    made = of_litellm({"model_list": entries, "litellm_settings": {"fallbacks": fallbacks}})
    assert [made.settings["models"][name].get("fallback") for name in "abc"] == [["b"], ["c"], None]
    assert list(made.left) == ["litellm_settings.fallbacks[0].a[1]", "litellm_settings.fallbacks[2].c[0]"]
    assert made.faults == ()


def test_default_fallbacks_are_for_models_without_their_own() -> None:
    """They are added to every such model to which they do not lead back."""
    entries = [{"model_name": name, "litellm_params": {"model": f"openai/{name}"}} for name in "abc"]
    settings = {"fallbacks": [{"a": ["b"]}], "default_fallbacks": ["a"]}
    made = of_litellm({"model_list": entries, "router_settings": settings})
    assert [made.settings["models"][name].get("fallback") for name in "abc"] == [["b"], None, ["a"]]
    assert "lead back" in made.changed["router_settings.default_fallbacks[0]"]


def test_router_settings_win() -> None:
    """Of a setting that stands in both sections, that of the router counts, as for LiteLLM; the other is told."""
    made = one(
        "gpt-4o",
        litellm_settings={"num_retries": 9, "request_timeout": 5},
        router_settings={"num_retries": 1, "timeout": 50},
    )
    assert made.settings["defaults"]["retry"] == {"attempts": 2}
    assert made.settings["defaults"]["timeouts"]["first_byte"] == "50s"
    assert sorted(made.left) == ["litellm_settings.num_retries", "litellm_settings.request_timeout"]


def test_what_is_so_in_any_case_is_not_called_lost() -> None:
    """Settings that ask for what the router does anyway are needless; asked for the opposite, they are told as lost."""
    settings = {"json_logs": True, "telemetry": False, "cache": False, "callbacks": ["prometheus", "langfuse"]}
    made = one("gpt-4o", {"mode": "chat", "supports_vision": True}, litellm_settings=settings)
    assert list(made.left) == ["litellm_settings.callbacks[1]"]
    assert len(made.changed) == 6
    assert list(one("gpt-4o", litellm_settings={"cache": True}).left) == ["litellm_settings.cache"]


@pytest.mark.parametrize(
    ("section", "reasons"),
    [
        ("router_settings", litellm_reasons.ROUTER),
        ("litellm_settings", litellm_reasons.LITELLM),
        ("general_settings", litellm_reasons.GENERAL),
    ],
)
def test_what_is_not_carried_is_told_with_its_reason(section: str, reasons: dict[str, str]) -> None:
    """Each setting that has no counterpart is told by name, with its own reason, and so is one nobody knows."""
    made = one("gpt-4o", **{section: dict.fromkeys((*reasons, "never_heard_of"), "on")})
    told = {path.removeprefix(f"{section}."): text for path, text in made.left.items()}
    needless = {path.removeprefix(f"{section}.") for path in made.changed}
    assert set(told) | needless == {*reasons, "never_heard_of"}
    assert all(told[name] == text for name, text in reasons.items() if name in told)


def test_sections_and_names_given_twice_are_told() -> None:
    """Whole sections are told in one line; of a name that is given twice it is told which one counts."""
    made = of_litellm(
        "model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]\n"
        "guardrails: [{a: b}, {c: d}]\n"
        "mystery: {deep: {deeper: 1}}\n"
        "guardrails: []\n"
    )
    assert list(made.left) == ["guardrails", "mystery", "'guardrails, again'"]
    for nothing in ("[]", "just text", ""):
        assert of_litellm(nothing).account.lines(Fate.LEFT) == ["config.yaml:1: it holds no settings"]
