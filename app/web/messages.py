"""Messages that replace Flask-Security's, by its names."""

from babel.lists import format_list
from flask_babel import get_locale, gettext, lazy_gettext as _l

from ..settings import current
from .i18n import N_

ERRORS = {
    "GENERIC_AUTHN_FAILED": N_("We couldn't sign you in with those details. Check them and try again."),
    "PASSWORD_INVALID_LENGTH": N_("Use at least %(length)s characters. Try a short phrase of several words."),
    "PASSWORD_TOO_LONG": N_("Use at most %(length)s characters."),
    "PASSWORD_TOO_MANY_BYTES": N_(
        "Use at most %(length)s characters. Some characters, such as accented letters and emoji, count as "
        "more than one."
    ),
    "PASSWORD_NOT_TEXT": N_("The password contains an unsupported character."),
    "PASSWORD_COMMON": N_("This password is too common. Try a few unrelated words."),
    "PASSWORD_ABOUT_YOU": N_(
        "This password is too similar to your name, your email address, or this site's name. Try a few "
        "unrelated words."
    ),
    "PASSWORD_BREACHED": N_(
        "This password has appeared in a data breach, so attackers will try it. Choose one you don't "
        "use anywhere else."
    ),
    "PASSWORD_UNCHECKED": N_(
        "We can't check right now whether this password has appeared in a data breach. Nothing was "
        "changed. Please try again in a minute."
    ),
    "PASSWORD_IS_THE_SAME": N_("Choose a password different from your current one."),
    "RETYPE_PASSWORD_MISMATCH": N_("The passwords don't match."),
    "PASSWORD_NOT_PROVIDED": N_("Enter a password."),
    "INVALID_PASSWORD": N_("That isn't your current password."),
    "INVALID_REDIRECT": N_("After signing in, you can only continue to a page on this site."),
    "PHONE_INVALID": N_("Enter a valid phone number, starting with + and the country code."),
    "INVALID_EMAIL_ADDRESS": N_("Enter a valid email address."),
    "USERNAME_DISALLOWED_CHARACTERS": N_("Use at least one letter and no unsupported characters."),
    "USERNAME_INVALID_LENGTH": N_("Use %(min)d to %(max)d characters."),
    "INVALID_CODE": N_("That code doesn't work. Codes expire quickly and work only once."),
    "TWO_FACTOR_INVALID_TOKEN": N_("That code doesn't work. Codes expire quickly and work only once."),
    "INVALID_PASSWORD_CODE": N_(
        "That password or code doesn't work. Codes expire quickly and work only once."
    ),
    "INVALID_RECOVERY_CODE": N_("That isn't one of your recovery codes, or it has already been used."),
    "TWO_FACTOR_PERMISSION_DENIED": N_("Please sign in again."),
    "TWO_FACTOR_METHOD_NOT_AVAILABLE": N_("Choose one of these options."),
    "US_METHOD_NOT_AVAILABLE": N_("Choose one of these options."),
    "TWO_FACTOR_SETUP_EXPIRED": N_("That took too long. Please start over."),
    "US_SETUP_EXPIRED": N_("That took too long. Please start over."),
    "WEBAUTHN_EXPIRED": N_("That took too long. Please start over."),
    "WEBAUTHN_NAME_REQUIRED": N_("Give the passkey a name."),
    "WEBAUTHN_NAME_INUSE": N_("You already have a passkey with that name."),
    "WEBAUTHN_NAME_DISALLOWED_CHARACTERS": N_(
        "Use only letters, numbers, spaces, hyphens (-), and underscores (_)."
    ),
    "WEBAUTHN_UNKNOWN_CREDENTIAL_ID": N_("We don't recognize that passkey. It may have been removed."),
    "WEBAUTHN_CREDENTIAL_WRONG_USAGE": N_("That passkey can't be used here. Try another passkey or method."),
    "WEBAUTHN_NO_VERIFY": N_("That passkey didn't work. Please try again."),
    "CHANGE_EMAIL_EXPIRED": N_("That link has expired. Please start over."),
    "API_ERROR": N_("That didn't work. Please start over."),
}
SUCCESSES = {
    "CONFIRMATION_REQUEST": N_(
        "If an account matches and still needs to be confirmed, we've emailed it a link."
    ),
    "USERNAME_RECOVERY_REQUEST": N_(
        "If an account matches and has a username, we've emailed you the username."
    ),
    "REAUTHENTICATION_SUCCESSFUL": N_("Thanks. You can continue."),
    "PASSWORD_CHANGE": N_("Your password has been changed."),
    "CHANGE_EMAIL_SENT": N_("We've emailed a link to %(email)s."),
    "CHANGE_EMAIL_CONFIRMED": N_("Your email address has been changed."),
    "EMAIL_CONFIRMED": N_("Your email address has been confirmed. You can now sign in."),
    "CODE_HAS_BEEN_SENT": N_("We've sent you a code."),
    "GENERIC_US_SIGNIN": N_("If an account matches and uses sign-in codes by email, we've emailed it one."),
    "TWO_FACTOR_LOGIN_SUCCESSFUL": N_("You're signed in."),
    "TWO_FACTOR_CHANGE_METHOD_SUCCESSFUL": N_("Your second factor has been set up."),
    "TWO_FACTOR_DISABLED": N_("Your second factor has been removed."),
    "US_SETUP_SUCCESSFUL": N_("You can now sign in with a code."),
    "WEBAUTHN_REGISTER_SUCCESSFUL": N_("Your passkey has been added."),
    "WEBAUTHN_CREDENTIAL_DELETED": N_("Your passkey has been removed."),
    "USE_CODE": N_("Your code: %(code)s"),
}
INFOS = {
    "UNAUTHENTICATED": N_("Please sign in to continue."),
    "REAUTHENTICATION_REQUIRED": N_("Please confirm it's you to continue."),
}
MESSAGES = {"error": ERRORS, "success": SUCCESSES, "info": INFOS}  # by category
SECOND_FACTORS = {
    "authenticator": _l("Authenticator app"),
    "email": _l("Codes by email"),
    "sms": _l("Codes by text message"),
    "webauthn": _l("Passkey"),
    "recovery_codes": _l("Recovery codes"),
    "active": _l("Permission to sign in"),  # and others that notices name
    "confirmed": _l("Email address confirmation"),
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
