"""The notifier: durable feeds of what clients may see, sent as Server-Sent Events."""

from fastapi import FastAPI

from services.notifier.resources import resources
from services.notifier.settings import NotifierSettings
from services.notifier.streams.response import StreamRunner
from services.notifier.streams.router import router
from shared import service


def create_app() -> FastAPI:
    app = service.create_app(NotifierSettings.load(), routers=[router], resources=resources)
    app.add_middleware(StreamRunner)
    return app
