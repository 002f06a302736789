from csp.decorators import csp_update
from django.contrib import admin
from django.http import HttpRequest, HttpResponseRedirect
from django.templatetags.static import static as staticfile
from django.urls import include, path
from django.views.decorators.http import require_safe
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from insights import admin as reporting

# The one inline style of the documentation page, by its digest; the policy stays strict.
_DOCS_STYLE = "'sha256-MMpT0iDxyjALd9PdfepImGX3DBfJPXZ4IlDWdPAgtn0='"
_docs = csp_update({"style-src": [_DOCS_STYLE]})(
    SpectacularSwaggerSplitView.as_view(url_name="schema")
)


def favicon(request: HttpRequest) -> HttpResponseRedirect:
    """For pages that are not ours, such as the documentation of the API."""
    return HttpResponseRedirect(staticfile("common/seal.svg"))


urlpatterns = [
    # First: patterns are tried in turn, and this is where agents' calls go.
    path("api/v1/", include("workflows.api.urls")),
    path("api/v1/", include("actions.api.urls")),
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("favicon.ico", favicon),
    path("admin/reports/", admin.site.admin_view(reporting.reports), name="reports"),
    path("admin/reports/<slug:number>/", admin.site.admin_view(reporting.report), name="report"),
    path("admin/", admin.site.urls),
    path("accounts/", include("accounts.urls")),
    path("", include("agents.api.urls")),
    path("api/v1/", include("approvals.api.urls")),
    path("api/v1/", include("audit.api.urls")),
    path("api/schema/", require_safe(SpectacularAPIView.as_view()), name="schema"),
    path("api/docs/", require_safe(_docs), name="api-docs"),
]

handler400 = "portal.failures.bad_request"
handler403 = "portal.failures.permission_denied"
handler404 = "portal.failures.not_found"
handler500 = "portal.failures.server_error"
