"""How the pieces of a request can be written, well and badly: the tables of `mutations`."""

from tests.hostile.chats import CHAT

METHODS = (
    b"post", b"Post", b"GET", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"P@ST", b"",
    b"POST\0", b"\xffPOST", b"P OST", b"X" * 40, b"SUBSCRIBE", b"M-SEARCH", b"SOURCE", b"HTTP/1.1", b'"POST"',
)  # fmt: skip
TARGETS = (
    b"http://other.test" + CHAT, b"http://router.test" + CHAT, b"http://u@router.test" + CHAT, b"router.test:443",
    b"https:" + CHAT, b"/" + CHAT, b"//evil" + CHAT, CHAT + b"#fragment", CHAT + b"?a#b", b"/v1/../v1/chat/completions",
    b"/v1/./chat/completions", b"/v1/%2e%2e/v1/chat/completions", b"/v1%2fchat/completions", CHAT + b"%00",
    CHAT + b"%zz", CHAT + b"%", CHAT + b"/", CHAT + b"/../../../metrics", b"/metrics", b"/-/reload", b"*", b"", b"/",
    b"\\v1\\chat\\completions", CHAT + b"\0", CHAT + b"\xff", CHAT + b"\t", CHAT + b"?\x7f", CHAT + b"?q=\xff",
    CHAT + b"?" + b"q" * 9000, CHAT + b"?q", CHAT + b"?\r\nx: y", CHAT + b";a=b", b"/V1/Chat/Completions",
    b"/v1/chat/completions%0d%0aHost:%20evil", b"/v1/responses/../chat/completions", b"/v1/files/..%2f..%2fx",
    b"/v1/models", b"/v1/models/m", b"/healthz", b"/v1/realtime", b"/v1/responses", b"/v1/unknown",
)  # fmt: skip
VERSIONS = (
    b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/2", b"HTTP/3", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1.1x",
    b"HTTP/11", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1,1", b"HTTPS/1.1", b"HTTP/1.1\0", b"", b"ICAP/1.0", b"RTSP/1.0",
    b"HTTP/1.1 HTTP/1.1", b"HTTP /1.1", b"HTTP/ 1.1", b"HTTP/+1.1", b"HTTP/\xb9.1",
)  # fmt: skip
GAPS = (b"", b"  ", b"\t", b"\x0b", b"\x0c", b"\xa0", b"\0", b"\r", b"\n", b"\r\n", b" \r\n ")
"""What stands between the parts of a request line."""

LINE_ENDS = (b"\n", b"\r", b"\r\r\n", b"\n\n", b" \r\n", b"\t\r\n", b"\0\r\n", b"\n\r", b"\x0b\r\n", b"\r\n ", b"")
"""Of a request line."""

ROWS = (
    b"x-a", b": b", b"x-a : b", b"x-a\t: b", b" x-a: b", b"\tx-a: b", b"x-a: b\r\n c", b"x-a: b\r\n\tc", b"x-a:\r\n b",
    b"x-a: \0", b"x-a: \x01", b"x-a: \x0b", b"x-a: \x7f", b"x-a: \x1f", b"x-a: b\rc", b"x-a: b\nc", b"x-a: b\n",
    b"x-a: b\r", b"x-a: b\nHost: evil", b"x-a: b\n\nGET / HTTP/1.1", b"x-a: b\r\r", b"x(a): b", b"x\0a: b",
    b"x\xffa: b", b"x@a: b", b"{}: b", b"x a: b", b'"x-a": b', b"x-a;: b", b"x-a: \xff\xfe", b"x-a: \xc3\xa9",
    b"x-a: \x80", b"x-a:", b"x-a:b", b"x-a: " + b" " * 100, b"x-a: " + b"b" * 9000, b"x-a: " + b"b" * 70_000,
    b"x" * 70_000 + b": b", b"cookie: " + b"c" * 65_000, b"\r\n".join(b"x-%d: y" % n for n in range(100)),
    b"\r\n".join(b"x-%d: y" % n for n in range(200)), b"\r\n".join(b"x-%d: y" % n for n in range(300)),
    b"\r\n".join(b"x-%d: y" % n for n in range(9000)), b"\r\n".join([b"x: y"] * 5000), b"Host: evil",
    b"host: router.test", b"Host:", b"hOsT: router.test\r\nHost: a", b"Host : evil", b"Host\t: evil",
    b"Expect: 100-continue", b"Expect: 200-ok", b"Expect: 100-continue, 100-continue", b"expect: 100-CONTINUE",
    b"Expect:", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAA",
    b"Upgrade: x\nContent-Length: 5", b"Upgrade: x\0", b"Upgrade: x\rHost: evil",
    b"Upgrade: x", b"upgrade:\r\nconnection: upgrade", b"Upgrade : h2c\r\nConnection: upgrade", b"Connection: close",
    b"Connection: keep-alive", b"Connection: CLOSE", b"Connection: keep-alive, close", b"Connection: close, keep-alive",
    b"Connection: x-mark", b"Connection: content-length, host, authorization, x-mark", b"Connection: \0",
    b"Connection: ,,,", b"Connection: close\r\nConnection: keep-alive", b"Keep-Alive: timeout=9999",
    b"Proxy-Connection: close", b"TE: trailers, chunked", b"Trailer: content-length", b"Content-Encoding: gzip",
    b"Content-Encoding: odd", b"Content-Encoding: identity", b"Content-Type: multipart/form-data; boundary=x",
    b"Content-Type: a\r\nContent-Type: b", b"Content-Range: bytes 0-1/2", b"Range: bytes=0-0",
    b"Authorization: Bearer a\r\nAuthorization: Bearer b", b"X-HTTP-Method-Override: GET", b"X-Forwarded-Host: evil",
    b"X-Request-Id: \xff\xfe", b"X-Request-Id: " + b"y" * 2000, b"X-Original-URL: /metrics", b"Content-MD5: x",
    b"Transfer-Encoding-X: chunked", b"X-Content-Length: 0", b"Content-Length-: 0", b"Max-Forwards: 0", b"\x00",
    b"\x16\x03",
)  # fmt: skip
"""Header lines beside those of the framing."""

