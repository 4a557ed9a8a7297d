// Every code that Sparekey answers with, in this app's own words.

const WORDS = {
  invalid_request: "That could not be understood. Please check what you typed.",
  challenge_required: "Too many requests are arriving. Please try again later.",
  csrf_failed: "Please reload the page and try again.",
  origin_not_allowed: "This app is not allowed to ask. Its origin is missing in Sparekey's configuration.",
  rate_limited: "That was tried too often. Please try again later.",
  code_invalid: "That code does not work here. Check it, or open the link in the email. After five tries, only the link works.",
  link_invalid: "This link is incomplete. Copy it whole from the mail.",
  link_expired: "This link has expired.",
  link_used: "This link was already used.",
  link_superseded: "Another link was used: your password was set with it.",
  link_revoked: "This link was cancelled, since the account has changed.",
  account_unavailable: "This account can not be recovered here.",
  password_too_short: "That password is too short.",
  password_too_long: "That password is too long.",
  password_common: "Too many people use that password.",
  password_breached: "That password has appeared in a data breach.",
  password_unchanged: "That is your password already.",
  password_mismatch: "The two passwords are not the same.",
  sign_in_failed: "That did not match.",
  not_signed_in: "Please sign in first.",
  no_access: "This account has no access.",
  mail_not_configured: "No mail is sent from here. Please ask whoever runs this app for a link.",
  conflict: "The account has changed meanwhile. Please start again.",
  not_found: "There is nothing here.",
  internal_error: "Something went wrong on the server.",
  unavailable: "This does not work right now. Please try again later.",
  unreachable: "The server can not be reached. Are you online?",
};

export const inWords = (code) => WORDS[code] ?? "Something went wrong.";

// After these, a new link helps.
export const wantsNewLink = (code) => code.startsWith("link_");
