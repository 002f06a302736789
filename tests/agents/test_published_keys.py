import pytest
from django.test import Client
from joserfc import jwt
from joserfc.jwk import KeySet
from pytest_django import Settings

from accounts.models import Environment
from agents.models import AgentIdentity, SigningKey
from agents.tokens import LIFETIME_SECONDS
from tests.agents.runtimes import enrolled

pytestmark = [
    pytest.mark.django_db,
    # The static files of the pages are collected on installation only.
    pytest.mark.filterwarnings("ignore:No directory at"),
]


def test_the_metadata_says_where_things_are(settings: Settings) -> None:
    answer = Client().get("/.well-known/oauth-authorization-server")
    document = answer.json()
    assert document["issuer"] == settings.ISSUER
    assert document["token_endpoint"] == f"{settings.ISSUER}/oauth/token"
    assert document["jwks_uri"] == f"{settings.ISSUER}/oauth/jwks.json"
    assert document["grant_types_supported"] == [
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    ]
    assert document["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    assert "public" in answer["Cache-Control"]


def test_the_published_keys_are_public(prod: Environment, staging: Environment) -> None:
    keys = Client().get("/oauth/jwks.json").json()["keys"]
    assert [key["kid"].split("-")[0] for key in keys] == ["prod", "staging"]
    for key in keys:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
        assert (key["crv"], key["use"], key["alg"]) == ("P-256", "sig", "ES256")


def test_a_revoked_signing_key_is_published_no_more(prod: Environment) -> None:
    key = SigningKey.objects.get()
    key.status = SigningKey.Status.RETIRING
    key.save()
    assert len(Client().get("/oauth/jwks.json").json()["keys"]) == 1
    key.status = SigningKey.Status.REVOKED
    key.save()
    assert Client().get("/oauth/jwks.json").json() == {"keys": []}


def test_a_token_verifies_with_the_published_keys_alone(
    identity: AgentIdentity, settings: Settings
) -> None:
    token = enrolled(identity).ask().json()["access_token"]
    keys = KeySet.import_key_set(Client().get("/oauth/jwks.json").json())
    decoded = jwt.decode(token, keys, algorithms=["ES256"])
    assert decoded.header["typ"] == "at+jwt"
    assert decoded.claims["iss"] == settings.ISSUER
    assert decoded.claims["aud"] == f"{settings.ISSUER}/env/prod"
    assert decoded.claims["client_id"] == "tilda.prod"
    assert decoded.claims["exp"] - decoded.claims["iat"] == LIFETIME_SECONDS
