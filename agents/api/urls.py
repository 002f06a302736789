from django.urls import path

from agents.api import oauth

urlpatterns = [
    path("oauth/token", oauth.token, name="oauth-token"),
    path("oauth/enrol", oauth.enrol, name="oauth-enrol"),
    path("oauth/jwks.json", oauth.jwks, name="oauth-jwks"),
    path(".well-known/oauth-authorization-server", oauth.metadata, name="oauth-server-metadata"),
]
