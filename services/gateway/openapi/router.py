"""The gateway's own pages: the product's OpenAPI document and the reference made of it."""

from fastapi import APIRouter, Request, Response

from services.gateway.openapi.document import ProductDocument
from services.gateway.openapi.page import CONTENT_SECURITY_POLICY

router = APIRouter(include_in_schema=False)
_CACHING = {"Cache-Control": "public, max-age=60"}


def _document(request: Request) -> ProductDocument:
    document: ProductDocument = request.app.state.runtime.document
    return document


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    return Response(await _document(request).json(), media_type="application/json", headers=_CACHING)


@router.get("/docs")
async def docs(request: Request) -> Response:
    headers = {**_CACHING, "Content-Security-Policy": CONTENT_SECURITY_POLICY}
    return Response(await _document(request).page(), media_type="text/html; charset=utf-8", headers=headers)
