from django.urls import path

from approvals.api import views

urlpatterns = [
    path("approvals", views.ApprovalsView.as_view(), name="approvals"),
    path("approvals/<uuid:approval_id>/votes", views.VotesView.as_view(), name="approval-votes"),
]
