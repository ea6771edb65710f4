"""Two tenants at once, with whatever chance makes of the API's own document and of a model: `uv run fuzz`.

- `openapi`: schemathesis makes requests from the merged OpenAPI document, one tenant in each of two processes; ids are
  the tenant's own, its victim's, deleted or invented ones, and what earlier answers gave.
- `machine`: Hypothesis runs programs of people of two tenants against a model that says what each is to be told.
- `checks`: what is wrong with an answer, whoever asked; `aftermath`: what must not have been left behind.
"""
