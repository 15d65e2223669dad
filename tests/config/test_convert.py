from __future__ import annotations

import pytest

from router.config.schema import Auth, Choose, Price, Seconds, Usd
from tests.config.files import MODELS, UPSTREAMS, faults, read, texts


def test_short_forms_are_written_out() -> None:
    """A model that is only an upstream's name, and a member that is, equal their long forms."""
    short = read(UPSTREAMS + "models:\n  m: a\n  n: {pool: [a, b]}\n").config.models
    long = read(UPSTREAMS + "models:\n  m: {pool: [{upstream: a}]}\n  n: {pool: [{upstream: a}, {upstream: b}]}\n")
    assert short == long.config.models


def test_every_kind_of_value_is_read() -> None:
    """Durations, enums, booleans, lists and nested settings arrive as the types of the schema."""
    text = "defaults: {timeouts: {idle: 1m30s}, choose: round_robin, streams: {early_keepalive: true}}\n"
    config = read(
        text + "upstreams: {a: {base_url: http://h/v1, api_key: {env: K}, auth: x-api-key}}\n" + MODELS, {"K": "s"}
    ).config
    assert config.defaults.timeouts.idle == Seconds(90)
    assert type(config.defaults.timeouts.idle) is Seconds
    assert config.defaults.choose is Choose.ROUND_ROBIN
    assert config.defaults.streams.early_keepalive is True
    assert config.upstreams["a"].auth is Auth.X_API_KEY


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("lissten: :1", "f:1:1: lissten: unknown setting, did you mean 'listen'?"),
        (
            "defaults: {choose: two-choices}",
            (
                "f:1:20: defaults.choose: 'two-choices' is not one of two_choices, "
                "least_in_flight, round_robin, did you mean 'two_choices'?"
            ),
        ),
        ("defaults: {choose: [a]}", "f:1:12: defaults.choose: expected a single value, found a list"),
        (
            "defaults: 3",
            (
                "f:1:11: defaults: expected settings (timeouts, choose, ejection, retry, streams, "
                "default_output_tokens), found a number"
            ),
        ),
        ("reload: {watch: yes}", "f:1:17: reload.watch: expected true or false, found 'yes'"),
        (
            "reload: {interval: 10 s}",
            ("f:1:20: reload.interval: '10 s' is not a duration; write 250ms, 3s, 1m30s or 2h, without the space"),
        ),
        ("log:\n  queue_max: 0", "f:2:14: log.queue_max: must be at least 1"),
        ("log: {queue_max: 1.5}", "f:1:18: log.queue_max: expected a whole number, found 1.5"),
        ('log: {queue_max: "5"}', "f:1:18: log.queue_max: expected a whole number, found '5'"),
        ("log: {queue_max: true}", "f:1:18: log.queue_max: expected a whole number, found true"),
        ("defaults: {retry: {budget_ratio: .nan}}", "f:1:34: defaults.retry.budget_ratio: must be a finite number"),
        ("defaults: {retry: {budget_ratio: 1.1}}", "f:1:34: defaults.retry.budget_ratio: must be at most 1"),
        (
            "requests: {body_max: 64M}",
            ("f:1:22: requests.body_max: expected a number of bytes such as 65536, 64KiB, 64MiB or 1GiB, found '64M'"),
        ),
        (
            "listen: 8080",
            "f:1:9: listen[0].address: expected host:port, found a number; write ':8080' for every interface",
        ),
        (
            "listen: [unix:/s, no]",
            "f:1:19: listen[1].address: expected host:port, \"[v6]:port\", :port or unix:/path, found 'no'",
        ),
    ],
)
def test_a_wrong_value_is_told_where_it_stands(text: str, fault: str) -> None:
    """Each fault names file, line, column and path, what is wrong, and what was expected or meant."""
    assert faults(text + UPSTREAMS + MODELS) == [fault]


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        ("{upstream: a, weight: -1}", "models.m.pool[0].weight: must be at least 0"),
        ("{upstream: a, weight: 1e300}", "models.m.pool[0].weight: must be at most 1000000"),
        ("{upstream: a, weight: .nan}", "models.m.pool[0].weight: must be a finite number"),
        ("{upstream: a, weight: .inf}", "models.m.pool[0].weight: must be a finite number"),
        ("{upstream: a, tier: 0}", "models.m.pool[0].tier: must be at least 1"),
        ("{weight: 1}", "models.m.pool[0].upstream: is missing"),
        (
            "{upstream: a, model: 5}",
            ("models.m.pool[0].model: expected text, found a number; text that looks like something else wants quotes"),
        ),
        ("[a]", "models.m.pool[0]: expected settings (upstream, model, weight, tier), found a list"),
    ],
)
def test_a_wrong_member_is_told(member: str, fault: str) -> None:
    """Weights that are no weights and members without an upstream are faults, each told once."""
    assert texts(f"{UPSTREAMS}models: {{m: {{pool: [{member}]}}}}\n") == [fault]


