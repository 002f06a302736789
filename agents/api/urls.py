from django.urls import path

from agents.api import oauth

urlpatterns = [
    path("oauth/token", oauth.token, name="oauth-token"),
    path("oauth/enrol", oauth.enrol, name="oauth-enrol"),
    path("oauth/keys", oauth.replace, name="oauth-keys"),
    path("oauth/revoke", oauth.revoke, name="oauth-revoke"),
    path("oauth/introspect", oauth.introspect, name="oauth-introspect"),
    path("oauth/jwks.json", oauth.jwks, name="oauth-jwks"),
    path(".well-known/oauth-authorization-server", oauth.metadata, name="oauth-server-metadata"),
    path(
        ".well-known/oauth-protected-resource/env/<slug:environment>",
        oauth.resource_metadata,
        name="oauth-resource-metadata",
    ),
]
