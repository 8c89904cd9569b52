"""Whether a token is needed, and whether one is right, as the stock client asks."""

from __future__ import annotations

from typing import Annotated, Any

from cinelabel.serving.tokens import Role
from fastapi import APIRouter, Form, Request

from lib.http.errors import Refused
from lib.http.guard import Reader, tokens_of

router = APIRouter(prefix="/auth", tags=["Auth"])


@router.get("/", summary="Whether a token is needed")
def enabled(request: Request) -> dict[str, Any]:
    needed = tokens_of(request.app) is not None
    return {"enabled": needed, "client_id": "cinelabel", "realm": "cinelabel"}


@router.post("/token", summary="Log in: the password is the token")
def token(
    request: Request, username: Annotated[str, Form()], password: Annotated[str, Form()]
) -> dict[str, str | None]:
    tokens = tokens_of(request.app)
    if tokens is None:
        return {"access_token": None, "token_type": None}
    if tokens.check(password) is None:
        raise Refused(401, "The password is no valid token; ask for one of 'cinelabel token add'.")
    return {"access_token": password, "token_type": "bearer"}


@router.get("/token/valid", summary="Whose token it is")
def valid(caller: Reader) -> dict[str, Any]:
    name = caller.name or "local"
    roles = [role.value for role in Role if caller.role.allows(role)]
    return {"username": name, "email": None, "name": name, "roles": roles}
