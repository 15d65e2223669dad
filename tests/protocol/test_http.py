"""Heads: what is read of a client's, what goes upstream, what comes back, what a target may look like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import Kind, RequestError
from router.protocol import http
from router.protocol.http import (
    FORWARDABLE,
    RequestPolicy,
    Scanned,
    pairs,
    response_headers,
    scan,
    scan_answer,
    split_target,
    target,
)

Pairs = list[tuple[bytes, bytes]]

HOST = (b"Host", b"router:8080")


def raw(headers: Pairs) -> list[bytes]:
    """Header lines as they are written."""
    return [name + b": " + value for name, value in headers]


def read(headers: Pairs, version: str = "1.1") -> Scanned:
    return scan(raw(headers), version)


def answer_lines(headers: Pairs, *, stream: bool = False) -> list[bytes]:
    """The lines that go to the client, after checking that each has its end."""
    head = b"".join(response_headers(raw(headers), stream=stream))
    assert head == b"" or head.endswith(b"\r\n")
    return head.split(b"\r\n")[:-1]


def policy(
    *,
    set: dict[str, str] | None = None,  # noqa: A002 - the configuration's word
    deny: tuple[str, ...] = (),
    forward: tuple[str, ...] = (),
    allow: tuple[str, ...] | None = None,
    default: dict[str, str] | None = None,
) -> RequestPolicy:
    return RequestPolicy(
        host=b"api.test",
        credential_headers=[(b"Authorization", b"Bearer ours")],
        set=set or {},
        deny=deny,
        forward=forward,
        allow=allow,
        default=default,
    )


def head_lines(headers: Pairs, made: RequestPolicy | None = None) -> list[bytes]:
    """The lines of the head that goes upstream, after checking that it is one whole head."""
    made = made or policy()
    head = made.head(b"/v1/chat/completions?a=b", made.lines(raw(headers)), 1024)
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


OURS = [
    b"POST /v1/chat/completions?a=b HTTP/1.1",
    b"Host: api.test",
    b"Accept-Encoding: identity",
    b"Authorization: Bearer ours",
    b"Content-Length: 1024",
]


def test_a_request_head_is_complete() -> None:
    """Request line, host, coding, credential and length are ours; the client's lines stand between, in their order."""
    lines = head_lines([HOST, (b"X-One", b"1"), (b"content-LENGTH", b"7"), (b"x-two", b"2"), (b"X-One", b"3")])
    assert lines == [*OURS[:2], b"X-One: 1", b"x-two: 2", b"X-One: 3", *OURS[2:]]


REQUEST_DROPS = [
    "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "TE", "Trailer",
    "Transfer-Encoding", "Upgrade", "HTTP2-Settings", "Expect", "Host", "Content-Length", "Accept-Encoding",
    "Content-Encoding", "Authorization", "x-api-key", "api-key", "x-goog-api-key", "Cookie", "OpenAI-Organization",
    "OpenAI-Project", "anthropic-workspace-id", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Anything",
    "Forwarded", "X-Real-IP", "Via", "CF-Ray", "CF-Connecting-IP", "True-Client-IP", "Origin", "Referer",
]  # fmt: skip
REQUEST_PASSES = [
    "Content-Type", "Accept", "User-Agent", "OpenAI-Beta", "anthropic-version", "anthropic-beta", "Idempotency-Key",
    "X-Client-Request-Id", "x-stainless-lang", "x-stainless-retry-count", "traceparent", "tracestate", "HTTP-Referer",
    "X-Title", "X-Unknown", "Cfx", "Cookie2",
]  # fmt: skip


@pytest.mark.parametrize("name", REQUEST_DROPS)
def test_these_headers_do_not_go_upstream(name: str) -> None:
    """Hop-by-hop, recomputed, secret and whereabouts headers stay here, in any case and with `_` for `-`."""
    for spelled in (name, name.upper(), name.lower(), name.replace("-", "_")):
        assert head_lines([(spelled.encode(), b"close")]) == OURS


@pytest.mark.parametrize("name", REQUEST_PASSES)
def test_these_headers_go_upstream_as_they_came(name: str) -> None:
    """Everything else passes with its spelling and its bytes, those above 0x7f included."""
    value = bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))
    for spelled in (name, name.upper(), name.lower()):
        assert head_lines([(spelled.encode(), value)]) == [*OURS[:2], spelled.encode() + b": " + value, *OURS[2:]]