HEAD_ENDS = {
    "lf": b"\n", "cr": b"\r", "two_cr": b"\r\r\n", "none": b"", "space": b" \r\n", "nul": b"\0\r\n", "lf_cr": b"\n\r",
    "twice": b"\r\n\r\n", "bare_lf_twice": b"\n\n",
}  # fmt: skip

BEFORE = (
    b"\r\n", b"\r\n\r\n\r\n", b"\n", b"\r", b"\n\r\n", b"\r\r\n", b" ", b"\t", b"\0", b"\xef\xbb\xbf", b"\xff\xfe",
    b" \r\n", b"\r\n" * 2000, b"x", b"GET ", b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    b"\x16\x03\x01\x02\0\1\0\1\xfc\x03\x03" + b"a" * 500, b"\x16\x03\x01\r\n\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\0", b"GET /\r\n",
    b"GET / HTTP/1.1\r\n\r\n", b"GET /health\r\n\r\n", b"SSH-2.0-x\r\n", b"\x05\x01\0", b"EHLO x\r\n",
    b"*1\r\n$4\r\nPING\r\n",
)  # fmt: skip
"""What stands in front: other protocols among it."""

HOSTS = (
    b"router.test/admin", b"a@router.test", b"router.test:x", b"", b" ", b"a b", b"a,b", b"[::1]", b"[::1", b"\xff",
    b"router.test:8080", b"a\0", b"http://a", b"a#b", b"a?b", b"a\\b", b"a" * 9000,
)  # fmt: skip
"""Values of `Host`."""

FRAMINGS: dict[str, tuple[str, ...]] = {
    "none": (),
    "length_and_chunked": ("Content-Length: {n}", "Transfer-Encoding: chunked"),
    "chunked_and_length": ("Transfer-Encoding: chunked", "Content-Length: {n}"),
    "chunked_and_zero": ("Transfer-Encoding: chunked", "Content-Length: 0"),
    "chunked_and_4": ("Transfer-Encoding: chunked", "Content-Length: 4"),
    "chunked_and_empty_length": ("Transfer-Encoding: chunked", "Content-Length:"),
    "two_lengths": ("Content-Length: {n}", "Content-Length: 5"),
    "two_lengths_short_first": ("Content-Length: 5", "Content-Length: {n}"),
    "two_equal_lengths": ("Content-Length: {n}", "Content-Length: {n}"),
    "length_in_other_case": ("Content-Length: {n}", "cONTENT-lENGTH: 0"),
    "chunked": ("Transfer-Encoding: chunked",),
    "chunked_in_capitals": ("TRANSFER-ENCODING: CHUNKED",),
    "chunked_by_underscore": ("Transfer_Encoding: chunked", "Content-Length: {n}"),
    "length_by_underscore": ("Content_Length: {n}",),
    "chunked_and_identity": ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    "identity_and_chunked": ("Transfer-Encoding: identity", "Transfer-Encoding: chunked"),
    "chunked_twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "chunked_hidden_in_value": ("X: y\nTransfer-Encoding: chunked", "Content-Length: {n}"),
    "chunked_behind_cr": ("X: y\rTransfer-Encoding: chunked", "Content-Length: {n}"),
    "length_hidden_in_value": ("X: y\nContent-Length: 0", "Content-Length: {n}"),
    "folded_coding": ("Transfer-Encoding:\r\n chunked", "Content-Length: {n}"),
    "folded_coding_alone": ("Transfer-Encoding:\r\n\tchunked",),
    "folded_length": ("Content-Length:\r\n {n}",),
    "continued_length": ("Content-Length: {n}\r\n 0",),
    "chunked_in_te": ("TE: chunked", "Content-Length: {n}"),
    "connection_names_length": ("Connection: content-length", "Content-Length: {n}"),
    "connection_names_coding": ("Connection: transfer-encoding", "Transfer-Encoding: chunked"),
}

