"""Messages that replace Flask-Security's, by its names."""

from __future__ import annotations

from babel.lists import format_list
from flask_babel import get_locale, gettext
from flask_babel import lazy_gettext as _l

from ..settings import current
from .i18n import N_

ERRORS = {
    "GENERIC_AUTHN_FAILED": N_("That did not match. Check what you typed and try again."),
    "PASSWORD_INVALID_LENGTH": N_("Use at least %(length)s characters. A few words in a row do well."),
    "PASSWORD_TOO_LONG": N_("Use at most %(length)s characters."),
    "PASSWORD_TOO_MANY_BYTES": N_(
        "Use at most %(length)s characters. Letters with accents count twice, other scripts and emojis more."
    ),
    "PASSWORD_NOT_TEXT": N_("This holds a character that no keyboard makes. Please type the password."),
    "PASSWORD_COMMON": N_(
        "This is one of the first passwords that anybody would try. "
        "Take a few words that have nothing to do with each other."
    ),
    "PASSWORD_PATTERN": N_(
        "This repeats itself, follows a row of keys or letters, or is made of dates, so it is easy to guess. "
        "Take a few words that have nothing to do with each other."
    ),
    "PASSWORD_ABOUT_YOU": N_(
        "This is too close to your name, your address or the name of this site. "
        "Take a few words that have nothing to do with them."
    ),
    "PASSWORD_BREACHED": N_(
        "This password was in a data breach of some site, so it is on the lists of those who guess. "
        "Take one that you use nowhere else."
    ),
    "PASSWORD_UNCHECKED": N_(
        "We can not find out right now whether this password was in a data breach. "
        "Nothing was changed. Please try again in a minute."
    ),
    "PASSWORD_IS_THE_SAME": N_("The new password must be another one than the current."),
    "RETYPE_PASSWORD_MISMATCH": N_("The two passwords are not the same."),
    "PASSWORD_NOT_PROVIDED": N_("Type a password."),
    "INVALID_PASSWORD": N_("That is not your current password."),
    "INVALID_REDIRECT": N_("After signing in you can only go on to a page of this site."),
    "PHONE_INVALID": N_("That is no phone number. Begin with + and the country code."),
    "INVALID_EMAIL_ADDRESS": N_("That is no email address."),
    "USERNAME_DISALLOWED_CHARACTERS": N_("Take another username."),
    "USERNAME_INVALID_LENGTH": N_("Use %(min)d to %(max)d characters."),
    "INVALID_CODE": N_("That code does not work. Codes are soon too old, and each works once."),
    "TWO_FACTOR_INVALID_TOKEN": N_("That code does not work. Codes are soon too old, and each works once."),
    "INVALID_PASSWORD_CODE": N_("That did not match. Codes are soon too old, and each works once."),
    "INVALID_RECOVERY_CODE": N_("That is none of your recovery codes, or it was used already."),
    "TWO_FACTOR_PERMISSION_DENIED": N_("Please sign in again."),
    "TWO_FACTOR_METHOD_NOT_AVAILABLE": N_("Choose one of these."),
    "US_METHOD_NOT_AVAILABLE": N_("Choose one of these."),
    "TWO_FACTOR_SETUP_EXPIRED": N_("That took too long. Please start again."),
    "US_SETUP_EXPIRED": N_("That took too long. Please start again."),
    "WEBAUTHN_EXPIRED": N_("That took too long. Please start again."),
    "WEBAUTHN_NAME_REQUIRED": N_("Give the passkey a name."),
    "WEBAUTHN_NAME_INUSE": N_("You have a passkey of that name already."),
    "WEBAUTHN_NAME_DISALLOWED_CHARACTERS": N_("Use only letters, digits, spaces, - and _."),
    "WEBAUTHN_UNKNOWN_CREDENTIAL_ID": N_("That passkey is not known here. Perhaps it was removed."),
    "WEBAUTHN_CREDENTIAL_WRONG_USAGE": N_("That passkey is not for this. Sign in with your password."),
    "WEBAUTHN_NO_VERIFY": N_("That passkey did not work."),
    "CHANGE_EMAIL_EXPIRED": N_("That link is too old. Please start again."),
    "API_ERROR": N_("That did not work. Please start again."),
}
SUCCESSES = {
    "CONFIRMATION_REQUEST": N_(
        "If there is an account to be confirmed for what you typed, a mail is on its way."
    ),
    "USERNAME_RECOVERY_REQUEST": N_(
        "If there is an account with a username for what you typed, a mail is on its way."
    ),
    "REAUTHENTICATION_SUCCESSFUL": N_("Thank you. You can go on."),
    "PASSWORD_CHANGE": N_("Your password is changed."),
    "CHANGE_EMAIL_SENT": N_("A mail is on its way to %(email)s."),
    "CHANGE_EMAIL_CONFIRMED": N_("Your email address is changed."),
    "EMAIL_CONFIRMED": N_("Your address is confirmed. You can sign in now."),
    "CODE_HAS_BEEN_SENT": N_("A code is on its way to you."),
    "GENERIC_US_SIGNIN": N_("If the account that you typed has codes by mail, one is on its way."),
    "TWO_FACTOR_LOGIN_SUCCESSFUL": N_("You are signed in."),
    "TWO_FACTOR_CHANGE_METHOD_SUCCESSFUL": N_("Your second factor is set up."),
    "TWO_FACTOR_DISABLED": N_("Your second factor is removed."),
    "US_SETUP_SUCCESSFUL": N_("You can sign in with a code now."),
    "WEBAUTHN_REGISTER_SUCCESSFUL": N_("The passkey is added."),
    "WEBAUTHN_CREDENTIAL_DELETED": N_("The passkey is removed."),
    "USE_CODE": N_("Your code: %(code)s"),
}
INFOS = {
    "UNAUTHENTICATED": N_("Please sign in first."),
    "REAUTHENTICATION_REQUIRED": N_("Please confirm first that it is you."),
}
MESSAGES = {"error": ERRORS, "success": SUCCESSES, "info": INFOS}  # by category
SECOND_FACTORS = {
    "authenticator": _l("Codes from an app"),
    "email": _l("Codes by mail"),
    "sms": _l("Codes by text message"),
    "webauthn": _l("A passkey"),
    "recovery_codes": _l("Recovery codes"),
    "active": _l("Permission to sign in"),  # and others that notices name
    "confirmed": _l("Confirmed address"),
    "role": _l("Role"),
    "second_address": _l("Second email address"),
}
IDENTITIES = {"email": N_("email"), "username": N_("username"), "us_phone_number": N_("phone number")}


def identity_names(*, without: str = "") -> str:
    """Return the configured identity kinds in words, such as: email, username, or phone number."""
    kinds = current().SECURITY_USER_IDENTITY_ATTRIBUTES.items()
    labels = {name: kind.label or IDENTITIES.get(name, name.replace("_", " ")) for name, kind in kinds}
    return format_list([gettext(labels[name]) for name in labels if name != without], "or", get_locale())


def identity_label(*, without: str = "") -> str:
    """Return the label of the box for an identity, such as: Email, username, or phone number."""
    names = identity_names(without=without)
    return names[:1].upper() + names[1:]
