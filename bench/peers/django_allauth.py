"""django-allauth, headless: its JSON API for single-page clients and apps.

Its limits are off: they count in lists of times, one for each source, which at this rate get longer than
they are ever meant to be.
"""

import django_site
from django.urls import include, path

create_app = django_site.create_app

APPS = [*django_site.APPS, "allauth", "allauth.account", "allauth.headless"]
django_site.set_up(
    __name__,
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


def fill(count: int) -> None:
    from allauth.account.models import EmailAddress
    from django.contrib.auth.models import User

    django_site.fill(count)
    same = {"verified": True, "primary": True}
    EmailAddress.objects.bulk_create(
        [EmailAddress(user=user, email=user.email, **same) for user in User.objects.all()], batch_size=500
    )
