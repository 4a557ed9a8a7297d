"""The token of a "This wasn't me" link."""

import base64
import json
import re

from support.mailbox import text_of
from support.site import Site


def test_objection_token_reveals_no_number_of_messages(site: Site) -> None:
    site.new_link()
    [message] = site.messages()
    token = re.search(r"/not-me/([\w.-]+)", text_of(site.mailbox.mails[0]))
    assert token
    payload = token[1].split(".")[0]
    content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert content == [message["message_id"]]
