"""`docs/events.md` and `docs/asyncapi.json`: never stale, complete, and right."""

import json
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import Field, create_model

from infra.contracts import command
from infra.contracts.asyncapi import document
from infra.contracts.catalogue import GOLDEN, ROOT, Message, messages
from infra.contracts.page import page, type_of
from shared.events import envelope
from shared.events.envelope import Envelope
from shared.events.indexing import ProgressTick
from shared.events.projects import DocumentUploaded
from shared.events.subscriptions import FOLLOWED, HANDLED, PRODUCERS

Json = dict[str, Any]


@pytest.fixture(scope="module")
def told() -> list[Message]:
    return messages(GOLDEN)


@pytest.fixture(scope="module")
def described(told: list[Message]) -> Json:
    return document(told)


def test_the_documents_are_not_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert (command.main(["--check"]), capsys.readouterr().out) == (0, "")


def test_a_changed_event_makes_them_stale(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    changed = create_model(
        "DocumentUploaded",
        __base__=DocumentUploaded,
        __module__=DocumentUploaded.__module__,
        __doc__=DocumentUploaded.__doc__,
        pages=(int | None, Field(default=None, description="How many pages it has.")),
    )
    monkeypatch.setitem(envelope._REGISTRY, changed.type, changed)
    assert command.main(["--check"]) == 1
    said = capsys.readouterr().out
    assert said == "docs/events.md is stale: uv run contracts\ndocs/asyncapi.json is stale: uv run contracts\n"


def test_the_command_writes_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    assert command.main(["--check"]) == 1
    assert list((tmp_path / "docs").iterdir()) == []
    (tmp_path / "docs" / "events.md").write_bytes((ROOT / "docs" / "events.md").read_bytes())
    capsys.readouterr()
    assert (command.main([]), capsys.readouterr().out) == (0, "docs/asyncapi.json written\n")
    assert (tmp_path / "docs" / "asyncapi.json").read_bytes() == (ROOT / "docs" / "asyncapi.json").read_bytes()


def test_the_command_says_what_cannot_be_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "GOLDEN", tmp_path)
    assert command.main([]) == 1
    assert "has no golden file" in capsys.readouterr().out


def test_the_page_tells_of_every_event_and_its_readers(told: list[Message]) -> None:
    text = page(told)
    for message in told:
        assert text.count(f"\n### {message.name}\n") == 1
        assert f"- **Sent:** {message.sent}" in text
        assert json.dumps(message.example, indent=2) in text
    assert "| `events.identity` | identity | projects, indexing, notifier | notifier | 5 |" in text
    assert "- **Handled by:** projects, indexing, notifier\n- **Followed by:** notifier\n" in text


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"type": "string", "format": "uuid"}, "uuid"),
        ({"type": "integer", "minimum": 0, "maximum": 100}, "integer ≥ 0, ≤ 100"),
        ({"anyOf": [{"enum": ["a", "b"], "type": "string"}, {"type": "null"}]}, "`a`, `b` or null"),
        ({"const": "1.0", "type": "string"}, "`1.0`"),
    ],
)
def test_types_are_told_in_a_few_words(field: Json, words: str) -> None:
    assert type_of(field) == words


def test_every_reference_of_the_asyncapi_document_leads_somewhere(described: Json) -> None:
    found = references(described)
    assert len(found) > 100
    for reference in found:
        assert resolve(described, reference), reference


def test_its_parts_have_the_members_asyncapi_asks_for(described: Json) -> None:
    assert described["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(described["info"])
    for server in described["servers"].values():
        assert {"host", "protocol"} <= set(server)
        assert set(re.findall(r"{(\w+)}", server["host"])) == set(server["variables"])
    for channel in described["channels"].values():
        assert {"address", "messages"} <= set(channel)
    for operation in described["operations"].values():
        assert operation["action"] in ("send", "receive")
        allowed = {"$ref": operation["channel"]["$ref"]}
        assert operation["channel"] == allowed
        assert operation["messages"]
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"{allowed['$ref']}/messages/")
    for components in described["components"].values():
        assert all(re.fullmatch(r"[\w.\-]+", name) for name in components)


def test_each_service_sends_and_receives_what_the_table_of_subscriptions_says(described: Json) -> None:
    received = {name: operation for name, operation in described["operations"].items() if ".receive." in name}
    followed = {name: operation for name, operation in described["operations"].items() if ".follow." in name}
    sent = {name: operation for name, operation in described["operations"].items() if ".send." in name}
    for table, operations in ((HANDLED, received), (FOLLOWED, followed)):
        for service, events in table.items():
            mine = [item for name, item in operations.items() if name.startswith(f"{service}.")]
            told = {reference["$ref"].rpartition("/")[2] for item in mine for reference in item["messages"]}
            assert told - {ProgressTick.__name__} == {event.__name__ for event in events}
    assert {name.partition(".")[0] for name in received} == set(HANDLED)
    assert {item["x-consumer-group"] for item in received.values()} == set(HANDLED)
    assert {name.partition(".")[0] for name in sent} <= set(PRODUCERS)
    assert "notifier.follow.events.progress" in followed
    assert "indexing.send.events.progress" in sent


def test_its_examples_are_what_its_schemas_describe(described: Json) -> None:
    for message in described["components"]["messages"].values():
        (example,) = message["examples"]
        if "correlationId" not in message:
            ProgressTick.model_validate_json(orjson.dumps(example["payload"]))
            continue
        entry = Envelope.from_json(orjson.dumps(example["payload"]))
        common, special = message["payload"]["allOf"]
        assert set(resolve(described, common["$ref"])["required"]) <= set(example["payload"])
        assert special["properties"]["type"]["const"] == entry.type == message["name"]
        assert special["properties"]["source"]["const"] == entry.source
        data = resolve(described, special["properties"]["data"]["$ref"])
        assert set(data["required"]) <= set(entry.data) <= set(data["properties"])


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def resolve(described: Json, reference: str) -> Any:
    target: Any = described
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return target
