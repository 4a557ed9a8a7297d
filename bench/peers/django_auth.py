"""Django's own: the views of `django.contrib.auth`, and pages of one's own for them."""

from __future__ import annotations

from typing import Any

import alike
import django_site
from django.core.wsgi import get_wsgi_application
from django.urls import path
from django.views.generic import TemplateView

fill = django_site.fill

FORM = """<!doctype html><title>{{ title }}</title>
<form method="post">{% csrf_token %}{{ form.as_p }}<button>Go on</button></form>"""
LINK = "http://{{ domain }}{% url 'password_reset_confirm' uidb64=uid token=token %}"
TEMPLATES = {
    "registration/password_reset_form.html": FORM,
    "registration/password_reset_confirm.html": FORM,
    "registration/login.html": FORM,
    "registration/password_reset_subject.txt": "Your new password",
    "mail.txt": alike.TEXT.replace("{{ link }}", LINK),
    "mail.html": alike.HTML.replace("{{ link }}", LINK),
    "done.html": "<!doctype html><title>Done</title>",
}
django_site.set_up(
    __name__, TEMPLATES, LOGIN_REDIRECT_URL="/done/", PASSWORD_RESET_TIMEOUT=alike.LINK_SECONDS
)

from django.contrib.auth import views  # it can be read only after the set-up

urlpatterns = [
    path(
        "reset/",
        views.PasswordResetView.as_view(
            email_template_name="mail.txt", html_email_template_name="mail.html", success_url="/done/"
        ),
    ),
    path(
        "reset/<uidb64>/<token>/",
        views.PasswordResetConfirmView.as_view(success_url="/done/"),
        name="password_reset_confirm",
    ),
    path("login/", views.LoginView.as_view()),
    path("done/", TemplateView.as_view(template_name="done.html")),
    path("bench/hash", django_site.one_hash),
]


def create_app() -> Any:
    return get_wsgi_application()