def test_names_listed_in_connection_are_dropped() -> None:
    """What `Connection` lists is dropped wherever it stands, but never what we add ourselves."""
    headers = [
        (b"X-Hop", b"1"),
        (b"connection", b"keep-alive, x-hop ,Authorization,content-length,host,accept-encoding"),
        (b"X-Stay", b"2"),
        (b"Connection", b"X-Other"),
        (b"x-other", b"3"),
    ]
    assert head_lines(headers) == [*OURS[:2], b"X-Stay: 2", *OURS[2:]]


def test_configured_headers_replace_the_clients() -> None:
    """A header that is set stands once, with the configured value, even where `Connection` lists it."""
    made = policy(set={"X-Title": "ours", "user-agent": "r"})
    lines = head_lines([(b"x-title", b"theirs"), (b"User-Agent", b"them"), (b"Connection", b"x-title")], made)
    assert sorted(lines) == sorted([*OURS, b"X-Title: ours", b"user-agent: r"])


def test_a_set_credential_replaces_the_upstreams() -> None:
    """An `authorization` that is set is the only one sent."""
    lines = head_lines([], policy(set={"authorization": "Basic x"}))
    assert [line for line in lines if line.lower().startswith(b"authorization")] == [b"authorization: Basic x"]


def test_denied_headers_are_dropped() -> None:
    """Names in `deny` do not pass, whatever their case."""
    assert head_lines([(b"User-Agent", b"x")], policy(deny=("user-AGENT",))) == OURS


@pytest.mark.parametrize("name", sorted(FORWARDABLE))
def test_forwarded_headers_pass(name: bytes) -> None:
    """An upstream may be set to receive the headers that are dropped for safety, each by name."""
    made = policy(forward=(name.decode().title(),))
    assert head_lines([(name, b"x")], made) == [*OURS[:2], name + b": x", *OURS[2:]]
    others = [(other, b"x") for other in FORWARDABLE - {name}]
    assert head_lines(others, made) == OURS


def test_only_allowed_headers_pass() -> None:
    """With `allow` nothing else of the client's goes upstream, in any spelling; what is ours stands all the same."""
    made = policy(allow=("X-Own", "content-type"), set={"X-Title": "ours"}, deny=("x-own-not",))
    headers = [(b"x-own", b"1"), (b"X_OWN", b"2"), (b"X-Own-Not", b"3"), (b"User-Agent", b"4"), (b"X-Title", b"5")]
    assert head_lines([HOST, *headers, (b"Content-Type", b"6")], made) == [
        *OURS[:2], b"x-own: 1", b"X_OWN: 2", b"Content-Type: 6", *OURS[2:3], b"X-Title: ours", *OURS[3:],
    ]  # fmt: skip
    assert head_lines([HOST, *headers], policy(allow=())) == OURS


def test_what_is_forwarded_passes_beside_what_is_allowed() -> None:
    """`forward` says it already: such a header need not be allowed as well."""
    made = policy(allow=("accept",), forward=("cookie",))
    assert head_lines([(b"Cookie", b"a"), (b"Accept", b"b"), (b"X-A", b"c")], made) == [
        *OURS[:2], b"Cookie: a", b"Accept: b", *OURS[2:],
    ]  # fmt: skip


@pytest.mark.parametrize("name", REQUEST_DROPS)
def test_allowing_a_header_does_not_make_it_safe(name: str) -> None:
    """Credentials, framing and whereabouts stay here whatever is allowed."""
    assert head_lines([(name.encode(), b"close")], policy(allow=(name,))) == OURS


def test_names_listed_in_connection_are_dropped_though_allowed() -> None:
    """Hop-by-hop headers of the client's own making are no exception."""
    made = policy(allow=("x-hop", "x-stay"))
    headers = [(b"X-Hop", b"1"), (b"Connection", b"x-hop"), (b"X-Stay", b"2"), (b"X-Other", b"3")]
    assert head_lines(headers, made) == [*OURS[:2], b"X-Stay: 2", *OURS[2:]]


