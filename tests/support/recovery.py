"""Reset links as programs and browsers meet them, and the links of "This wasn't me"."""

import re
from email.message import EmailMessage

from .mailbox import html_of, text_of
from .site import NEW_PASSWORD, Site


def code_of(site: Site, link: str, password: str = NEW_PASSWORD) -> str:
    """Redeem a link in JSON, and return the error code, or "redeemed"."""
    answer = site.visitor().post_json(link, json={"password": password})
    return str(answer.json["response"].get("error_code", "redeemed"))


def problem_at(site: Site, link: str) -> str:
    """Open a link that does not work in a browser, and return the error code of the page."""
    page = site.visitor().open(link, follow_redirects=True)
    assert page.status_code == 400
    assert re.search('class="button( quiet)?" href="/', page.text)  # the page leads on
    return page.text.split('data-code="')[1].split('"')[0]


def mails_to(site: Site, *addresses: str) -> list[EmailMessage]:
    """Work, and return the mails to these addresses. Without one, all."""
    site.work()
    return [mail for mail in site.mailbox.mails if not addresses or mail["To"] in addresses]


def link_of(site: Site, kind: str) -> str:
    """Work, and return the newest link of a kind in the mailbox."""
    links = [re.search(rf"https?://\S+/{kind}/\S+", text_of(mail)) for mail in mails_to(site)]
    return [link[0] for link in links if link][-1]


def objection_in(mail: EmailMessage) -> str:
    """Return the URL of "This wasn't me", which both parts of a mail hold once."""
    pattern = r'https?://[^\s"<]+/not-me/[^\s"<]+'
    [text], [html] = (set(re.findall(pattern, part(mail))) for part in (text_of, html_of))
    assert text == html
    return str(text)


def object_to(site: Site, mail: EmailMessage) -> str:
    """Open the link of "This wasn't me", press the button, and return the page."""
    answer = site.visitor().submit(objection_in(mail))
    assert answer.status_code == 200, answer.text
    return answer.text
