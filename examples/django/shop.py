"""A Django project in one file, with contrib.auth and its admin. It knows nothing of Sparekey but a link.

python examples/django/shop.py setup             # the tables, and three sample users
python examples/django/shop.py runserver 8001
"""

import os
import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command, execute_from_command_line

# PostgreSQL, if PGDATABASE names a database; or else a file.
POSTGRESQL = {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ.get("PGDATABASE")}
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": os.environ.get("SHOP_FILE", Path(__file__).with_name("shop.db")),
}
APPS = ("admin", "auth", "contenttypes", "messages", "sessions", "staticfiles")

settings.configure(
    SECRET_KEY="of an example, not of a site",
    DEBUG=True,
    DATABASES={"default": POSTGRESQL if POSTGRESQL["NAME"] else SQLITE},
    INSTALLED_APPS=[f"django.contrib.{name}" for name in APPS],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    ROOT_URLCONF=__name__,
    STATIC_URL="static/",
    LOGIN_URL="admin:login",
)
django.setup()

from django.contrib import admin  # needs the settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.urls import path
from django.views.generic import RedirectView

SPAREKEY = os.environ.get("SPAREKEY_URL", "http://127.0.0.1:5000")
urlpatterns = [
    path("", login_required(lambda request: HttpResponse(f"Hello, {request.user.email}"))),
    path("admin/", admin.site.urls),
    # This name makes the admin's sign-in page show "Forgotten your password or username?".
    path("forgot/", RedirectView.as_view(url=f"{SPAREKEY}/reset"), name="admin_password_reset"),
]

if __name__ == "__main__":
    if sys.argv[1:] == ["setup"]:
        call_command("migrate", verbosity=0)
        User.objects.create_superuser("alice", "alice@example.com", "alice will forget this")
        User.objects.create_user("bob", "bob@example.com", "bob has left the shop", is_active=False)
        User.objects.create_user("carol", "carol@example.com")  # without a password
    else:
        execute_from_command_line()