VERSION = {"Anthropic-Version": "2023-06-01"}


@pytest.mark.parametrize("name", [b"anthropic-version", b"ANTHROPIC-VERSION", b"Anthropic-Version"])
def test_a_default_header_yields_to_the_clients(name: bytes) -> None:
    """A header that the upstream must see is added only where the client sends none (PROTOCOL 2.6)."""
    made = policy(default=VERSION)
    assert head_lines([(b"X-A", b"1")], made) == [
        *OURS[:2], b"X-A: 1", b"Anthropic-Version: 2023-06-01", *OURS[2:],
    ]  # fmt: skip
    assert head_lines([(name, b"2026-10-21")], made) == [*OURS[:2], name + b": 2026-10-21", *OURS[2:]]
    other = name + b"-x"
    assert b"Anthropic-Version: 2023-06-01" in head_lines([(other, b"1")], made)


def test_a_default_header_stands_in_for_one_that_does_not_pass() -> None:
    """What is denied, not allowed or listed in `Connection` is as if the client had not sent it."""
    header = (b"anthropic-version", b"1")
    expected = [*OURS[:2], b"Anthropic-Version: 2023-06-01", *OURS[2:]]
    assert head_lines([header], policy(default=VERSION, deny=("anthropic-version",))) == expected
    assert head_lines([header], policy(default=VERSION, allow=())) == expected
    assert head_lines([header, (b"Connection", b"anthropic-version")], policy(default=VERSION)) == expected


def test_a_set_header_wins_over_a_default_one() -> None:
    """It stands once, as it is set."""
    made = policy(default=VERSION, set={"anthropic-version": "x"})
    for headers in ([], [(b"anthropic-version", b"1")]):
        assert head_lines(headers, made) == [*OURS[:3], b"anthropic-version: x", *OURS[3:]]


@pytest.mark.parametrize("method", [b"GET", b"DELETE"])
def test_a_request_without_a_body_says_no_length(method: bytes) -> None:
    """A length that announces nothing makes some servers wait, and some refuse."""
    made = policy()
    head = made.head(b"/v1/files/1", made.lines([b"X-A: 1", b"Content-Length: 5"]), None, method)
    assert head == (
        method + b" /v1/files/1 HTTP/1.1\r\nHost: api.test\r\nX-A: 1\r\nAccept-Encoding: identity\r\n"
        b"Authorization: Bearer ours\r\n\r\n"
    )


def test_an_empty_body_has_a_length() -> None:
    """A POST of nothing is framed as any other (RFC 9110 section 8.6), and so is the body of another method."""
    made = policy()
    assert made.head(b"/x", b"", 0).startswith(b"POST /x HTTP/1.1\r\n")
    assert made.head(b"/x", b"", 0).endswith(b"Content-Length: 0\r\n\r\n")
    assert made.head(b"/x", b"", 7, b"PUT").startswith(b"PUT /x HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "fault",
    [
        {"default": {"X-A": "b\r\nX-C: d"}},
        {"set": {"Content-Length": "1"}},
        {"set": {"transfer_encoding": "chunked"}},
        {"set": {"Host": "x"}},
        {"set": {"Accept-Encoding": "gzip"}},
        {"set": {"X-A": "b\r\nX-C: d"}},
        {"set": {"X A": "b"}},
        {"set": {"": "b"}},
        {"forward": ("authorization",)},
        {"forward": ("x-api-key",)},
        {"forward": ("connection",)},
    ],
)
def test_a_policy_that_would_break_heads_is_refused(fault: dict[str, object]) -> None:
    """Framing cannot be set, a client's credential cannot be forwarded, and nothing can be smuggled into a line."""
    with pytest.raises(ValueError):
        policy(**fault)  # type: ignore[arg-type] # the parameters are alternatives


