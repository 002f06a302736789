from django.urls import path

from workflows.api import views

# Before the URLs of actions: a run of a workflow is a run, shown with its steps.
urlpatterns = [
    path("workflows", views.WorkflowsView.as_view(), name="workflows"),
    path("workflows/<slug:slug>/runs", views.StartView.as_view(), name="workflow-runs"),
    path("runs/<uuid:run_id>", views.RunView.as_view(), name="run"),
    path("runs/<uuid:run_id>/signals", views.SignalsView.as_view(), name="run-signals"),
    path("runs/<uuid:run_id>/cancel", views.CancelView.as_view(), name="run-cancel"),
    path("runs/<uuid:run_id>/retry", views.RetryView.as_view(), name="run-retry"),
]
