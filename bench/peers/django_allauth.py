"""django-allauth, headless: its JSON API for single-page clients and apps.

Its limits are off: they count in lists of times, one for each source, which at this rate get longer than
they are ever meant to be.
"""

from __future__ import annotations

from typing import Any

import alike
import django_site
from django.core.wsgi import get_wsgi_application
from django.urls import include, path

APPS = [*django_site.APPS, "allauth", "allauth.account", "allauth.headless"]
TEMPLATES = {
    "account/email/password_reset_key_message.txt": alike.TEXT.replace("link", "password_reset_url"),
    "account/email/password_reset_key_message.html": alike.HTML.replace("link", "password_reset_url"),
    "account/email/unknown_account_message.txt": "There is no account with this address.",
    "account/email/unknown_account_message.html": "<p>There is no account with this address.</p>",
}
django_site.set_up(
    __name__,
    TEMPLATES,
    INSTALLED_APPS=APPS,
    MIDDLEWARE=[*django_site.MIDDLEWARE, "allauth.account.middleware.AccountMiddleware"],
    AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
    ACCOUNT_LOGIN_METHODS={"email"},
    ACCOUNT_SIGNUP_FIELDS=["email*", "password1*"],
    ACCOUNT_EMAIL_VERIFICATION="none",
    ACCOUNT_RATE_LIMITS=False,
    HEADLESS_ONLY=True,
    HEADLESS_FRONTEND_URLS={
        "account_reset_password_from_key": "http://127.0.0.1/reset/{key}",
        "account_reset_password": "http://127.0.0.1/reset",
        "account_confirm_email": "http://127.0.0.1/confirm/{key}",
        "account_signup": "http://127.0.0.1/signup",
    },
)

urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("_allauth/", include("allauth.headless.urls")),
    path("bench/hash", django_site.one_hash),
]


def create_app() -> Any:
    return get_wsgi_application()


def fill(count: int) -> None:
    from allauth.account.models import EmailAddress
    from django.contrib.auth.models import User

    django_site.fill(count)
    same = {"verified": True, "primary": True}
    EmailAddress.objects.bulk_create(
        [EmailAddress(user=user, email=user.email, **same) for user in User.objects.all()], batch_size=500
    )