def test_prices_are_read_exactly() -> None:
    """A price may be written as a number or as text, and is what its digits say; what is not given is not there."""
    price = "{input: 0.1, cached_input: '0.01', output: 10, image: 2e-3, second: , search: ~}"
    found = read(f"{UPSTREAMS}models: {{m: {{pool: [a], price: {price}}}, n: a, o: {{pool: [a], price: }}}}\n").config
    expected = Price(input=Usd("0.1"), cached_input=Usd("0.01"), output=Usd(10), image=Usd("0.002"))
    assert found.models["m"].price == expected
    assert (found.models["n"].price, found.models["o"].price) == (None, None)


@pytest.mark.parametrize(
    ("price", "fault"),
    [
        ("{input: -1}", "f:6:32: models.m.price.input: must not be negative"),
        ("{output: cheap}", "f:6:33: models.m.price.output: expected an amount in USD such as 1.25, found 'cheap'"),
        ("{output: true}", "f:6:33: models.m.price.output: expected an amount in USD such as 1.25, found 'true'"),
        ("{image: [1]}", "f:6:25: models.m.price.image: expected a single value, found a list"),
        ("{inptu: 1}", "f:6:25: models.m.price.inptu: unknown setting, did you mean 'input'?"),
        ("5", ("f:6:24: models.m.price: expected settings (input, cached_input, cache_write, cache_write_long, output, "
         "audio_input, audio_output, image_input, image, second, characters, search), found a number")),
    ],
)  # fmt: skip
def test_a_wrong_price_is_told_where_it_stands(price: str, fault: str) -> None:
    """A price that is none is told with file, line, column and path, like every other fault."""
    assert faults(f"{UPSTREAMS}models:\n m: {{pool: [a], price: {price}}}\n") == [fault]


def test_weight_zero_is_allowed() -> None:
    """A weight of 0 drains a member, and so may stand in the file."""
    assert read(UPSTREAMS + "models: {m: {pool: [{upstream: a, weight: 0}]}}").config.models["m"].pool[0].weight == 0


def test_all_faults_come_at_once() -> None:
    """One run tells every wrong value, unknown name, duplicate and dangling reference of the file, in its order."""
    text = (
        "listen: nowhere\n"
        "upstreams:\n"
        "  a: {base_url: ftp://x, keepalive: 0}\n"
        "  b: {wieght: 3}\n"
        "  a: {base_url: http://h}\n"
        "models:\n"
        "  m: {pool: [c], choose: best}\n"
    )
    assert [fault.split(": ")[0] + " " + fault.split(": ")[1] for fault in faults(text)] == [
        "f:1:9 listen[0].address",
        "f:3:17 upstreams.a.base_url",
        "f:3:37 upstreams.a.keepalive",
        "f:4:3 upstreams.b.base_url",
        "f:4:7 upstreams.b.wieght",
        "f:5:3 upstreams.a",
        "f:7:14 models.m.pool[0].upstream",
        "f:7:26 models.m.choose",
    ]


def test_no_fault_follows_from_another() -> None:
    """A section that could not be read at all makes nothing that refers to it a fault."""
    assert texts("upstreams: [a, b]\nmodels: {m: a, n: b}\n") == [
        "upstreams: expected names, each with its settings, found a list"
    ]
    assert texts(UPSTREAMS + "models: {m: {pool: 3}}") == [
        "models.m.pool: expected a list, found a number; a list of one is written [value]"
    ]


def test_nothing_written_below_a_name_means_defaults() -> None:
    """A section of which everything is commented out is as if it were not there."""
    loaded = read("keys:\nlog:\ndefaults: {timeouts: , retry: ~}\n" + UPSTREAMS + MODELS)
    assert loaded.config == read(UPSTREAMS + MODELS).config
    keys = "keys: {k: {secret: {env: K}, models: , limits: }}"
    assert read(UPSTREAMS + MODELS + keys, {"K": "1"}).config.keys["k"].models == ("*",)


def test_free_names_are_only_at_the_top() -> None:
    """What begins with `x-` is a place for anchors at the top, and an unknown setting elsewhere."""
    anchors = "x-anchors: [&fast {connect: 1s}, {any: thing}]\n"
    loaded = read(anchors + "defaults: {timeouts: {<<: *fast, idle: 5s}}" + UPSTREAMS + MODELS)
    timeouts = loaded.config.defaults.timeouts
    assert (timeouts.connect, timeouts.idle) == (Seconds(1), Seconds(5))
    assert texts("log: {x-a: 1}" + UPSTREAMS + MODELS) == ["log.x-a: unknown setting; known here: access, queue_max"]


def test_a_file_of_something_else_is_told_so() -> None:
    """Text, a list or nothing at the top is refused with a place."""
    assert faults("hello")[0].startswith("f:1:1: expected settings (include, ")
    assert faults("- a")[0].endswith("found a list")
    assert faults("") == ["f:1:1: upstreams: is missing", "f:1:1: models: is missing"]
