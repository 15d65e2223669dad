"""What would happen to a request, and why: `llm-router explain` and `POST /-/explain`."""
