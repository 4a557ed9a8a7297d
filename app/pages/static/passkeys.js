// Asks for a passkey and sends it. How browsers are asked is Flask-Security's (its webauthn.js); what the server wants
// stands in an attribute of the form, and what goes wrong is shown as text: neither is ever read as code.
const form = document.querySelector("form[data-passkey]");
const asking = form.querySelector("p");
const problem = form.querySelector("[role=alert]");
const again = form.querySelector("button");
const words = {
  NotAllowedError: form.dataset.cancelled,
  InvalidStateError: form.dataset.known,
  SecurityError: form.dataset.elsewhere,
};

function show(isAsking) {
  asking.hidden = !isAsking;
  problem.hidden = again.hidden = isAsking;
}

async function answer() {
  if (!window.PublicKeyCredential) return { error_msg: form.dataset.none };
  try {
    return await (form.dataset.passkey === "create" ? handleRegister : handleSignin)(form.dataset.options);
  } catch (error) {
    return { error_msg: String(error) };
  }
}

async function ask() {
  show(true);
  const { credential, error_msg: said } = await answer();
  if (said) {
    const known = Object.keys(words).find((name) => said.includes(name));
    problem.textContent = known ? words[known] : said;
    show(false);
  } else {
    form.elements.credential.value = credential;
    form.submit();
  }
}

again.addEventListener("click", (event) => { event.preventDefault(); ask(); });
ask();
