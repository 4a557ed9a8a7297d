// Reads {name: html} and prints rows of [feature, programs, mails or reason]: "errors" are what a mail uses and a
// program does not know, "allowed" the same where it does no harm, "warnings" what it knows in part.
import { text } from "node:stream/consumers";
import { caniemail } from "caniemail";

const PROGRAMS = [
  "gmail.desktop-webmail", "gmail.mobile-webmail", "gmail.ios", "gmail.android",
  "outlook.windows", "outlook.windows-mail", "outlook.macos", "outlook.ios", "outlook.android",
  "apple-mail.macos", "apple-mail.ios", "thunderbird.macos",
];

// What may be missing somewhere, since the mail can be read and used without it.
const ALLOWED = {
  "@media": "only for dark colours and for more room on wide windows: without it a mail is light and narrow",
  "<style> element": "what must be seen stands at its element; this holds what is for @media",
  "border-radius": "corners are square there",
  "role attribute": "a layout table is announced as a table there",
  "word-break": "a long address may make the mail wider",
  "overflow-wrap": "a long word may make the mail wider",
  "word-wrap": "a long word may make the mail wider",
  "white-space": "a label may take two lines",
  "border-spacing": "the attribute cellspacing says the same",
  "overflow": "only for the line that lists show beside the subject, which is hidden besides",
  "display:none": "the line that lists show beside the subject is shown in the mail, too",
  "<body> element": "the colour behind the mail is given again at the table in it",
};

function ask(program, html) {
  const untried = [];
  for (;;) {
    try {
      return { ...caniemail({ clients: [program], html }).issues, untried };
    } catch (error) { // nobody has tried this feature in this program
      const [, feature] = /Feature "(.+)" not found/.exec(error.message) ?? [];
      if (!feature || untried.includes(feature)) throw error;
      untried.push(feature);
      html = html.replaceAll(new RegExp(`(?<=[;{"'\\s])${feature}\\s*:[^;"'}]*;?`, "g"), "");
    }
  }
}

function note(where, feature, program, mail) {
  const seen = (where[feature] ??= { programs: new Set(), mails: new Set() });
  seen.programs.add(program);
  seen.mails.add(mail);
}

const found = { errors: {}, warnings: {} };
for (const [mail, html] of Object.entries(JSON.parse(await text(process.stdin)))) {
  for (const program of PROGRAMS) {
    const { errors, warnings, untried } = ask(program, html);
    for (const { title } of [...errors.values()].flat()) note(found.errors, title, program, mail);
    for (const { title } of [...warnings.values()].flat()) note(found.warnings, title, program, mail);
    for (const title of untried) note(found.warnings, `${title} (untried)`, program, mail);
  }
}
const rows = (of, last) => Object.entries(of).map(([feature, { programs, mails }]) =>
  [feature, [...programs].join(" "), last(feature, [...mails])]);
const split = (isAllowed) => Object.fromEntries(
  Object.entries(found.errors).filter(([feature]) => feature in ALLOWED === isAllowed));
console.log(JSON.stringify({
  errors: rows(split(false), (_, mails) => mails),
  allowed: rows(split(true), (feature) => ALLOWED[feature]),
  warnings: rows(found.warnings, () => ""),
  unused: Object.keys(ALLOWED).filter((feature) => !(feature in found.errors)),
}));