RESPONSE_DROPS = [
    "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer",
    "Transfer-Encoding", "Upgrade", "Content-Length", "Date", "Server", "Set-Cookie", "Alt-Svc",
    "Strict-Transport-Security", "Report-To", "NEL", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers",
    "openai-organization", "openai-project", "anthropic-organization-id", "cf-ray", "CF-Cache-Status",
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens_usage_based", "anthropic-ratelimit-tokens-reset",
    "RateLimit", "RateLimit-Policy", "x-request-id", "request-id", "x-router-upstream",
]  # fmt: skip
RESPONSE_PASSES = [
    "Content-Type", "Location", "openai-processing-ms", "openai-version", "x-generation-id", "retry-after",
    "retry-after-ms", "x-should-retry", "Content-Encoding", "Cache-Control", "X-Unknown",
]  # fmt: skip


@pytest.mark.parametrize("name", RESPONSE_DROPS)
def test_these_headers_do_not_reach_the_client(name: str) -> None:
    """Framing, the upstream's site, ids and the operator's account and limits stay here, in any case."""
    for spelled in (name, name.upper(), name.lower()):
        assert answer_lines([(spelled.encode(), b"close")]) == []
        assert answer_lines([(spelled.encode(), b"close")], stream=True) == []


@pytest.mark.parametrize("name", RESPONSE_PASSES)
def test_these_headers_reach_the_client_as_they_came(name: str) -> None:
    """Everything else passes with its spelling and its bytes, as one line with its end."""
    for spelled in (name, name.upper(), name.lower()):
        assert answer_lines([(spelled.encode(), b"\xff; x=1")]) == [spelled.encode() + b": \xff; x=1"]


def test_a_streams_own_headers_are_left_out() -> None:
    """What the relay tells proxies about a stream is not said twice."""
    headers = [(b"Cache-Control", b"max-age=9"), (b"X-Accel-Buffering", b"yes"), (b"X-A", b"1")]
    assert answer_lines(headers, stream=True) == [b"X-A: 1"]
    assert answer_lines(headers) == raw(headers)


def test_names_an_answers_connection_lists_are_dropped() -> None:
    """Hop-by-hop headers of the upstream's own making stop here."""
    headers = [(b"X-Hop", b"1"), (b"Connection", b"close, x-hop"), (b"X-Stay", b"2")]
    assert answer_lines(headers) == [b"X-Stay: 2"]


BROKEN_LINES = {
    "line end in the value": b"X-Bad: a\r\nSet-Cookie: x=y",
    "LF in the value": b"X-Bad: a\nb",
    "CR in the value": b"X-Bad: a\rb",
    "NUL in the value": b"X-Bad: a\0b",
    "line end in the name": b"X-Bad\r\nX: a",
    "no name": b": a",
    "no colon": b"X-Bad",
    "empty": b"",
    "space in the name": b"X Bad: a",
    "space before the colon": b"X-Bad : a",
    "continuation": b" a: b",
    "continuation with a tab": b"\ta: b",
    "name above ASCII": b"\xff: a",
}


@pytest.mark.parametrize("line", BROKEN_LINES.values(), ids=BROKEN_LINES)
def test_a_broken_line_cannot_split_a_head(line: bytes) -> None:
    """A line that another reader could take for two, or for part of the one before, is refused in both directions."""
    for broken in ([b"Host: a", line], [b"Host: a", b"Connection: x-hop", line]):
        for reader in (scan, scan_answer, pairs, response_headers):
            with pytest.raises(RequestError) as caught:
                reader(broken)
            assert caught.value.kind is Kind.MALFORMED_HTTP
        with pytest.raises(RequestError):
            policy().lines(broken)


