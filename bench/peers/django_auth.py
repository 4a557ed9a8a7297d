"""Django's own: the views of `django.contrib.auth`, and pages of one's own for them."""

import alike
import django_site
from django.http import HttpResponse
from django.urls import path

create_app, fill = django_site.create_app, django_site.fill

MAIL = "registration/password_reset_email"
django_site.set_up(__name__, PASSWORD_RESET_TIMEOUT=alike.LINK_SECONDS)

from django.contrib.auth import views  # it can be read only after the set-up

forgot = views.PasswordResetView.as_view(
    email_template_name=f"{MAIL}.txt", html_email_template_name=f"{MAIL}.html", success_url="/done/"
)
reset = views.PasswordResetConfirmView.as_view(success_url="/done/")
urlpatterns = [
    path("reset/", forgot),
    path("reset/<uidb64>/<token>/", reset, name="password_reset_confirm"),
    path("done/", lambda _request: HttpResponse("<!doctype html><title>Done</title>")),
    path("bench/hash", django_site.one_hash),
]
