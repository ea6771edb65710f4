"""A bare application to compare with: FastAPI, the ORM and asyncpg on the tables of projects, under the same Row Level
Security and as the same restricted role, written as a tutorial would.

It believes the headers that say who is calling, and has none of the rest: no gateway, second guard, quotas, events,
idempotent consumers, logs, traces or metrics. It is served as our services are (`infra.serve`).
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request
from pydantic import BaseModel
from sqlalchemy import DateTime, Select, Text, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

POOL = 10
DATABASE_URL = "REFERENCE_DATABASE_URL"


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text(), dict[str, Any]: JSONB}  # noqa: RUF012


class Project(Base):
    __tablename__ = "projects"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    name: Mapped[str]
    description: Mapped[str]
    custom_metadata: Mapped[dict[str, Any]] = mapped_column("metadata")
    revision: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    deleted_at: Mapped[datetime | None]


class Member(Base):
    __tablename__ = "project_members"

    project_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    role: Mapped[str]


class Document(Base):
    __tablename__ = "documents"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    project_id: Mapped[uuid.UUID]
    deleted_at: Mapped[datetime | None]


class ProjectIn(BaseModel):
    name: str
    description: str = ""
    metadata: dict[str, Any] = {}


class ProjectOut(BaseModel):
    id: uuid.UUID
    name: str
    description: str
    metadata: dict[str, Any]
    role: str
    document_count: int
    created_at: datetime
    updated_at: datetime


class ProjectPage(BaseModel):
    items: list[ProjectOut]


async def _session(request: Request, x_tenant_id: Annotated[uuid.UUID, Header()]) -> AsyncIterator[AsyncSession]:
    async with request.state.sessions.begin() as session:
        setting = func.set_config("app.tenant_id", str(x_tenant_id), True)
        await session.execute(select(setting))
        yield session


Session = Annotated[AsyncSession, Depends(_session, scope="function")]
User = Annotated[uuid.UUID, Header(alias="X-User-Id")]


def create_app() -> FastAPI:
    """The application, for the environment of the projects service."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        engine = create_async_engine(
            os.environ[DATABASE_URL],
            pool_size=POOL,
            max_overflow=0,
            connect_args={"server_settings": {"search_path": "projects", "jit": "off"}},
        )
        yield {"sessions": async_sessionmaker(engine, expire_on_commit=False)}
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.get("/readyz")
    async def ready() -> None:
        pass

    @app.get("/projects/{project_id}")
    async def get_project(session: Session, user: User, project_id: uuid.UUID) -> ProjectOut:
        return await _one(session, user, project_id)

    @app.get("/projects")
    async def list_projects(session: Session, user: User, limit: Annotated[int, Query(le=200)] = 50) -> ProjectPage:
        newest = _projects(user).order_by(Project.created_at.desc(), Project.id.desc()).limit(limit)
        return ProjectPage(items=[_out(*row) for row in await session.execute(newest)])

    @app.post("/projects", status_code=201)
    async def create_project(session: Session, user: User, body: ProjectIn) -> ProjectOut:
        project = Project(name=body.name, description=body.description, custom_metadata=body.metadata, revision=1)
        session.add(project)
        await session.flush()
        session.add(Member(project_id=project.id, user_id=user, role="owner"))
        await session.flush()
        return _out(project, "owner", 0)

    @app.patch("/projects/{project_id}")
    async def update_project(session: Session, user: User, project_id: uuid.UUID, body: ProjectIn) -> ProjectOut:
        await session.execute(select(Project.id).where(Project.id == project_id).with_for_update())
        project = await session.get_one(Project, project_id)
        project.name, project.revision, project.updated_at = body.name, project.revision + 1, func.now()
        await session.flush()
        await session.refresh(project)
        return await _one(session, user, project_id)

    return app


def _projects(user: uuid.UUID) -> Select[Any]:
    documents = select(func.count(Document.id)).where(Document.project_id == Project.id, Document.deleted_at.is_(None))
    return (
        select(Project, Member.role, documents.scalar_subquery())
        .outerjoin(Member, (Member.project_id == Project.id) & (Member.user_id == user))
        .where(Project.deleted_at.is_(None))
    )


async def _one(session: AsyncSession, user: uuid.UUID, project_id: uuid.UUID) -> ProjectOut:
    row = (await session.execute(_projects(user).where(Project.id == project_id))).one_or_none()
    if row is None:
        raise HTTPException(404)
    return _out(*row)


def _out(project: Project, role: str | None, document_count: int) -> ProjectOut:
    return ProjectOut(
        id=project.id,
        name=project.name,
        description=project.description,
        metadata=project.custom_metadata,
        role=role or "owner",
        document_count=document_count,
        created_at=project.created_at,
        updated_at=project.updated_at,
    )
