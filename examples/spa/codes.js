// Every code that Sparekey answers with, in this app's own words.

const WORDS = {
  invalid_request: "We couldn't understand that. Check what you entered.",
  challenge_required: "Too many requests are arriving. Please try again later.",
  csrf_failed: "Please reload the page and try again.",
  origin_not_allowed: "This app isn't allowed to do that: its origin is missing from Sparekey's configuration.",
  rate_limited: "Too many attempts. Please try again later.",
  code_invalid: "That code does not work here. Check it, or open the link in the email. After five tries, only the link works.",
  link_invalid: "This link is incomplete. Copy the whole link from the email.",
  link_expired: "This link has expired.",
  link_used: "This link has already been used.",
  link_superseded: "Your password was reset with a different link.",
  link_revoked: "This link was canceled, or your account has changed.",
  account_unavailable: "This password can't be reset.",
  password_too_short: "That password is too short.",
  password_too_long: "That password is too long.",
  password_common: "That password is too common.",
  password_breached: "That password has appeared in a data breach.",
  password_unchanged: "Choose a password different from your current one.",
  password_mismatch: "The passwords don't match.",
  sign_in_failed: "We couldn't sign you in with those details.",
  not_signed_in: "Please sign in to continue.",
  no_access: "This account doesn't have access.",
  mail_not_configured: "This app doesn't send email. Contact support to get a reset link.",
  conflict: "The account has changed since you opened this page. Please start over.",
  not_found: "Page not found.",
  internal_error: "Something went wrong on the server.",
  unavailable: "Temporarily unavailable. Please try again later.",
  unreachable: "We can't reach the server. Are you online?",
};

export const inWords = (code) => WORDS[code] ?? "Something went wrong.";

// After these, a new link helps.
export const wantsNewLink = (code) => code.startsWith("link_");
