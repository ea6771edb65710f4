"""The gateway's own pages: the product's OpenAPI document and the reference made of it."""

from fastapi import APIRouter, Response

from services.gateway.dependencies import Document
from services.gateway.openapi.page import CONTENT_SECURITY_POLICY

router = APIRouter(include_in_schema=False)
_CACHING = {"Cache-Control": "public, max-age=60"}


@router.get("/openapi.json")
async def openapi(document: Document) -> Response:
    return Response(await document.json(), media_type="application/json", headers=_CACHING)


@router.get("/docs")
async def docs(document: Document) -> Response:
    headers = {**_CACHING, "Content-Security-Policy": CONTENT_SECURITY_POLICY}
    return Response(await document.page(), media_type="text/html; charset=utf-8", headers=headers)