LENGTHS = (
    "{n}", " {n} ", "\t{n}", "+{n}", "-{n}", "-0", "0", "00", "000{n}", "0x{n}", "{n}.0", "{n}e0", "1_0", "{n},",
    ",{n}", "{n}, {n}", "{n},{n}", "{n} {n}", "{n};", '"{n}"', "", " ", "\x00{n}", "{n}\x00", "\x0b{n}", "{n}\x0c",
    "{n}\xa0", "\xb2", "\xd9\xa3", "99999999999999999999", "18446744073709551616", "4294967296", "{more}", "{less}",
    "4", "{n}\r", "{n}\n", "chunked",
)  # fmt: skip
"""Values of `Content-Length`; `more` and `less` are off by one."""

CODINGS = (
    "xchunked", "chunkedx", "chunked, chunked", "chunked,", ",chunked", ", chunked", "chunked ,", "gzip, chunked",
    "chunked, gzip", "chunked, identity", "identity, chunked", "identity", "gzip", "", " ", "\tchunked", "chunked\t",
    "chunked ", "\x0bchunked", "chunked\x0b", "\x0cchunked", "chunked\x00", "\x00chunked", "chun\x00ked", "\xa0chunked",
    "chunked\xa0", '"chunked"', "'chunked'", "chunked;q=1", "chunked; x", "chunk", "chun ked", "\rchunked", "chunked\r",
    "\nchunked", "chunked\n", "\r\n chunked", "chunk\r\n ed", "cow", "deflate", "x, chunked, y", "chunked/1",
    "\x7fchunked", "\xffchunked", "trailers",
)  # fmt: skip
"""Values of `Transfer-Encoding`."""

NAMES = (
    "{} ", " {}", "\t{}", "{}\t", "{}\x00", "\x00{}", "{}\x0b", "{}\r", "{}\xa0", "{}\xad", "{}\r\n", "{}\n", "({})",
    "{}:", '"{}"', "{}\x7f", "{}\x1f", "\xff{}", "{},", "{};", "{}=", "{}/", "[{}]",
)  # fmt: skip
"""Spellings of the name of a framing line."""

