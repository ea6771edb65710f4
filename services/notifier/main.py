"""The notifier: durable feeds of what clients may see, sent as Server-Sent Events."""

from fastapi import FastAPI

from services.notifier.resources import resources
from services.notifier.settings import NotifierSettings
from services.notifier.streams.response import StreamRunner
from services.notifier.streams.router import router
from shared import service


def create_app() -> FastAPI:
    settings = NotifierSettings.load()
    app = service.create_app(settings, routers=[router], resources=resources(settings))
    app.add_middleware(StreamRunner)
    return app
