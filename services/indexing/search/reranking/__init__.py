"""Ranking the best passages of a search once more, by a model that reads query and passage together.

`endpoint` is the only model there is so far, an HTTP API; `order` is what a search does with it.
"""
