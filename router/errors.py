"""Errors: whose fault is it, which status does the client get, how is it named on the wire.

```
RouterError
├─ ConfigError       the operator's: all faults in one, before anything is bound      exit 78
└─ Problem           one answer of our own making; what it is stands in its `Kind`
   ├─ RequestError   the client's: invalid, unauthenticated, unknown model, too large 400 401 403 404 405 413
   ├─ Refused        ours: limited, overloaded, draining, nobody eligible             429 503
   └─ UpstreamError  the upstreams', after every attempt that could help              502 504
```
`TABLE` is the whole of PROTOCOL section 7.2 as far as the router says it; `protocol.envelope` renders it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What went wrong, by the `reason` that stands in the error envelope (PROTOCOL 7.2)."""

    MALFORMED_HTTP = "malformed_http"
    INVALID_JSON = "invalid_json"
    DUPLICATE_PARAMETER = "duplicate_parameter"
    MISSING_PARAMETER = "missing_required_parameter"
    INVALID_TYPE = "invalid_type"
    INVALID_MULTIPART = "invalid_multipart"
    UNSUPPORTED_PARAMETER = "unsupported_parameter"
    BODY_TIMEOUT = "request_timeout"
    MISSING_KEY = "missing_api_key"
    INVALID_KEY = "invalid_api_key"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    MODEL_NOT_FOUND = "model_not_found"
    UNKNOWN_ENDPOINT = "unknown_endpoint"
    NOT_FOUND = "not_found"
    UNSUPPORTED_ENDPOINT = "unsupported_endpoint_for_model"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UPGRADE_REQUIRED = "upgrade_required"
    REQUEST_TOO_LARGE = "request_too_large"
    TOO_LARGE_DECODED = "request_too_large_after_decoding"
    CONTENT_ENCODING = "content_encoding"
    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    CONCURRENT_REQUESTS = "concurrent_requests"
    UPSTREAM_RATE_LIMITED = "upstream_rate_limited"
    OVERLOADED = "overloaded"
    NO_HEALTHY_UPSTREAM = "no_healthy_upstream"
    STICKY_UPSTREAM_DOWN = "sticky_upstream_down"
    DRAINING = "draining"
    UPSTREAM_CONNECTION = "upstream_connection"
    UPSTREAM_PROTOCOL = "upstream_protocol"
    UPSTREAM_TRUNCATED = "upstream_truncated"
    UPSTREAM_AUTH = "upstream_auth"
    UPSTREAM_QUOTA = "upstream_quota"
    UPSTREAM_MODEL_MISSING = "upstream_model_missing"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    INTERNAL = "internal"


class Row(NamedTuple):
    """One row of PROTOCOL 7.2: the status and the names the three dialects have for it."""

    status: int
    type: str
    openai_type: str
    openai_code: str
    anthropic_type: str


_INVALID = "invalid_request_error"
_LIMITED = "rate_limit_exceeded"

