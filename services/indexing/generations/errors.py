"""Errors of generations.

GenerationNotFound 404
ReindexInProgress 409        a project is indexed again once at a time
TooManyGenerations 409       those given up are still being removed
NothingToReturnTo 409        the generation before was removed, or there was none
NotBuilding 409              only what is being built can be cancelled
GenerationSwitched           a version's points are in a generation that search no longer reads: write them again
"""

from shared.errors import Conflict, NotFound


class GenerationNotFound(NotFound):
    detail = "There is no such generation in this project."


class ReindexInProgress(Conflict):
    code = "reindex_in_progress"
    detail = "The project is being indexed again already; wait for it, or cancel it."


class TooManyGenerations(Conflict):
    code = "too_many_generations"
    detail = "Generations that were given up are still being removed; try again later."


class NothingToReturnTo(Conflict):
    code = "nothing_to_return_to"
    detail = "The generation before this one is no longer kept."


class NotBuilding(Conflict):
    code = "not_building"
    detail = "Only a generation that is being built can be cancelled."


class GenerationSwitched(Exception):
    """Raised while a version goes live, before anything is changed."""
