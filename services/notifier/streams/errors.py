"""Why a stream is refused."""

from shared.errors import InvalidRequest, RateLimited, Unavailable


class InvalidEventId(InvalidRequest):
    code = "invalid_event_id"
    detail = "Last-Event-ID is not a valid id of an event."


class TooManyStreams(RateLimited):
    code = "too_many_streams"
    detail = "Too many event streams are open; close some first."


class StreamsExhausted(Unavailable):
    code = "streams_exhausted"
    detail = "No more event streams can be opened here right now; try again shortly."
