"""Adding factors to alice's account, as a browser that is signed in does."""

import re
from pathlib import Path
from typing import Any

from passlib.totp import TOTP

from .authenticator import create_credential
from .features import CODE_SIGN_IN, PASSKEYS, RECOVERY_CODES
from .site import Site, Visitor

PUBLIC_URL = "http://localhost:5000"
FACTORS = {**RECOVERY_CODES, **CODE_SIGN_IN, **PASSKEYS, "RECOVERY_PUBLIC_URL": PUBLIC_URL}
FIREFOX = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0) Gecko/20100101 Firefox/148.0 evil.example"}
THIEFS_PHONE = "+14155559999"


def post(visitor: Visitor, path: str, **fields: Any) -> dict[str, Any]:
    answer = visitor.post_json(path, json=fields, headers=FIREFOX)
    assert answer.status_code == 200, answer.text
    return dict((answer.json or {})["response"])


def stolen_session(site: Site) -> Visitor:
    thief = site.visitor()
    assert thief.sign_in()
    return thief


def add_app(site: Site, thief: Visitor) -> None:
    answer = post(thief, "/tf-setup", setup="authenticator")
    code = TOTP(key=answer["tf_authr_b32key"]).generate().token
    post(thief, f"/tf-setup/{answer['tf_state_token']}", code=code)


def add_texts(site: Site, thief: Visitor) -> None:
    token = post(thief, "/tf-setup", setup="sms", phone=THIEFS_PHONE)["tf_state_token"]
    texts = Path(site.app.instance_path, "sms.txt").read_text()
    post(thief, f"/tf-setup/{token}", code=re.findall(r"\b\d{6}\b", texts)[-1])


def add_code_sign_in(site: Site, thief: Visitor) -> None:
    answer = post(thief, "/us-setup", chosen_method="authenticator")
    code = TOTP(key=answer["authr_key"].replace("-", "")).generate().token
    post(thief, f"/us-setup/{answer['state']}", passcode=code)


def add_recovery_codes(site: Site, thief: Visitor) -> None:
    assert post(thief, "/mf-recovery-codes", generate_new_codes="1")["recovery_codes"]


def add_passkey(site: Site, thief: Visitor, name: str = "My phone") -> None:
    answer = post(thief, "/wan-register", name=name, usage="secondary")
    credential = create_credential(answer["credential_options"]["challenge"], PUBLIC_URL)
    post(thief, f"/wan-register/{answer['wan_state']}", credential=credential)
