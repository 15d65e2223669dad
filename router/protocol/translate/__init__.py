"""Between OpenAI chat and Anthropic messages, for models whose upstream speaks the other protocol (PROTOCOL 10).

Each direction has three modules: the request (`request_to_*`), the whole answer (`answer_to_*`) and the stream
(`stream_to_*`), named after the dialect that comes out. Bodies are rebuilt here, so rule 1 of PROTOCOL is off; what
has no counterpart is dropped and named, and what would change the shape of the answer is refused. Reasons to refuse a
request are `RequestError`s; nothing an upstream sends makes a function raise.
"""
