"""Why settings of LiteLLM's are not carried, and what to do instead: by section, by name.

What is not named here and not carried either is told with the reason of its section.
"""

from __future__ import annotations

from typing import Final

_DATABASE: Final = "there is no database: keys and models stand in the file, which is read anew when it changes"
_KEYS: Final = "clients' keys and their limits stand under `keys` in the file; `llm-router key new` makes one"
_REDIS: Final = "nothing is shared between processes: limits are counted in each"
_CONTENT: Final = "the router does not look into what is said: no guardrails, caches or rewriting"
_LOGS: Final = "callbacks do not exist: see the access log, the metrics, and traces by OpenTelemetry"
_COOLDOWN: Final = "what takes an upstream out is under `defaults.ejection`; a 429 is heeded by itself"
_BUDGET: Final = "amounts of money are counted in the access log and the metrics, but limit nothing"
_TAGS: Final = "models are chosen by their name alone: give what is tagged a name of its own"
_FETCHED: Final = "prices stand under `price` of each model; none are looked up"
_PROBES: Final = "an upstream is judged by the requests it gets"
_WINDOW: Final = "how much a model can take is not known here: its upstream answers what is too long"
_ERRORS: Final = "an error of this kind is not told from others: it goes to the client; `fallback` is for failures"
_SIGNED: Final = "the router signs no requests for clouds: it sends api_key"

SECTIONS: Final = {
    "include": "other files are not read: import each of them",
    "guardrails": _CONTENT,
    "guardrails_settings": _CONTENT,
    "prompts": _CONTENT,
    "policies": _CONTENT,
    "mcp_servers": "tools are not called by the router",
    "mcp_tools": "tools are not called by the router",
    "search_tools": "tools are not called by the router",
    "vector_store_registry": "vector stores are their provider's: `pins` may carry the paths of one account",
    "vector_stores": "vector stores are their provider's: `pins` may carry the paths of one account",
    "files_settings": "files live in one account: give its upstream under `pins`, as in `pins: {files: NAME}`",
    "finetune_settings": "jobs live in one account: give its upstream under `pins`, as in `pins: {fine_tuning: NAME}`",
    "assistant_settings": "assistants live in one account: give its upstream under `pins`",
    "credential_list": "give each model its api_key and api_base in place of a credential's name, and import again",
    "callback_settings": _LOGS,
    "environment_variables": "the environment is set outside the file, for instance by systemd's EnvironmentFile=",
}
SECTION: Final = "there is nothing like this section here"

MODEL: Final = "it says nothing that the router needs: a member is an upstream, a model there, a weight and a tier"

PARAMS: Final = {
    "drop_params": "what an upstream cannot take is left out by name: see its `drop_params`; some presets have them",
    "max_retries": "tries are counted for a request, not for a member: `defaults.retry.attempts`",
    "num_retries": "tries are counted for a request, not for a member: `defaults.retry.attempts`",
    "allowed_fails": _COOLDOWN,
    "cooldown_time": _COOLDOWN,
    "max_budget": _BUDGET,
    "budget_duration": _BUDGET,
    "tags": _TAGS,
    "tag_regex": _TAGS,
    "mock_response": "the router answers nothing by itself; `llm-router demo` has upstreams that do",
    "mock_timeout": "the router answers nothing by itself; `llm-router demo` has upstreams that do",
    "ssl_verify": "certificates are always checked: an authority of your own goes under `tls.ca`",
    "azure_ad_token": "give the token as api_key, with `auth: bearer`, and renew it by a file",
    "tenant_id": _SIGNED,
    "client_id": _SIGNED,
    "client_secret": _SIGNED,
    "azure_username": _SIGNED,
    "azure_password": _SIGNED,
    "guardrails": _CONTENT,
    "itpm": "tokens are limited together: `limits.tokens_per_minute` of the upstream",
    "otpm": "tokens are limited together: `limits.tokens_per_minute` of the upstream",
    "region_name": "where a request goes is what its upstream is: make pools of those that may serve it",
    "use_chat_completions_api": "a request is sent to the endpoint that the client called",
    "keepalive_seconds": "silent streams get heartbeats by `defaults.streams`",
    "configurable_clientside_auth_params": "clients choose no upstreams: they have a key of the router's",
}
PARAM: Final = "LiteLLM adds it to requests; the router sends what the client wrote"

INFO: Final = {
    "id": "a member has no id of its own: metrics and log lines name upstream and model",
    "base_model": _FETCHED,
    "max_tokens": _WINDOW,
    "max_input_tokens": _WINDOW,
    "max_output_tokens": _WINDOW,
    "access_groups": "what a key may use stands under `keys`: its `models`",
    "team_id": _KEYS,
    "health_check_timeout": _PROBES,
    "health_check_model": _PROBES,
    "disable_background_health_check": _PROBES,
}
PRICE: Final = "a price of this kind does not exist here: see `price` in config/router.yaml"

