"""A load-balancing router between OpenAI-compatible clients and many upstreams.

```
cli → app → relay      the data path: downstream, exchange, upstream, stream
          → web        what the router answers itself: admin listener, models, errors of unknown paths
          → telemetry  consumers of events: metrics, access log
relay, web → policy    decisions: no await, no clock, no socket
           → protocol  wire formats: bytes in, values out
```
Everybody may use `config`, `errors` and `events`.
"""

__version__ = "0.1.0"
