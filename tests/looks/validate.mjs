// Reads {"pages": {name: html}, "mails": {name: html}} and prints {name: [what is wrong]}, for those that have faults.
import { text } from "node:stream/consumers";
import { HtmlValidate, StaticConfigLoader } from "html-validate";

const PAGES = {
  root: true,
  extends: ["html-validate:recommended", "html-validate:a11y", "html-validate:document"],
  rules: {
    // Our style sheet and scripts come from where the page came from: whoever changes them can change the page, too.
    "require-sri": ["error", { target: "crossorigin" }],
    // Both are matters of taste, and no browser minds: a line of a template on which a condition was not met
    // leaves its indent, and names of elements are small everywhere else, too.
    "no-trailing-whitespace": "off",
    "doctype-style": ["error", { style: "lowercase" }],
    // Flask-Security's forms send themselves with an input, which does the same.
    "prefer-button": "off",
  },
};

const MAILS = {
  ...PAGES,
  rules: {
    ...PAGES.rules,
    // Mail programs drop style sheets, or parts of them: what must be seen stands at its element.
    "no-inline-style": "off",
    // Outlook on Windows lays out by tables, and needs their old attributes.
    "no-deprecated-attr": "off",
    // It reads what other programs take for comments.
    "no-conditional-comment": "off",
    // As css-inline writes it.
    "doctype-style": "off",
    // Tables that only lay out have no parts; whatever parses them adds the one.
    "prefer-tbody": "off",
  },
};

const given = JSON.parse(await text(process.stdin));
const found = {};
for (const [kind, config] of Object.entries({ pages: PAGES, mails: MAILS })) {
  const validator = new HtmlValidate(new StaticConfigLoader(config));
  for (const [name, html] of Object.entries(given[kind] ?? {})) {
    const report = await validator.validateString(html);
    const faults = report.results.flatMap(({ messages }) => messages);
    if (faults.length) found[name] = faults.map((it) => `${it.ruleId}: ${it.message}`);
  }
}
console.log(JSON.stringify(found));