CHUNKS = {
    "extension": b"%(n)x;a=b\r\n%(b)s\r\n0\r\n\r\n",
    "extension_without_value": b"%(n)x;a\r\n%(b)s\r\n0;z\r\n\r\n",
    "extension_quoted": b'%(n)x;a="b;c"\r\n%(b)s\r\n0\r\n\r\n',
    "extension_quoted_line_end": b'%(n)x;a="\r\n%(b)s\r\n0\r\n\r\n',
    "extension_empty": b"%(n)x;\r\n%(b)s\r\n0\r\n\r\n",
    "extension_spaced": b"%(n)x ; a = b\r\n%(b)s\r\n0\r\n\r\n",
    "extension_behind_bare_lf": b"%(n)x;\n%(b)s\r\n0\r\n\r\n",
    "extension_holds_lf": b"%(n)x;a\nb\r\n%(b)s\r\n0\r\n\r\n",
    "extension_holds_cr": b"%(n)x;a\rb\r\n%(b)s\r\n0\r\n\r\n",
    "extension_holds_nul": b"%(n)x;a\0b\r\n%(b)s\r\n0\r\n\r\n",
    "extension_long": b"%(n)x;" + b"a" * 20_000 + b"\r\n%(b)s\r\n0\r\n\r\n",
    "extension_of_last_holds_lf": b"%(n)x\r\n%(b)s\r\n0;\n\r\n\r\n",
    "size_in_capitals": b"%(n)X\r\n%(b)s\r\n0\r\n\r\n",
    "size_padded": b"000000%(n)x\r\n%(b)s\r\n000\r\n\r\n",
    "size_padded_far": b"0" * 300 + b"%(n)x\r\n%(b)s\r\n0\r\n\r\n",
    "size_prefixed": b"0x%(n)x\r\n%(b)s\r\n0\r\n\r\n",
    "size_signed": b"+%(n)x\r\n%(b)s\r\n0\r\n\r\n",
    "size_negative": b"-%(n)x\r\n%(b)s\r\n0\r\n\r\n",
    "size_with_space_before": b" %(n)x\r\n%(b)s\r\n0\r\n\r\n",
    "size_with_space_behind": b"%(n)x \r\n%(b)s\r\n0\r\n\r\n",
    "size_with_tab_behind": b"%(n)x\t\r\n%(b)s\r\n0\r\n\r\n",
    "size_with_junk": b"%(n)xg\r\n%(b)s\r\n0\r\n\r\n",
    "size_with_underscore": b"0_%(n)x\r\n%(b)s\r\n0\r\n\r\n",
    "size_with_nul": b"%(n)x\0\r\n%(b)s\r\n0\r\n\r\n",
    "size_empty": b"\r\n%(b)s\r\n0\r\n\r\n",
    "size_overflows": b"10000000000000000%(n)x\r\n%(b)s\r\n0\r\n\r\n",
    "size_overflows_32": b"1000000%(n)03x\r\n%(b)s\r\n0\r\n\r\n",
    "size_huge": b"fffffffffffffff\r\n%(b)s\r\n0\r\n\r\n",
    "size_too_large": b"%(m)x\r\n%(b)s\r\n0\r\n\r\n",
    "size_too_small": b"%(l)x\r\n%(b)s\r\n0\r\n\r\n",
    "size_ends_in_lf": b"%(n)x\n%(b)s\r\n0\r\n\r\n",
    "size_ends_in_cr": b"%(n)x\r%(b)s\r\n0\r\n\r\n",
    "size_ends_in_two_cr": b"%(n)x\r\r\n%(b)s\r\n0\r\n\r\n",
    "data_ends_in_lf": b"%(n)x\r\n%(b)s\n0\r\n\r\n",
    "data_ends_in_cr": b"%(n)x\r\n%(b)s\r0\r\n\r\n",
    "data_ends_in_nothing": b"%(n)x\r\n%(b)s0\r\n\r\n",
    "data_ends_in_junk": b"%(n)x\r\n%(b)sXX0\r\n\r\n",
    "data_ends_twice": b"%(n)x\r\n%(b)s\r\n\r\n0\r\n\r\n",
    "last_ends_in_lf": b"%(n)x\r\n%(b)s\r\n0\n\r\n",
    "last_ends_in_two_lf": b"%(n)x\r\n%(b)s\r\n0\n\n",
    "last_ends_in_cr": b"%(n)x\r\n%(b)s\r\n0\r\r\n",
    "last_without_empty_line": b"%(n)x\r\n%(b)s\r\n0\r\n",
    "last_empty_line_is_lf": b"%(n)x\r\n%(b)s\r\n0\r\n\n",
    "last_missing": b"%(n)x\r\n%(b)s\r\n",
    "last_joined": b"%(n)x\r\n%(b)s\r\n0",
    "last_negative": b"%(n)x\r\n%(b)s\r\n-0\r\n\r\n",
    "two_chunks": b"1\r\n{\r\n%(l)x\r\n%(tail)s\r\n0\r\n\r\n",
    "trailer": b"%(n)x\r\n%(b)s\r\n0\r\nx-a: b\r\n\r\n",
    "trailer_length": b"%(n)x\r\n%(b)s\r\n0\r\nContent-Length: 5\r\n\r\n",
    "trailer_coding": b"%(n)x\r\n%(b)s\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer_host": b"%(n)x\r\n%(b)s\r\n0\r\nHost: evil\r\n\r\n",
    "trailer_key": b"%(n)x\r\n%(b)s\r\n0\r\nAuthorization: Bearer x\r\nx-mark: other\r\n\r\n",
    "trailer_folded": b"%(n)x\r\n%(b)s\r\n0\r\nx-a: b\r\n c\r\n\r\n",
    "trailer_without_colon": b"%(n)x\r\n%(b)s\r\n0\r\nabc\r\n\r\n",
    "trailer_without_name": b"%(n)x\r\n%(b)s\r\n0\r\n: abc\r\n\r\n",
    "trailer_spaced": b"%(n)x\r\n%(b)s\r\n0\r\nx-a : b\r\n\r\n",
    "trailer_nul": b"%(n)x\r\n%(b)s\r\n0\r\nx-a: \0\r\n\r\n",
    "trailer_cr": b"%(n)x\r\n%(b)s\r\n0\r\nx-a: b\rc\r\n\r\n",
    "trailer_lf": b"%(n)x\r\n%(b)s\r\n0\r\nx-a: b\n\r\n",
    "trailer_many": b"%(n)x\r\n%(b)s\r\n0\r\n" + b"x-a: b\r\n" * 3000 + b"\r\n",
    "trailer_long": b"%(n)x\r\n%(b)s\r\n0\r\nx-a: " + b"b" * 100_000 + b"\r\n\r\n",
    "trailer_is_a_request": b"%(n)x\r\n%(b)s\r\n0\r\nPOST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n",
}
"""Bodies in chunks: `b` is the data, `n` its length, `m` and `l` one more and one less."""
