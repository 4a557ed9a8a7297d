"""The browser in a notice: words of ours, never the sender's."""

import pytest
from support.mailbox import html_of, text_of
from support.site import NEW_PASSWORD, Site

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"
CASES = {
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0": "Firefox, Linux",
    WINDOWS: "Chrome, Windows",
    f"{WINDOWS} Edg/142.0": "Edge, Windows",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) Version/18.6 Mobile/15E148 Safari/604.1": "Safari, iPhone",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.6 Safari/605.1.15": "Safari, macOS",
    "Mozilla/5.0 (Linux; Android 15) SamsungBrowser/28.0 Chrome/130.0 Mobile Safari/537.36": "Samsung Internet, Android",
    "planned maintenance, sign in at https://evil.example": "unknown",
    "": "unknown",
}


@pytest.mark.requirement("R21")
def test_notice_names_browser_and_system_and_repeats_nothing_of_the_header(site: Site) -> None:
    for number, (user_agent, words) in enumerate(CASES.items()):
        link, body = site.new_link("bob"), {"password": f"{NEW_PASSWORD} {number}"}
        answer = site.visitor().post_json(link, json=body, headers={"User-Agent": user_agent})
        assert answer.status_code == 200
        site.work()
        text, html = text_of(site.mailbox.mails[-1]), html_of(site.mailbox.mails[-1])
        assert f"Browser: {words}" in " ".join(text.split())
        assert words in html
        assert "evil.example" not in text + html
