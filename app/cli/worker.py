"""`manage.py worker`: sends the mail and the events that wait in the outbox."""

import logging
import signal
import threading

import click
from flask import current_app
from flask.cli import with_appcontext

from ..mail import worker as mail_worker
from ..mail.smtp_failures import MailHeld
from ..pages import health
from ..settings import checks


@click.command()
@click.option("--once", is_flag=True, help="Process all due messages in one thread, then stop.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Messages to send at the same time, each over its own connection.",
)
@with_appcontext
def worker(once: bool, threads: int) -> None:
    """Send the emails and events in the outbox. Several workers can run at once."""
    log = current_app.logger
    log.setLevel(logging.INFO)
    if once:
        try:
            mails = mail_worker.work_until_done()
        except MailHeld as error:
            raise click.ClickException(f"all mail is held: {error}") from None
        finally:
            events = mail_worker.post_due_events()
        click.echo(f"{mails + events} processed")
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread, because the signal may come while this one holds the event's lock.
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    checks.log_warnings()
    state = health.check()
    if health.ACCOUNTS_AWAY in state["problems"]:
        log.error("the application's accounts cannot be used. %s", state["reason"])
    log.info("worker started")
    mail_worker.run(stop, threads)
    log.info("worker stopped")
