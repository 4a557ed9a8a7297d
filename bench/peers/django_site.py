"""What both peers on Django have alike: settings, as its checklist for deployment leaves them without TLS.

SQLite as its notes for production say: WAL, and writes that begin as such (transaction_mode IMMEDIATE).
"""

import os
from typing import Any

import alike
import django
from django.conf import settings
from django.contrib.auth.hashers import Argon2PasswordHasher, make_password
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
]
DATABASE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": os.environ["FLASK_SQLALCHEMY_DATABASE_URI"].removeprefix("sqlite:///"),
    "OPTIONS": {
        "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000",
        "transaction_mode": "IMMEDIATE",
    },
}


class Hasher(Argon2PasswordHasher):
    """Django's, at the cost that all have here."""

    time_cost = alike.ARGON2["time_cost"]
    memory_cost = alike.ARGON2["memory_cost"]
    parallelism = alike.ARGON2["parallelism"]


def set_up(urls: str, **more: Any) -> None:
    settings.configure(
        **{
            "ALLOWED_HOSTS": ["127.0.0.1"],
            "SECRET_KEY": os.environ["FLASK_SECRET_KEY"],
            "ROOT_URLCONF": urls,
            "INSTALLED_APPS": APPS,
            "MIDDLEWARE": MIDDLEWARE,
            "DATABASES": {"default": {**DATABASE, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}},
            "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
            "PASSWORD_HASHERS": ["django_site.Hasher"],
            "EMAIL_HOST": os.environ["FLASK_MAIL_SERVER"],
            "EMAIL_PORT": int(os.environ["FLASK_MAIL_PORT"]),
            "EMAIL_TIMEOUT": alike.MAIL_SECONDS,
            "DEFAULT_FROM_EMAIL": alike.SENDER,
            "TEMPLATES": [
                {
                    "BACKEND": "django.template.backends.django.DjangoTemplates",
                    "DIRS": [alike.TEMPLATES],
                    "APP_DIRS": True,
                    "OPTIONS": {
                        "context_processors": [
                            "django.template.context_processors.request",
                            "django.contrib.auth.context_processors.auth",
                            "django.contrib.messages.context_processors.messages",
                        ],
                    },
                }
            ],
            **more,
        }
    )
    django.setup()


def create_app() -> Any:
    return get_wsgi_application()


def one_hash(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(make_password(alike.PASSWORD))


def fill(count: int) -> None:
    from django.contrib.auth.models import User  # it can be read only after the set-up

    call_command("migrate", verbosity=0)
    password = make_password(alike.PASSWORD)
    User.objects.bulk_create(
        [User(username=email, email=email, password=password) for email in alike.known(count)],
        batch_size=500,
    )
