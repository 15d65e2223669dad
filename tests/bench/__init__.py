"""The public benchmark: what the router costs, beside nginx in the same run.

    make bench                                        # or: python -m tests.bench
    python -m tests.bench --quick                     # 50 seconds, to see that it works
    python -m tests.bench --strict --json out.json    # exit status 1 if a bound is missed; every number in a file
    python -m tests.bench --only ns,c1 --rounds 21    # two quantities, thoroughly
    python -m tests.bench --only ns --systems router --seconds 20 --rounds 1      # a steady load, to profile under

It needs Linux with two CPUs, gcc, and nginx (as root on Debian it is installed if missing); nothing else than the
standard library. It uses free ports of 127.0.0.1, works in a new folder under the system's temporary folder, stops by
itself, and ends only what it started.

What is measured (the name before the colon is what `--only` takes)

- ns: CPU per non-streamed request of 1 KB, 64 connections, as many requests as are answered.
- p100: CPU per relayed chunk, 100 streams of one 200-byte event each 20 ms.
- ts: the same for streams that the router translates (an OpenAI client, an upstream that speaks Anthropic's Messages),
  beside nginx, which relays those of p100: what the translation costs.
- mb: CPU per request with a 1 MB body that shows a picture as a data URI, 4 connections.
- c1: added latency: p50 through the system less p50 without it, one connection, one request at a time.
- p500: 500 clients that connect at the same moment, streams as above: p99 of the time to the first chunk, and chunks
  delivered per second while all streams are open.
- up: CPU per upload of 200 MB as a form whose model, which is renamed, is named behind the file; and how far resident
  memory rises in it at most. Both systems keep the form on disk until it is whole.
- boot: process start to first answer, resident memory when idle, and its growth with 1000 open streams.

How

- The system under test has CPU 0 for itself; load and upstream (`load.c`, `upstream.c`) share CPU 1 with this driver.
- CPU is the kernel's own nanosecond clock of the system's processes, read by the load at the moments its window opens
  and closes. Wall-clock throughput would measure the load as well.
- Slices are short and interleaved (nginx, router, nginx, router); each round gives one ratio, and the table shows the
  median and the quartiles of these. A machine that has slow phases slows both sides of a ratio. Never compare single
  microseconds of two runs, and let the machine do nothing else meanwhile.
- The paced streams of p100 keep no CPU busy, and waking an idle one costs now half, now double, for seconds at a time.
  So both systems have their 100 streams open together, and these take turns to speak, a quarter of a second each.
- `boot` and `up` are measured on processes that were just started: one that has worked has memory to spare.
- Each answer is compared byte for byte with what the upstream says when it is asked directly, so a wrong answer cannot
  look fast. What the upstream says of an upload is the length and the checksum of all it got. A translated stream is
  compared with the router's own first one, but for the digits of its time, and that one piece by piece with the
  upstream's stream. One difference, one missing `[DONE]`, one other status than 200 makes the quantity WRONG.
- The router runs with everything on that a daemon has on: one key with request, token and concurrency limits (never
  reached), a model that is renamed on its way, usage accounting (the streams do not ask for usage, so the router asks
  for it and hides the answer), metrics, and the access log, written to a file. nginx runs one worker with keep-alive
  both sides, no buffering of answers and no access log.

Modules: `traffic` (what is asked and answered), `processes` (pin, start, count, stop), `systems` (nginx, router and
their settings), `measure` (one slice), `report` (bounds, ratios, table), `__main__` (the run).
"""
