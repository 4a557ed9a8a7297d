"""The features that templates of mails and pages belong to."""

from pathlib import PurePath

from ..settings import current

# By setting: the mails and pages that need it, as the beginnings of their templates' names.
FEATURES = {
    "RECOVERY_OPERATOR": ("operator_",),
    "RECOVERY_SECOND_ADDRESS": ("second_address",),
    "SECURITY_CHANGEABLE": ("change_password",),
    "SECURITY_CHANGE_EMAIL": ("address_", "change_email"),
    "SECURITY_CONFIRMABLE": ("confirmation_", "send_confirmation"),
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES": ("mf_",),
    "SECURITY_REGISTERABLE": ("register_user", "welcome"),
    "SECURITY_TWO_FACTOR": ("two_factor_",),
    "SECURITY_UNIFIED_SIGNIN": ("us_",),
    "SECURITY_USERNAME_RECOVERY": ("recover_username", "username_recovery"),
    "SECURITY_WEBAUTHN": ("wan_",),
    "sends_mail": ("forgot_password",),
}


def feature_of(template: str) -> str:
    """Return the setting that a mail or page needs; empty if it needs none."""
    name = PurePath(template).name
    return next((setting for setting, beginnings in FEATURES.items() if name.startswith(beginnings)), "")


def is_enabled(template: str) -> bool:
    """True if the settings let this mail go out, or this page be shown."""
    feature = feature_of(template)
    return not feature or bool(getattr(current(), feature))