def test_white_space_around_values_does_not_count() -> None:
    """Any blanks after the colon and at the end belong to the line, not to the value (RFC 9112 section 5.1)."""
    assert pairs([b"X-A:1", b"x-b: \t 2 \t", b"X-C:"]) == [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-c", b"")]
    facts = scan([b"host:a", b"Content-Length:\t 12 ", b"authorization:  Bearer k\t"])
    assert (facts.content_length, facts.credential) == (12, b"k")


def test_what_is_remembered_is_bounded() -> None:
    """A client that invents lines without end changes neither the memory used nor what passes."""
    made = policy()
    for number in range(3 * http._REMEMBERED_MAX):
        assert b"x-%d: 1" % number in head_lines([(b"x-%d" % number, b"1")], made)
    long = b"x" * 10_000
    assert long + b": 1" in head_lines([(long, b"1"), (b"Cookie", b"x")], made)
    assert 0 < len(made._kept) <= http._REMEMBERED_MAX
    assert all(len(line) <= http._REMEMBERED_BYTES_MAX for line in made._kept)


def test_lines_that_never_repeat_are_not_remembered() -> None:
    """Lengths and ids do not push out what is worth remembering."""
    made = policy()
    for number in range(100):
        head_lines([(b"Content-Length", b"%d" % number), (b"traceparent", b"%d" % number), (b"X-A", b"1")], made)
    assert list(made._kept) == [b"X-A: 1"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], (b"", b"", None, True)),
        ([(b"Content-Type", b"Text/HTML"), (b"Transfer-Encoding", b"chunked")], (b"text/html", b"", None, False)),
        ([(b"content-length", b"12"), (b"Content-Encoding", b"GZip")], (b"", b"gzip", 12, False)),
        ([(b"content-length", b"0"), (b"content-encoding", b"identity")], (b"", b"", 0, False)),
        ([(b"content-length", b"9" * 5000)], (b"", b"", None, False)),
    ],
)  # fmt: skip
def test_an_answers_head_is_read(headers: Pairs, expected: tuple[bytes, bytes, int | None, bool]) -> None:
    """Type, coding, length, and whether only the end of the connection ends the body."""
    said = scan_answer(raw(headers))
    assert (said.content_type, said.content_encoding, said.content_length, said.until_close) == expected


def test_a_plain_head_is_read() -> None:
    """A head without anything special has no special facts."""
    facts = read([HOST])
    assert (facts.credential, facts.client_request_id, facts.client_retry) == (None, "", False)
    assert (facts.expects_continue, facts.content_type, facts.content_encoding) == (False, b"", b"")
    assert (facts.content_length, facts.chunked) == (None, False)


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ([(b"Authorization", b"Bearer k")], b"k"),
        ([(b"authorization", b"bEARER   k ")], b"k"),
        ([(b"x-api-key", b"k")], b"k"),
        ([(b"API-Key", b"k")], b"k"),
        ([(b"x-api-key", b"loser"), (b"Authorization", b"Bearer k")], b"k"),
        ([(b"api-key", b"loser"), (b"x-api-key", b"k")], b"k"),
        ([(b"Authorization", b"Bearer k"), (b"x-api-key", b"k"), (b"api-key", b"k")], b"k"),
        ([(b"Authorization", b"Bearer \xff\x80")], b"\xff\x80"),
        ([(b"Authorization", b"Bearer ")], None),
        ([(b"Authorization", b"Bearer")], None),
        ([(b"Authorization", b"")], None),
        ([(b"Authorization", b"Basic azpr")], None),
        ([(b"Authorization", b"k")], None),
        ([(b"x-api-key", b"")], None),
        ([(b"Authorization", b"Basic azpr"), (b"x-api-key", b"k")], b"k"),
    ],
)
def test_the_credential_is_found(headers: Pairs, credential: bytes | None) -> None:
    """Bearer token, `x-api-key` and `api-key`, in this order; empty ones are none."""
    assert read([HOST, *headers]).credential == credential


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ([(b"Authorization", b"Bearer loser"), (b"X-Api-Key", b"k")], b"k"),
        ([(b"x-api-key", b"k"), (b"Authorization", b"Bearer loser"), (b"api-key", b"loser")], b"k"),
        ([(b"Authorization", b"Bearer k"), (b"x-api-key", b"")], b"k"),
        ([(b"Authorization", b"Bearer k"), (b"api-key", b"loser")], b"k"),
        ([(b"Authorization", b"Bearer k")], b"k"),
        ([(b"Authorization", b"Basic azpr"), (b"api-key", b"k")], b"k"),
        ([(b"x-api-key", b"k")], b"k"),
        ([], None),
    ],
)
def test_on_some_routes_the_x_api_key_wins(headers: Pairs, credential: bytes | None) -> None:
    """PROTOCOL 3.1: of several credentials Anthropic takes `x-api-key`; an empty one is none there either."""
    assert scan(raw([HOST, *headers]), x_api_key_wins=True).credential == credential


