"""Whose request it is, and what it names: ids of one's own, of another tenant, deleted ones, or what was generated.

What answers give joins the tenant's own. What is kept is spared: no request is sent that could end it.
"""

import json
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from schemathesis import Case, Response

from tests.isolation.fuzz.planted import Credential, Planted

_MOST_KNOWN: Final = 40
# Operations that end or change what they name, and the parameter that names it: never for what is kept.
_ENDING: Final[Mapping[str, str]] = {
    "PATCH /v1/projects/{project_id}": "project_id",
    "DELETE /v1/projects/{project_id}": "project_id",
    "PATCH /v1/projects/{project_id}/documents/{document_id}": "document_id",
    "DELETE /v1/projects/{project_id}/documents/{document_id}": "document_id",
    "PUT /v1/projects/{project_id}/members/{user_id}": "user_id",
    "DELETE /v1/projects/{project_id}/members/{user_id}": "user_id",
    "PATCH /v1/members/{user_id}": "user_id",
    "DELETE /v1/members/{user_id}": "user_id",
    "DELETE /v1/api-keys/{key_id}": "key_id",
    "DELETE /v1/sessions/{session_id}": "session_id",
    "DELETE /v1/tenants/{tenant_id}": "tenant_id",
}
_SIGN_OUT: Final = "POST /auth/logout"
_ACTIVATE: Final = "POST /v1/tenants/{tenant_id}/activate"
# Whoever wanders fills no tenant: it may delete it again, and nothing of its work would be left to compare.
_FOR_WANDERERS: Final = ("/auth/", "/v1/tenants", "/v1/sessions", "/v1/me", "/v1/invitations/{token}")
_ACCEPT: Final = "POST /v1/invitations/{token}/accept"
_DELETE_TENANT: Final = "DELETE /v1/tenants/{tenant_id}"
_BEST_BY_WANDERERS: Final = (_ACCEPT, _ACTIVATE, _DELETE_TENANT, "POST /v1/tenants", "DELETE /v1/sessions/{session_id}")
# Which parameter the answer to a creation names.
_CREATED: Final[Mapping[str, str]] = {
    "POST /v1/projects": "project_id",
    "POST /v1/api-keys": "key_id",
    "POST /v1/invitations": "invitation_id",
    "POST /v1/tenants": "tenant_id",
}


# Takes any user's id, and looks nobody up.
_FREE: Final = ("PUT /v1/projects/{project_id}/members/{user_id}", "DELETE /v1/projects/{project_id}/members/{user_id}")


