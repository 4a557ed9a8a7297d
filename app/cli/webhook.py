"""`manage.py webhook`: a test of the application's webhook."""

import secrets

import click
from flask.cli import AppGroup

from ..mail.smtp_failures import describe
from ..mail.webhook import new_event, post
from ..settings import current

group = AppGroup("webhook", help="Test the webhook.")


@group.command("send-test")
def send_test() -> None:
    """Post an event of the type webhook.test, of account 0, to RECOVERY_WEBHOOK_URL now."""
    if not (url := current().RECOVERY_WEBHOOK_URL):
        raise click.ClickException("RECOVERY_WEBHOOK_URL is empty (docs/webhook.md)")
    try:
        post(secrets.token_hex(16), new_event("webhook.test", account_id="0"))
    except Exception as error:  # urllib and http.client raise various types
        raise click.ClickException(f"{url} did not accept it: {describe(error)}") from None
    click.echo(f"{url} accepted it.")
