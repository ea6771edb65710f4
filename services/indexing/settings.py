"""Settings of the indexing service: `QUARRY_INDEXING_<NAME>`."""

from pathlib import Path
from typing import ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, ConfigDict, Field, Json, SecretStr, ValidationInfo, field_validator, model_validator

from shared.settings import DatabaseSettings

BUNDLED: Final = "bundled"

_LONGEST_SOCKET_PATH = 91
"""The kernel takes 107 bytes; a socket is bound under a longer name first (vectors/embedded/engine_server.py), and its
name may tell the length of vectors."""


class EmbeddingEndpoint(BaseModel):
    """An OpenAI-compatible API that embeds texts: `POST {url}/embeddings`.

    `name` identifies the vectors: give another whenever another model, another prefix or another length of vectors is
    meant, and keep it when only the address changes. `query_prefix` and `passage_prefix` are put before texts, for
    models that tell them apart. A request has at most `batch` texts and takes at most `timeout_seconds`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/@:-]{0,99}$")
    url: str
    model: str = Field(min_length=1)
    dimensions: int = Field(ge=1, le=65_535)
    api_key: SecretStr | None = None
    query_prefix: str = ""
    passage_prefix: str = ""
    batch: int = Field(default=32, ge=1, le=2_048)
    timeout_seconds: float = Field(default=20.0, gt=0, le=300)

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name == BUNDLED:
            raise ValueError(f"{BUNDLED} is the bundled embedder")
        return name

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        return _http(url).rstrip("/")


def _http(url: str) -> str:
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise ValueError("must be an http or https url")
    return url


class ChatModelSettings(BaseModel):
    """An OpenAI-compatible chat endpoint and one of its models.

    `url` is what `/chat/completions` is appended to, as in `https://api.example.com/v1`. `token_parameter` is the name
    under which the endpoint takes the limit of an answer. A call may be silent for `chunk_seconds`, however long it
    takes in all. A process makes `concurrency` calls at a time, half of them for one tenant at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str
    model: str = Field(min_length=1, max_length=200)
    api_key: SecretStr | None = None
    max_tokens: int = Field(default=1024, ge=16, le=65_536)
    token_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # noqa: S105  # of an answer
    chunk_seconds: float = Field(default=60.0, gt=0, le=600)
    concurrency: int = Field(default=16, ge=1, le=256)

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        return _http_url(url).rstrip("/")


def _http_url(url: str) -> str:
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise ValueError("must be an http or https url")
    return url


