// Sets up ALTCHA's widget (vendor/altcha): its worker, and its texts, which are attributes of the script element.
const { worker, ...texts } = document.currentScript.dataset;

document.addEventListener("DOMContentLoaded", () => {
  const altcha = globalThis.$altcha;
  altcha.algorithms.set("PBKDF2/SHA-256", () => new Worker(worker));
  altcha.i18n.set(document.documentElement.lang.toLowerCase(), texts);
});