@dataclass(slots=True)
class Aim:
    """One tenant's. `active`: the tenant of its own that the wanderer works in."""

    own: Planted
    others: list[Planted]
    chance: random.Random
    active: str | None = None
    ours: list[Credential] = field(init=False)

    def __post_init__(self) -> None:
        self.ours = [credential for credential in self.own.credentials for _ in range(credential.weight)]

    def prepare(self, case: Case[Any], *, linked: bool, tag: str | None = None) -> tuple[Credential, bool]:
        """Choose whose request it is and what it names. `linked`: an earlier answer gave it its ids."""
        credential = self.chance.choice(self.ours)
        if credential.wanders and not case.operation.path.startswith(_FOR_WANDERERS):
            credential = self.ours[0]
        if case.operation.label in _BEST_BY_WANDERERS and self.chance.random() < 0.4:
            credential = next(one for one in self.ours if one.wanders)
        if case.operation.label == _SIGN_OUT and "Cookie" in credential.headers:
            credential = Credential("nobody", {})
        keep_links = linked and self.chance.random() < 0.8
        if not keep_links:
            self._name(case)
        self._spare(case, credential)
        if case.operation.method in ("patch", "delete"):
            tag = self.chance.choice(["*", "*", '"1"', '"2"', tag])
            case.headers.pop("If-Match", None)
            if tag is not None:
                case.headers["If-Match"] = tag
        return credential, keep_links

    def _name(self, case: Case[Any]) -> None:
        names = case.path_parameters
        if "{" not in case.operation.path:
            return
        whose = self.chance.choices(("own", "foreign", "gone", "invented"), (65, 20, 5, 10))[0]
        if whose == "invented":
            return
        named = self.chance.choice(self.others) if whose == "foreign" else self.own
        for parameter in [name for name in names if f"{{{name}}}" in case.operation.path]:
            known = named.gone.get(parameter, []) if whose == "gone" else named.ids.get(parameter, [])
            pairs = {"document_id": named.documents, "job_id": named.jobs}.get(parameter, [])
            if pairs and (whose != "gone" or not known):
                # Mostly in the project it belongs to; else in one where it must not be found.
                project, names[parameter] = self.chance.choice(pairs)
                if self.chance.random() < 0.85:
                    names["project_id"] = project
            elif known:
                names[parameter] = self.chance.choice(known)

    def _spare(self, case: Case[Any], credential: Credential) -> None:
        """Let nothing end what is kept, and nobody but who wanders leave the tenant."""
        own, label, names = self.own, case.operation.label, case.path_parameters
        parameter = _ENDING.get(label)
        if parameter is not None and str(names.get(parameter)) in own.kept:
            expendable = [item for item in own.ids.get(parameter, []) if item not in own.kept]
            if parameter == "document_id":
                pairs = [pair for pair in own.documents if pair[1] not in own.kept]
                names["project_id"], names[parameter] = self.chance.choice(pairs or [("x", "x")])
            else:
                names[parameter] = self.chance.choice(expendable or [str(uuid.UUID(int=self.chance.getrandbits(128)))])
        if credential.wanders and self.chance.random() < 0.5:
            # What only works for one of many: the invitation to oneself, the tenant that is active.
            if label == _ACCEPT:
                names["token"] = own.ids["token"][0]
            elif label == _DELETE_TENANT and self.active is not None:
                names["tenant_id"] = self.active
        if label == _ACTIVATE and not credential.wanders and names.get("tenant_id") in own.ids["tenant_id"]:
            names["tenant_id"] = own.tenant_id

    def remember(self, case: Case[Any], response: Response, credential: Credential) -> None:
        """What an answer gives joins the tenant's own."""
        label, own = case.operation.label, self.own
        if parameter := _CREATED.get(label):
            made = json.loads(response.content)
            if parameter != "tenant_id" or credential.wanders:
                _add(own.ids.setdefault(parameter, []), made["id"])
            if parameter == "invitation_id":
                _add(own.ids["token"], made["token"])
        elif label == _ACTIVATE and credential.wanders:
            chosen = str(case.path_parameters["tenant_id"])
            self.active = None if chosen == own.tenant_id else chosen
        elif label == "POST /v1/projects/{project_id}/documents":
            _add(own.documents, (str(case.path_parameters["project_id"]), json.loads(response.content)["id"]))
        elif label == "POST /v1/projects/{project_id}/uploads":
            _add(own.ids["upload_id"], response.headers["location"][0].rpartition("/")[2])
        elif label == "GET /v1/projects/{project_id}/dead-letters":
            for item in json.loads(response.content)["items"]:
                _add(own.jobs, (str(case.path_parameters["project_id"]), item["id"]))

    def foreign_in(self, case: Case[Any]) -> list[str]:
        """The parameters of its path that lead to something of another tenant's."""
        foreign = set().union(*(other.as_foreign()[0] for other in self.others))
        free = ("user_id",) if case.operation.label in _FREE else ()
        names = case.path_parameters.items()
        return [name for name, value in names if str(value) in foreign and name not in free]


def _add(known: list[Any], new: Any) -> None:
    if new not in known:
        known.append(new)
    # The first ones are the planted ones.
    if len(known) > _MOST_KNOWN:
        del known[_MOST_KNOWN // 2]