class RerankingEndpoint(BaseModel):
    """An HTTP reranker and one of its models.

    `url` is what `/rerank` is appended to, as in `https://api.example.com/v1`. A search waits `timeout_seconds` for it
    at most, and then does without.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str
    model: str = Field(min_length=1, max_length=200)
    api_key: SecretStr | None = None
    timeout_seconds: float = Field(default=2.0, gt=0, le=4)

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        return _http_url(url).rstrip("/")


class IndexingSettings(DatabaseSettings):
    """`data_dir` holds the embedded vector store and files under way; `model_dir` caches the bundled embedder.

    Where vectors are, at most one of three; with none the process owns the engine in `data_dir` and does not share it:

    - `vectors_listen`: as with none, and other processes of the service may use the engine through this Unix socket.
    - `vectors_socket`: the engine of the process that listens there.
    - `qdrant_url`: a Qdrant server, over gRPC at `qdrant_grpc_port` of the URL's host. `https` means TLS.

    With `extraction_confinement` at `required` a process that cannot confine the reading of documents from files,
    network and other processes does not start; at `best_effort` it starts, and logs what is missing.

    A process works on `job_concurrency` jobs at a time. Those that take long are counted separately:
    `long_job_concurrency` of them run beside the others, and the rest wait. So are other jobs of tenants that had a
    long one lately: a quarter as many.

    It executes `run_concurrency` runs of agents at a time, half of them of one tenant at most. A claim on a run
    outlives its worker by at most `run_claim_seconds`; it is renewed at least four times as often.

    `chat_models` is a JSON object of chat models by name (`ChatModelSettings`); `answer_model` names the one that
    writes answers. Without it answers are quoted from the documents, and no model is called.

    `reranker` is a JSON object, a `RerankingEndpoint`; without it no search is reranked.

    A lease outlives its worker by at most `job_lease_seconds`; it is renewed three times as often.

    `embedder` names the one with which new generations are made: `bundled`, or one of `embedding_endpoints`, a JSON
    array of `EmbeddingEndpoint`. Those that older generations were made with have to stay for as long as these do.
    A generation that was replaced is kept for `generation_kept_seconds`; every `drift_check_seconds` the points of a
    project are compared with its chunks.
    """

    service: ClassVar[str] = "indexing"

    projects_url: str
    data_dir: Path
    model_dir: Path
    vectors_listen: Path | None = None
    vectors_socket: Path | None = None
    qdrant_url: str | None = None
    qdrant_grpc_port: int = Field(default=6334, ge=1, le=65535)
    qdrant_api_key: SecretStr | None = Field(default=None, validate_default=True)
    qdrant_collection: str = Field(default="quarry", pattern=r"^[a-z0-9_-]{1,64}$")
    embedder: str = BUNDLED
    embedding_endpoints: Json[tuple[EmbeddingEndpoint, ...]] = Field(default=(), validate_default=False)
    generation_kept_seconds: float = Field(default=86_400, ge=60, le=31_536_000)
    drift_check_seconds: float = Field(default=86_400, ge=60, le=31_536_000)
    job_concurrency: int = Field(default=4, ge=1, le=64)
    long_job_concurrency: int = Field(default=2, ge=1, le=64)
    job_lease_seconds: float = Field(default=10.0, ge=0.5, le=600)
    job_max_attempts: int = Field(default=8, ge=1, le=100)
    run_concurrency: int = Field(default=16, ge=1, le=256)
    run_claim_seconds: float = Field(default=8.0, ge=1, le=600)
    embedding_threads: int = Field(default=2, ge=1, le=64)
    extraction_processes: int = Field(default=2, ge=1, le=64)
    extraction_confinement: Literal["required", "best_effort"] = "required"
    chat_models: dict[str, ChatModelSettings] = Field(default_factory=dict)
    answer_model: str | None = Field(default=None, validate_default=True)
    reranker: RerankingEndpoint | None = None

    @field_validator("vectors_listen", "vectors_socket")
    @classmethod
    def _is_socket_path(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError("must be the absolute path of a socket")
        if path is not None and len(str(path).encode()) > _LONGEST_SOCKET_PATH:
            raise ValueError(f"the path of a socket must be {_LONGEST_SOCKET_PATH} bytes or shorter")
        return path

    @field_validator("vectors_socket", "qdrant_url")
    @classmethod
    def _is_the_only_one(cls, value: Path | str | None, info: ValidationInfo) -> Path | str | None:
        if value is not None and any(
            info.data.get(other) is not None for other in ("vectors_listen", "vectors_socket")
        ):
            raise ValueError("set only one of vectors_listen, vectors_socket and qdrant_url")
        return value

    @field_validator("qdrant_url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        return None if url is None else _http_url(url)

    @field_validator("qdrant_api_key")
    @classmethod
    def _is_there(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if info.data.get("qdrant_url") is not None and (key is None or not key.get_secret_value()):
            raise ValueError("required with qdrant_url")
        return key

    @field_validator("chat_models", "reranker", mode="before")
    @classmethod
    def _is_json(cls, value: object) -> object:
        """What the environment holds is text."""
        if not isinstance(value, str):
            return value
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            raise ValueError("must be a json object") from None

    @field_validator("answer_model")
    @classmethod
    def _is_known(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is not None and name not in info.data.get("chat_models", {}):
            raise ValueError("must be one of the names in chat_models")
        return name

    @model_validator(mode="after")
    def _names_an_embedder(self) -> Self:
        names = [BUNDLED, *(endpoint.name for endpoint in self.embedding_endpoints)]
        if len(set(names)) != len(names):
            raise ValueError("embedding_endpoints: two of them have the same name")
        if self.embedder not in names:
            raise ValueError(f"embedder: {self.embedder} is not one of embedding_endpoints")
        return self
