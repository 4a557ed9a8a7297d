// The app: a view for each path, and nothing kept but in memory.

import * as api from "/api.js";
import { inWords, wantsNewLink } from "/codes.js";

const view = document.getElementById("view");
let requestId; // of the newest request for a link: the code in the email works only with it
let session = null; // Sparekey's authentication token, while this page is open

const views = {
  "/": home,
  "/sign-in": signIn,
  "/forgot": forgot,
  "/sent": sent,
  "/reset": reset,
  "/problem": problem,
  "/done": done,
};

// --- small tools ---------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const link = (path, text) => element("a", { href: path, onclick: (event) => (event.preventDefault(), go(path)) }, text);

function show(title, ...children) {
  document.title = `${title} · Sample app`;
  view.replaceChildren(element("h1", {}, title), ...children);
  view.focus();
}

function go(path) {
  history.pushState(null, "", path);
  draw();
}

function field(label, attributes) {
  const input = element("input", { id: attributes.name, required: "", ...attributes });
  return element("p", {}, element("label", { for: attributes.name }, label), input);
}

function form(button, fields, act) {
  const message = element("p", { class: "problem", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    message.textContent = "";
    const typed = Object.fromEntries(new FormData(event.target));
    try {
      await act(typed);
    } catch (refusal) {
      message.textContent = inWords(refusal.code);
      if (wantsNewLink(refusal.code ?? "")) message.append(" ", link("/forgot", "Request a new link."));
    }
  };
  return element("form", { onsubmit: submit }, ...fields, message, element("button", {}, button));
}

// --- the views ---------------------------------------------------------------------------------

async function home() {
  if (!session) return show("Welcome", element("p", {}, link("/sign-in", "Sign in")));
  await api.whoAmI(session);
  show("You're signed in", element("p", {}, "with a Sparekey authentication token, kept on this page only."));
}

async function signIn() {
  const { identity_label: label } = await api.whatToKnow();
  const fields = [
    field(label, { name: "identity", autocomplete: "username" }),
    field("Password", { name: "password", type: "password", autocomplete: "current-password" }),
  ];
  const act = async ({ identity, password }) => {
    session = await api.signIn(identity, password);
    go("/");
  };
  show("Sign in", form("Sign in", fields, act), element("p", {}, link("/forgot", "Forgot your password?")));
}

async function forgot() {
  const { identity_label: label } = await api.whatToKnow();
  const fields = [field(label, { name: "identity", autocomplete: "username" })];
  const act = async ({ identity }) => {
    requestId = (await api.askForLink(identity, requestId)).request_id;
    go("/sent");
  };
  show("Forgot your password?", form("Email me a link", fields, act));
}

function sent() {
  const text = element("p", {}, "If an account matches, we've emailed it a reset link.");
  if (!requestId) return show("Check your email", text); // RECOVERY_CODE is off
  const attributes = { name: "code", autocomplete: "one-time-code", inputmode: "numeric" };
  const act = async ({ code }) => choosePassword((await api.enterCode(requestId, code)).token);
  show("Check your email", text, form("Continue", [field("Or enter the code in the email", attributes)], act));
}

function reset() {
  const given = new URLSearchParams(location.search || location.hash.slice(1));
  const token = given.get("token") ?? "";
  history.replaceState(null, "", "/reset"); // out of the address bar before anything else
  return choosePassword(token);
}

async function choosePassword(token) {
  const [policy, { invited }] = await Promise.all([api.whatToKnow(), api.lookAtLink(token)]);
  const fields = [
    field(`New password, at least ${policy.password_length_min} characters`, {
      name: "password",
      type: "password",
      autocomplete: "new-password",
    }),
  ];
  const act = async ({ password }) => {
    await api.setPassword(token, password);
    go("/done");
  };
  show(invited ? "Welcome" : "Choose a new password", form("Set new password", fields, act));
}

function problem() {
  const code = new URLSearchParams(location.search).get("code") ?? ""; // never the text: it came with the URL
  tell(code);
}

function tell(code) {
  const onward = wantsNewLink(code) ? link("/forgot", "Request a new link") : link("/", "Start over");
  show("That didn't work", element("p", {}, inWords(code)), element("p", {}, onward));
}

function done() {
  show("Your password has been changed", element("p", {}, link("/sign-in", "Sign in")));
}

// --- the router ----------------------------------------------------------------------------------

async function draw() {
  try {
    await (views[location.pathname] ?? home)();
  } catch (refusal) {
    tell(refusal.code ?? "internal_error");
  }
}

addEventListener("popstate", draw);
draw();
