"""`manage.py mail`: a preview of all mails, and a test mail."""

import re
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup

from ..accounts import identity_mappers
from ..mail import smtp_failures
from ..mail.backends import mailman
from ..mail.composing import Undeliverable
from ..pages import samples, template_checks, translation_checks
from ..settings import checks, current, exit_on_settings_error
from ..settings.findings import Finding
from ..web import i18n, templates

GALLERY = Path(__file__).with_name("gallery.html")
DARK = re.compile(r"\(\s*prefers-color-scheme\s*:\s*dark\s*\)")
# The media query in place of prefers-color-scheme, by the scheme of the preview.
SCHEMES = {"light": "not all", "dark": "all"}
language_option = click.option("--language", help="One of RECOVERY_LANGUAGES.")
mail = AppGroup("mail", help="Preview emails and send a test email.")


@mail.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="mail-preview.html",
    show_default=True,
    help="The page to write.",
)
@language_option
def preview(output: Path, language: str | None) -> None:
    """Write one page with every email in light and dark, its text, and the variables of its templates.

    Works with broken templates, too, and shows their findings.
    """
    wrong = translation_checks.errors() or list(template_checks.check_templates())
    page = _gallery(wrong, _supported(language))
    try:
        output.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise click.ClickException(f"cannot write {output}: {error.strerror}") from None
    if wrong:
        places = ", ".join(sorted({finding.where or finding.setting for finding in wrong}))
        click.echo(f"There are problems with {places}: see the page, or run manage.py check.")
    click.echo(f"Written: {output.resolve()}. Open it in a browser.")


@mail.command("send-test")
@click.argument("address")
@click.option("--mail", "name", default="reset_instructions", show_default=True, help="The kind of email.")
@language_option
def send_test(address: str, name: str, language: str | None) -> None:
    """Send an email with sample data to ADDRESS now, and show the relay's answer."""
    with exit_on_settings_error(code=1):
        checks.refuse_errors(current_app, current())
    if (recipient := identity_mappers.normalize_email(address)) is None:
        raise click.ClickException(f"{address!r}: not an email address")
    mails = {sample.name: sample for sample in samples.MAILS}
    if name not in mails:
        raise click.ClickException(f"there is no {name!r}; there are {', '.join(mails)}")
    spoken, started = _supported(language), time.monotonic()
    try:
        with samples.request_context(), i18n.use_language(spoken):
            test = samples.compose(mails[name], recipient)
        test.subject = f"[Test] {test.subject}"
        with closing(mailman.get_connection()) as relay:
            test.deliver(relay, started + current().sending_time.total_seconds())
    except (smtp_failures.MailHeld, Undeliverable) as error:
        raise click.ClickException(str(error)) from None
    except Exception as error:  # smtplib raises various types
        raise click.ClickException(smtp_failures.outcome_of(error)[1]) from None
    if current().RECOVERY_INBOX:
        click.echo("The email is in the demo inbox (RECOVERY_INBOX) and nowhere else.")
    else:
        took = f"{time.monotonic() - started:.1f} s"
        click.echo(f"{current().MAIL_SERVER} accepted it after {took}. The link in it does not work.")


def _supported(language: str | None) -> str:
    offered = current().RECOVERY_LANGUAGES
    if language and language not in offered:
        raise click.ClickException(f"RECOVERY_LANGUAGES has no {language!r}; there are {', '.join(offered)}")
    return language or current().BABEL_DEFAULT_LOCALE


def _gallery(wrong: list[Finding], language: str) -> str:
    own = set(templates.overridden(current()))
    with samples.request_context(), i18n.use_language(language):
        shown = [_sample_page(sample, own) for sample in samples.MAILS]
    page = current_app.jinja_env.from_string(GALLERY.read_text(encoding="utf-8"))
    # Without a file, a subject that is a setting.
    findings = [f for f in wrong if not f.where or f.where.endswith(".po") or samples.FOLDER in f.where]
    return page.render(mails=shown, findings=findings)


def _sample_page(sample: samples.Mail, own: set[str]) -> dict[str, Any]:
    try:
        letter, problem = samples.compose(sample), None
    except Exception as error:  # templates raise various types
        letter, problem = None, f"{type(error).__name__}: {error}"
    return vars(sample) | {
        "is_sent": templates.is_enabled(sample.name),
        "only_with": templates.feature_of(sample.name),
        "letter": letter,
        "html": {scheme: DARK.sub(media, letter.html) for scheme, media in SCHEMES.items()} if letter else {},
        "problem": problem,
        "files": [(name, name in own) for name in sample.templates.values()],
        "variables": samples.variable_names(sample.context),
        "required": dict(sample.required.values()),
    }