TABLE: dict[Kind, Row] = {
    Kind.MALFORMED_HTTP: Row(400, "invalid_request", _INVALID, "malformed_http", _INVALID),
    Kind.INVALID_JSON: Row(400, "invalid_request", _INVALID, "invalid_json", _INVALID),
    Kind.DUPLICATE_PARAMETER: Row(400, "invalid_request", _INVALID, "duplicate_parameter", _INVALID),
    Kind.MISSING_PARAMETER: Row(400, "invalid_request", _INVALID, "missing_required_parameter", _INVALID),
    Kind.INVALID_TYPE: Row(400, "invalid_request", _INVALID, "invalid_type", _INVALID),
    Kind.INVALID_MULTIPART: Row(400, "invalid_request", _INVALID, "invalid_multipart", _INVALID),
    Kind.UNSUPPORTED_PARAMETER: Row(400, "invalid_request", _INVALID, "unsupported_parameter", _INVALID),
    Kind.BODY_TIMEOUT: Row(408, "invalid_request", _INVALID, "request_timeout", _INVALID),
    Kind.MISSING_KEY: Row(401, "unauthorized", _INVALID, "missing_api_key", "authentication_error"),
    Kind.INVALID_KEY: Row(401, "unauthorized", _INVALID, "invalid_api_key", "authentication_error"),
    Kind.MODEL_NOT_ALLOWED: Row(403, "forbidden", _INVALID, "model_not_allowed", "permission_error"),
    Kind.ORIGIN_NOT_ALLOWED: Row(403, "forbidden", _INVALID, "origin_not_allowed", "permission_error"),
    Kind.MODEL_NOT_FOUND: Row(404, "not_found", _INVALID, "model_not_found", "not_found_error"),
    Kind.UNKNOWN_ENDPOINT: Row(404, "not_found", _INVALID, "unknown_endpoint", "not_found_error"),
    Kind.NOT_FOUND: Row(404, "not_found", _INVALID, "not_found", "not_found_error"),
    Kind.UNSUPPORTED_ENDPOINT: Row(400, "invalid_request", _INVALID, "unsupported_endpoint_for_model", _INVALID),
    Kind.METHOD_NOT_ALLOWED: Row(405, "method_not_allowed", _INVALID, "method_not_allowed", _INVALID),
    Kind.UPGRADE_REQUIRED: Row(426, "upgrade_required", _INVALID, "upgrade_required", _INVALID),
    Kind.REQUEST_TOO_LARGE: Row(413, "payload_too_large", _INVALID, "request_too_large", "request_too_large"),
    Kind.TOO_LARGE_DECODED: Row(
        413, "payload_too_large", _INVALID, "request_too_large_after_decoding", "request_too_large"
    ),
    Kind.CONTENT_ENCODING: Row(415, "unsupported_media_type", _INVALID, "content_encoding", _INVALID),
    Kind.REQUESTS_PER_MINUTE: Row(429, "rate_limited", "requests", _LIMITED, "rate_limit_error"),
    Kind.TOKENS_PER_MINUTE: Row(429, "rate_limited", "tokens", _LIMITED, "rate_limit_error"),
    Kind.CONCURRENT_REQUESTS: Row(429, "rate_limited", "rate_limit_error", _LIMITED, "rate_limit_error"),
    Kind.UPSTREAM_RATE_LIMITED: Row(
        429, "rate_limited", "rate_limit_error", "upstream_rate_limited", "rate_limit_error"
    ),
    Kind.OVERLOADED: Row(503, "unavailable", "server_error", "overloaded", "overloaded_error"),
    Kind.NO_HEALTHY_UPSTREAM: Row(503, "unavailable", "server_error", "no_healthy_upstream", "overloaded_error"),
    Kind.STICKY_UPSTREAM_DOWN: Row(503, "unavailable", "server_error", "sticky_upstream_down", "overloaded_error"),
    Kind.DRAINING: Row(503, "unavailable", "server_error", "draining", "overloaded_error"),
    Kind.UPSTREAM_CONNECTION: Row(502, "bad_gateway", "server_error", "upstream_connection", "api_error"),
    Kind.UPSTREAM_PROTOCOL: Row(502, "bad_gateway", "server_error", "upstream_protocol", "api_error"),
    Kind.UPSTREAM_TRUNCATED: Row(502, "bad_gateway", "server_error", "upstream_truncated", "api_error"),
    Kind.UPSTREAM_AUTH: Row(502, "bad_gateway", "server_error", "upstream_auth", "api_error"),
    Kind.UPSTREAM_QUOTA: Row(502, "bad_gateway", "server_error", "upstream_quota", "api_error"),
    Kind.UPSTREAM_MODEL_MISSING: Row(502, "bad_gateway", "server_error", "upstream_model_missing", "api_error"),
    Kind.UPSTREAM_ERROR: Row(502, "bad_gateway", "server_error", "upstream_error", "api_error"),
    Kind.UPSTREAM_TIMEOUT: Row(504, "gateway_timeout", "server_error", "upstream_timeout", "timeout_error"),
    Kind.INTERNAL: Row(500, "internal_error", "server_error", "internal", "api_error"),
}


class RouterError(Exception):
    """Everything the router raises on purpose."""


class ConfigError(RouterError):
    """The configuration cannot be used; carries every fault that was found, in the order of the file."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
        """Each `file:line:column: path: what is wrong, and what may have been meant`."""


class Problem(RouterError):
    """One answer of our own making: its kind, a sentence for a human, and when to come back."""

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.param = param
        """The request member that is at fault, if one is."""
        self.retry_after_s = retry_after_s
        """Seconds until another try may succeed, sent as whole seconds and milliseconds; None: not sent."""
        self.should_retry = should_retry
        """What `x-should-retry` says; None: not sent, the client's own rules hold."""
        self.close = close
        """The connection cannot carry another request after this answer."""

    @property
    def status(self) -> int:
        """The HTTP status of this answer."""
        return TABLE[self.kind].status


class RequestError(Problem):
    """The client's fault: the same request will fail again."""


class Refused(Problem):
    """Ours: the request is fine, but not now."""


class UpstreamError(Problem):
    """The upstreams' fault, after every attempt that could help."""
