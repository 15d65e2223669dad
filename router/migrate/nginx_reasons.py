"""Why directives of nginx's are not carried, and which ones are not needed: by name, or by the whole directive."""

from __future__ import annotations

from typing import Final

_PROCESS: Final = "nginx's own process; the router's is set up by systemd or Kubernetes"
_COPYING: Final = "answers are always sent on as they come"
_TLS: Final = "how `listen` takes certificates is in config/router.yaml"
_TRUST: Final = "certificates of upstreams are always checked; an authority of your own goes under `tls.ca`"
_RUN_TIME: Final = "what is decided for each request by variables is not: models, keys and weights decide"
_NO_FILES: Final = "the router serves no files and answers nothing of its own there"
_ACCESS: Final = "who may use it is said by `keys`"
_RATES: Final = "rates are limited under `keys` and under an upstream's `limits`"
_AFFINITY: Final = "clients are not bound to servers: members are chosen by weight and by what they have in flight"
_CACHE: Final = "nothing is cached"
_HEADERS: Final = "the headers of answers pass as they are"
_RETRIES: Final = "which failures are tried again is fixed: `defaults.retry` says how often"

NEEDLESS: Final = {
    "user": _PROCESS,
    "worker_processes": _PROCESS,
    "worker_rlimit_nofile": _PROCESS,
    "worker_cpu_affinity": _PROCESS,
    "pid": _PROCESS,
    "daemon": _PROCESS,
    "master_process": _PROCESS,
    "events": _PROCESS,
    "load_module": _PROCESS,
    "pcre_jit": _PROCESS,
    "error_log": "the log is on standard output",
    "access_log": "a line for each request is on standard output: `log.access`",
    "include mime.types": "there are no files to name the types of",
    "include /etc/nginx/mime.types": "there are no files to name the types of",
    "default_type": "there are no files to name the types of",
    "types": "there are no files to name the types of",
    "types_hash_max_size": "there are no files to name the types of",
    "sendfile": _PROCESS,
    "tcp_nopush": _PROCESS,
    "tcp_nodelay": _PROCESS,
    "server_tokens": "answers do not name the router",
    "server_name": "requests are served whatever host they ask for",
    "proxy_http_version": "upstreams are always asked by HTTP/1.1",
    "proxy_buffering off": _COPYING,
    "proxy_buffer_size": _COPYING,
    "proxy_buffers": _COPYING,
    "proxy_busy_buffers_size": _COPYING,
    "proxy_cache off": _CACHE,
    "proxy_redirect": "no address in answers is rewritten",
    "proxy_redirect off": "no address in answers is rewritten",
    "proxy_socket_keepalive": "dead connections are noticed by their deadlines",
    "chunked_transfer_encoding": "answers keep the framing that their client understands",
    "proxy_ssl_server_name on": "the name is always sent",
    "proxy_ssl_session_reuse": "TLS connections are kept open",
    "proxy_ssl_verify on": "certificates are always checked",
    "proxy_request_buffering": "a body is held until a member has taken it: it may have to be sent again",
    "client_body_buffer_size": "bodies are held in memory, large forms on disk",
    "zone": "one process knows the state of all servers",
    "gzip off": "answers pass as they are",
}
"""What the router does, or needs, in no other way."""

DIRECTIVES: Final = {
    "variable": _RUN_TIME,
    "include": "other files are not read: write what it holds in its place, or import it by itself",
    "map": _RUN_TIME,
    "geo": _RUN_TIME,
    "split_clients": "shares are the `weight` of members",
    "if": _RUN_TIME,
    "set": _RUN_TIME,
    "rewrite": _RUN_TIME,
    "return": _NO_FILES,
    "root": _NO_FILES,
    "alias": _NO_FILES,
    "index": _NO_FILES,
    "try_files": _NO_FILES,
    "error_page": "errors have the form that clients of the API expect",
    "stream": "only HTTP is carried",
    "mail": "only HTTP is carried",
    "ip_hash": _AFFINITY,
    "hash": _AFFINITY,
    "sticky": _AFFINITY,
    "least_time": _AFFINITY,
    "random": "of two members the one with less in flight is taken",
    "queue": "a full upstream is passed over; nothing waits for it",
    "keepalive": "how many idle connections are kept is `idle_connections` of an upstream",
    "keepalive_requests": "connections are kept by time alone",
    "keepalive_time": "connections are kept by time alone",
    "slow_start": "a server that comes back is tried with one request",
    "route": _AFFINITY,
    "service": "give each server its address",
    "resolver": "names are looked up by the system",
    "health_check": "an upstream is judged by the requests it gets",
    "match": "an upstream is judged by the requests it gets",
    "auth_basic": _ACCESS,
    "auth_basic_user_file": _ACCESS,
    "auth_request": _ACCESS,
    "allow": _ACCESS,
    "deny": _ACCESS,
    "satisfy": _ACCESS,
    "limit_req": _RATES,
    "limit_req_zone": _RATES,
    "limit_conn": _RATES,
    "limit_conn_zone": _RATES,
    "limit_rate": "answers are sent on as fast as they come",
    "ssl_certificate": _TLS,
    "ssl_certificate_key": _TLS,
    "ssl_protocols": _TLS,
    "ssl_ciphers": _TLS,
    "http2": "clients speak HTTP/1.1 to it",
    "proxy_ssl_verify": _TRUST,
    "proxy_ssl_trusted_certificate": _TRUST,
    "proxy_ssl_certificate": "the certificate to show goes under `tls.cert` of the upstream",
    "proxy_ssl_certificate_key": "its key goes under `tls.key` of the upstream",
    "proxy_send_timeout": "how long an upstream may take to read a request is no setting",
    "proxy_next_upstream": _RETRIES,
    "proxy_next_upstream_timeout": "all tries together have `timeouts.total`",
    "proxy_buffering": _COPYING,
    "proxy_cache": _CACHE,
    "proxy_cache_path": _CACHE,
    "add_header": _HEADERS,
    "more_set_headers": _HEADERS,
    "proxy_hide_header": _HEADERS,
    "proxy_pass_header": _HEADERS,
    "proxy_method": "requests are sent as clients write them",
    "proxy_set_body": "requests are sent as clients write them",
    "proxy_pass_request_headers": "which of a client's headers pass is `headers.allow` of an upstream",
    "log_format": "log lines are JSON, each with the same fields",
    "gzip": "answers pass as they are",
}
"""Why others are not carried."""
