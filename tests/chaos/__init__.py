"""Promises, measured while things break (RELIABILITY 7.4).

    make chaos                                        # or: python -m tests.chaos; three minutes
    make chaos ARGS="--beside litellm --markdown"     # the same with LiteLLM's proxy beside it, as Markdown
    python -m tests.chaos --only kill,storm --scale 0.2 --seed 7

Exit status 1 if this router breaks a promise. It uses free ports of 127.0.0.1 and a folder under the system's temporary
one, and ends only what it started. `test_chaos_promises.py` plays every scenario small, as part of the tests.

Scenarios (what `--only` takes)

- kill: one of four upstreams resets its connections and refuses new ones, and comes back.
- freeze: one of four stands still, as a process that is stopped or a black hole: connections are accepted, nothing is
  answered, open streams fall silent; it goes on later.
- storm: one of eight answers everything with 429 at once.
- truncate: streams are cut at eight places in seven ways, and users of the SDKs read them in programs of their own.
  Nineteen of twenty are cut; the others must be whole, so that answering everything with an error keeps no promise.
  Here no system takes upstreams out, since nearly every answer fails, and all are asked as fast as the SDKs can.
- limits: fifty clients on one key ask, stream, leave and are refused; every record is compared with what the upstream
  reported for that request.
- reloads: the configuration changes a hundred times in ten seconds.
- stop: SIGTERM while streams are open and requests still come.

How

- The gateway is a process of its own. Load and upstreams share one more; what an upstream takes is scripted, so what a
  client waits beyond that was added: by the gateway, and by a machine that has too few cores for all this. Compare the
  figures before and during an outage with each other, not with those of another run.
- Open loop: requests start when they are due, whatever happened to those before. Half of them are streams.
- Every answer names its request, and is compared with what the upstream said: text, reason to end, last marker.
- The router has its defaults, but for deadlines of 30 s, and 2 s for `freeze`: the same in both systems.

The other system: LiteLLM's proxy, in an environment of its own (`litellm.lock`), one process, as the router is one

- A request costs it so much time of a core that 300 requests/s are beyond one process. It is asked at a rate that it
  serves with ease, or its overload would pass for intolerance of faults; fewer requests meet an outage then. Figures
  before an outage show whether it was well: if it was not, that row is void.
- It runs offline: with the price map of its package, without telemetry, behind a proxy setting that refuses.
- Its settings are those that its documentation recommends for reliability:

      model_list:                           # one entry for each upstream, all with one name
        - model_name: m
          litellm_params: {model: openai/m, api_base: http://127.0.0.1:PORT/v1, api_key: …}
      router_settings:
        routing_strategy: simple-shuffle    # what it recommends for production
        num_retries: 3
        retry_after: 0
        allowed_fails: 3                    # failures of a deployment in a minute before it is cooled down
        cooldown_time: 30
        timeout: 30                         # 2 for `freeze`
        stream_timeout: 30
        disable_cooldowns: false            # true for `truncate`
      general_settings: {master_key: …}

  A retry skips the deployments that failed. What is not named here is as it is by default.
- Limits of keys need a database there and a changed file a restart: those rows are the router's alone.

Modules: `upstreams` and `cuts` (what answers, and how it fails), `load` (who asks, and what came of it), `systems`,
`outages`, `truncation`, `accounts`, `changes` (the scenarios), `stage` and `report` (what goes into one and what comes
out), `sdk_streams.py` and `sdk_streams.mjs` (the programs with the SDKs), `__main__` (the run).
"""
