"""The soak: the daemon for minutes or hours among faulty upstreams and rude clients (RELIABILITY 6.2, points 4 and 5).

`python -m tests.soak` starts the program as operators do, and beside it, in one process, six scripted upstreams and 200
streaming clients with a few of other kinds. Upstreams fail by a seeded plan (`plan`, `servers`), clients leave, dawdle
and send nonsense (`clients`), and the configuration changes every five seconds (`reloads`). `books` compares what each
client saw with what the upstreams did to it and with the record in the access log; `watch` looks at the process every
second, `slopes` judges the curves, `draw` draws them. The run fails if anything is left unexplained, or grows.
"""
