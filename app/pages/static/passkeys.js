// Asks the browser for a passkey and sends it, with the functions of Flask-Security's webauthn.js. The server's
// options are an attribute of the form, and errors are shown as text: neither is evaluated as code.
const form = document.querySelector("form[data-passkey]");
const progress = form.querySelector("p");
const problem = form.querySelector("[role=alert]");
const retry = form.querySelector("button");
const messages = {
  NotAllowedError: form.dataset.cancelled,
  InvalidStateError: form.dataset.known,
  SecurityError: form.dataset.elsewhere,
};

function show(isAsking) {
  progress.hidden = !isAsking;
  problem.hidden = retry.hidden = isAsking;
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
  const { credential, error_msg: error } = await answer();
  if (error) {
    const name = Object.keys(messages).find((known) => error.includes(known));
    problem.textContent = name ? messages[name] : error;
    show(false);
  } else {
    form.elements.credential.value = credential;
    form.submit();
  }
}

retry.addEventListener("click", (event) => { event.preventDefault(); ask(); });
ask();
