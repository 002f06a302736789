from django.urls import path

from audit.api import views

urlpatterns = [
    path("audit/events/<uuid:uid>/receipt", views.ReceiptView.as_view(), name="event-receipt"),
]