def test_no_credential_may_be_repeated_whichever_wins() -> None:
    """Two lines of one name are refused on every route."""
    for name in (b"x-api-key", b"Authorization"):
        with pytest.raises(RequestError):
            scan(raw([HOST, (name, b"Bearer a"), (name, b"Bearer a")]), x_api_key_wins=True)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"X-Request-Id", b"abc-1")], "abc-1"),
        ([(b"x-client-request-id", b"c")], "c"),
        ([(b"x-client-request-id", b"c"), (b"x-request-id", b"r")], "r"),
        ([(b"x-request-id", b"r" * 2048)], "r" * 128),
        ([(b"x-request-id", b"a b")], ""),
        ([(b"x-request-id", b"a\tb")], ""),
        ([(b"x-request-id", b"\xc3\xa9")], ""),
        ([(b"x-request-id", b"")], ""),
    ],
)
def test_the_clients_request_id_is_visible_ascii(headers: Pairs, expected: str) -> None:
    """What cannot be logged safely is no id, and a long one is cut."""
    assert read([HOST, *headers]).client_request_id == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"0", False), (b"1", True), (b"10", True), (b"00", False), (b"", False), (b"-1", False), (b"x", False)],
)
def test_a_clients_retry_is_recognised(value: bytes, expected: bool) -> None:
    """Only a number above zero in `x-stainless-retry-count` is a retry."""
    assert read([HOST, (b"X-Stainless-Retry-Count", value)]).client_retry is expected


def test_the_bodys_description_is_read() -> None:
    """Type, coding, length and expectation of the body are known before it comes."""
    facts = read([HOST, (b"Content-Type", b"A/b"), (b"Content-Encoding", b"GZip"), (b"content-length", b"12")])
    assert (facts.content_type, facts.content_encoding, facts.content_length) == (b"A/b", b"gzip", 12)
    assert read([HOST, (b"Content-Encoding", b"Identity")]).content_encoding == b""
    assert read([HOST, (b"Expect", b"100-Continue")]).expects_continue
    assert not read([HOST, (b"Expect", b"x")]).expects_continue
    facts = read([HOST, (b"Transfer-Encoding", b"Chunked")])
    assert (facts.content_length, facts.chunked) == (None, True)