ROUTER: Final = {
    "context_window_fallbacks": _ERRORS,
    "content_policy_fallbacks": _ERRORS,
    "max_fallbacks": "every model under `fallback` is tried, within the deadline",
    "retry_after": "another member is tried at once; who said 429 rests as long as it asks",
    "retry_policy": "which failures are tried again is fixed; how often is `defaults.retry`",
    "model_group_retry_policy": "which failures are tried again is fixed; how often is `defaults.retry`",
    "allowed_fails_policy": _COOLDOWN,
    "disable_cooldowns": "members that fail are always passed over; `defaults.ejection` says when",
    "redis_host": _REDIS,
    "redis_port": _REDIS,
    "redis_password": _REDIS,
    "redis_url": _REDIS,
    "redis_db": _REDIS,
    "cache_responses": _CONTENT,
    "cache_kwargs": _CONTENT,
    "caching_groups": _CONTENT,
    "enable_pre_call_checks": _WINDOW,
    "optional_pre_call_checks": "of these one exists: who comes back to what an upstream keeps is led there (`sticky`)",
    "enable_tag_filtering": _TAGS,
    "tag_filtering_match_any": _TAGS,
    "routing_strategy_args": "a member is chosen by weight and by what it has in flight; there is nothing to adjust",
    "routing_groups": "`choose` of a model says how its members are chosen; `tier` sets some before others",
    "default_litellm_params": PARAM,
    "default_max_parallel_requests": "give each upstream its `limits.concurrency`",
    "provider_budget_config": _BUDGET,
    "default_priority": "requests are not ordered: a full upstream is passed over",
    "polling_interval": "requests are not ordered: a full upstream is passed over",
}
ROUTER_SETTING: Final = "the router chooses and retries by `defaults`, where there is nothing like it"

LITELLM: Final = {
    **ROUTER,
    "drop_params": PARAMS["drop_params"],
    "modify_params": _CONTENT,
    "cache": _CONTENT,
    "cache_params": _CONTENT,
    "callbacks": _LOGS,
    "success_callback": _LOGS,
    "failure_callback": _LOGS,
    "service_callbacks": _LOGS,
    "service_callback": _LOGS,
    "max_budget": _BUDGET,
    "budget_duration": _BUDGET,
    "max_internal_user_budget": _BUDGET,
    "default_team_settings": _KEYS,
    "default_internal_user_params": _KEYS,
    "key_generation_settings": _KEYS,
    "upperbound_key_generate_params": _KEYS,
    "default_key_generate_params": _KEYS,
    "ssl_verify": PARAMS["ssl_verify"],
    "ssl_certificate": "a certificate to show goes under `tls.cert` of the upstream",
    "force_ipv4": "addresses are tried as the system orders them",
    "guardrails": _CONTENT,
    "mcp_aliases": "tools are not called by the router",
    "custom_provider_map": "code of yours is not run inside the router",
}
LITELLM_SETTING: Final = "it is of LiteLLM's library; there is nothing like it here"

GENERAL: Final = {
    "database_url": _DATABASE,
    "database_type": _DATABASE,
    "database_args": _DATABASE,
    "database_connection_pool_limit": _DATABASE,
    "database_connection_timeout": _DATABASE,
    "store_model_in_db": _DATABASE,
    "proxy_batch_write_at": _DATABASE,
    "proxy_budget_rescheduler_min_time": _BUDGET,
    "proxy_budget_rescheduler_max_time": _BUDGET,
    "allow_requests_on_db_unavailable": _DATABASE,
    "store_prompts_in_spend_logs": "the log never holds what is said",
    "alerting": "alerts are Prometheus rules: see deploy/prometheus",
    "alerting_threshold": "alerts are Prometheus rules: see deploy/prometheus",
    "alerting_args": "alerts are Prometheus rules: see deploy/prometheus",
    "alert_types": "alerts are Prometheus rules: see deploy/prometheus",
    "alert_to_webhook_url": "alerts are Prometheus rules: see deploy/prometheus",
    "background_health_checks": _PROBES,
    "health_check_interval": _PROBES,
    "health_check_concurrency": _PROBES,
    "pass_through_endpoints": "`passthrough_unknown_paths` carries paths that are not known, if a model is named",
    "custom_auth": _KEYS,
    "enable_jwt_auth": _KEYS,
    "litellm_jwtauth": _KEYS,
    "allowed_routes": _KEYS,
    "key_management_system": "secrets come from the environment, files or systemd credentials",
    "key_management_settings": "secrets come from the environment, files or systemd credentials",
    "use_google_kms": "secrets come from the environment, files or systemd credentials",
    "use_azure_key_vault": "secrets come from the environment, files or systemd credentials",
    "completion_model": "a request without a model is refused, but where `default_models` gives one",
    "max_parallel_requests": "give each upstream its `limits.concurrency`",
    "global_max_parallel_requests": "give each key or upstream its `limits.concurrency`",
    "infer_model_from_keys": "what a key may use stands under `keys`: its `models`",
    "otel": "traces are switched on by their own section: see config/router.yaml",
}
GENERAL_SETTING: Final = "it is of LiteLLM's proxy, its database or its pages; there is nothing like it here"
