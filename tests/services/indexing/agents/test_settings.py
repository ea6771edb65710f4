from pathlib import Path

import orjson
import pytest

from services.indexing.settings import IndexingSettings
from shared.settings import SettingsError
from tests.services.indexing.conftest import Environment

MODELS = {"small": {"url": "https://models.example.com/v1/", "model": "m-1", "api_key": "sk-canary"}}


@pytest.fixture
def loading(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_without_a_model_answers_are_quoted(loading: pytest.MonkeyPatch) -> None:
    settings = IndexingSettings.load()
    assert (settings.chat_models, settings.answer_model) == ({}, None)


def test_models_are_named_in_a_secret_file(loading: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "models"
    file.write_bytes(orjson.dumps(MODELS))
    loading.setenv("QUARRY_INDEXING_CHAT_MODELS_FILE", str(file))
    loading.setenv("QUARRY_INDEXING_ANSWER_MODEL", "small")
    settings = IndexingSettings.load()
    assert settings.chat_models["small"].url == "https://models.example.com/v1"
    assert settings.chat_models["small"].api_key is not None
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("models", "answer_model"),
    [
        ("{nope sk-canary", None),
        ("[]", None),
        ('{"small": {"url": "ftp://sk-canary", "model": "m"}}', None),
        ('{"small": {"url": "https://models.example.com", "model": "m", "key": "sk-canary"}}', None),
        (orjson.dumps(MODELS).decode(), "large"),
        ("{}", "small"),
    ],
)
def test_models_that_make_no_sense_stop_the_start_and_tell_no_key(
    loading: pytest.MonkeyPatch, models: str, answer_model: str | None
) -> None:
    loading.setenv("QUARRY_INDEXING_CHAT_MODELS", models)
    if answer_model is not None:
        loading.setenv("QUARRY_INDEXING_ANSWER_MODEL", answer_model)
    with pytest.raises(SettingsError, match=r"QUARRY_INDEXING_(CHAT_MODELS|ANSWER_MODEL)") as raised:
        IndexingSettings.load()
    assert "canary" not in str(raised.value)