MALFORMED: dict[str, Pairs] = {
    "no host": [],
    "two hosts": [HOST, HOST],
    "empty host": [(b"Host", b"")],
    "host with path": [(b"Host", b"a/b")],
    "host with user": [(b"Host", b"a@b")],
    "host with query": [(b"Host", b"a?b")],
    "host with space": [(b"Host", b"a b")],
    "two hosts in one": [(b"Host", b"a, b")],
    "host with odd port": [(b"Host", b"a:b:c/")],
    "host with 0x80": [(b"Host", b"\xff")],
    "open bracket": [(b"Host", b"[::1")],
    "two authorizations": [HOST, (b"Authorization", b"Bearer a"), (b"authorization", b"Bearer a")],
    "two keys": [HOST, (b"x-api-key", b"a"), (b"X-API-Key", b"b")],
    "two lengths": [HOST, (b"content-length", b"1"), (b"content-length", b"1")],
    "length and coding": [HOST, (b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
    "coding list": [HOST, (b"transfer-encoding", b"gzip, chunked")],
    "odd coding": [HOST, (b"transfer-encoding", b"xchunked")],
    "two codings": [HOST, (b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
    "signed length": [HOST, (b"content-length", b"+1")],
    "hex length": [HOST, (b"content-length", b"0x1")],
    "length list": [HOST, (b"content-length", b"1, 1")],
    "empty length": [HOST, (b"content-length", b"")],
    "endless length": [HOST, (b"content-length", b"9" * 5000)],
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED)
def test_a_head_that_reads_two_ways_is_refused(headers: Pairs) -> None:
    """Ambiguous routing, identity or framing ends the connection (RELIABILITY 6.6)."""
    with pytest.raises(RequestError) as caught:
        read(headers)
    assert (caught.value.kind, caught.value.close) == (Kind.MALFORMED_HTTP, True)


@pytest.mark.parametrize("host", [b"a", b"a.b:80", b"127.0.0.1:8080", b"[::1]", b"[::1]:80", b"a_b", b"a:"])
def test_hosts_are_accepted(host: bytes) -> None:
    """Names and addresses with and without port are hosts."""
    assert read([(b"host", host)]).credential is None


def test_http_1_0_needs_no_host_and_has_no_chunks() -> None:
    """The older version may leave out the host, and cannot frame a body in chunks."""
    assert read([], "1.0").content_length is None
    with pytest.raises(RequestError):
        read([(b"Transfer-Encoding", b"chunked")], "1.0")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"/", (b"/", b"")),
        (b"/v1/chat/completions", (b"/v1/chat/completions", b"")),
        (b"/v1/chat/completions?", (b"/v1/chat/completions", b"")),
        (b'/a?b=%zz&c=/../&d=?"{}', (b"/a", b'b=%zz&c=/../&d=?"{}')),
        (b"/v1/models/a%2Fb", (b"/v1/models/a%2Fb", b"")),
        (b"/a/...", (b"/a/...", b"")),
        (b"/a//b/", (b"/a//b/", b"")),
        (b"/.well-known/x", (b"/.well-known/x", b"")),
    ],
)
def test_a_target_is_split_as_it_came(written: bytes, expected: tuple[bytes, bytes]) -> None:
    """Path and query keep their bytes."""
    assert split_target(written) == expected


@pytest.mark.parametrize(
    "written",
    [b"", b"*", b"v1", b"//evil", b"//", b"http://evil/v1", b"https:/x", b"evil:443", b"user@evil", b"/a#b", b"/a?b#c",
     b"/..", b"/../a", b"/a/..", b"/a/../b", b"/./a", b"/a/.", b"/%2e%2E/a", b"/a/.%2e", b"/a/%2e?x", b"/%zz", b"/%",
     b"/%4", b"/a b", b"/a\tb", b"/a\0", b"/a\r\n", b"/\xff", b"/a?\xff", b"/a?b c", b"/a\\b", b"/a\n"],
)  # fmt: skip
def test_a_target_that_could_lead_elsewhere_is_refused(written: bytes) -> None:
    """Other hosts, dot segments, fragments and odd bytes end the connection."""
    with pytest.raises(RequestError) as caught:
        split_target(written)
    assert (caught.value.kind, caught.value.close) == (Kind.MALFORMED_HTTP, True)


@given(st.binary(max_size=30) | st.text("/.%2eE?#a:", max_size=30).map(str.encode))
def test_any_target_is_split_or_refused(written: bytes) -> None:
    """Whatever is accepted is the same bytes again, and its path has neither dot segments nor two slashes in front."""
    try:
        path, query = split_target(written)
    except RequestError:
        return
    assert written in {path + b"?" + query, path}
    assert path.startswith(b"/")
    assert not path.startswith(b"//")
    assert not {b".", b".."} & set(path.lower().replace(b"%2e", b".").split(b"/"))


def test_long_targets_are_judged_quickly() -> None:
    """A target that fails at its last byte after many escapes is refused without trying every way to read it."""
    with pytest.raises(RequestError):
        split_target(b"/" + b"a%41" * 16_000 + b"\xff")


@pytest.mark.parametrize(
    ("query", "extra", "expected"),
    [
        (b"", (), b"/base/chat"),
        (b"a=%41&b=c%2Fd&&x", (), b"/base/chat?a=%41&b=c%2Fd&&x"),
        (b"a=1", (("api-version", "2024-10-21"),), b"/base/chat?a=1&api-version=2024-10-21"),
        (b"", (("a b", "c&d=é"),), b"/base/chat?a%20b=c%26d%3D%C3%A9"),
        (b"api-version=theirs&x=1", (("api-version", "ours"),), b"/base/chat?x=1&api-version=ours"),
        (b"api-key=s&a=1&KEY=s&Authorization=s&key", (), b"/base/chat?a=1"),
        (b"api_key=s&x-api-key=s&%6bey=s", (), b"/base/chat"),
        (b"keys=1&monkey=2&v=key", (), b"/base/chat?keys=1&monkey=2&v=key"),
    ],
)
def test_the_target_upstream(query: bytes, extra: tuple[tuple[str, str], ...], expected: bytes) -> None:
    """The query passes byte for byte, without credentials, with what is configured."""
    assert target(b"/base", b"/chat", query, extra) == expected
