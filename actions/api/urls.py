from django.urls import path

from actions.api import views

urlpatterns = [
    path("actions", views.ActionsView.as_view(), name="actions"),
    path("runs", views.RunsView.as_view(), name="runs"),
    path("runs/<uuid:run_id>/close", views.CloseRunView.as_view(), name="run-close"),
    path("actions/<uuid:action_id>", views.ActionView.as_view(), name="action"),
    path("elevations", views.ElevationsView.as_view(), name="elevations"),
    path("elevations/<uuid:elevation_id>", views.ElevationView.as_view(), name="elevation"),
    path(
        "elevations/<uuid:elevation_id>/revoke",
        views.RevokeElevationView.as_view(),
        name="elevation-end",
    ),
    path("tools", views.ToolsView.as_view(), name="tools"),
]
