// Help with passwords: a button that shows the password, and advice on the length of a new one. The page works
// without JavaScript, too. Its texts are attributes of the script element.
const texts = document.currentScript.dataset;
const PAUSE_MS = 600; // so that a screen reader does not announce every key
const DIFFERENT_CHARACTERS_MIN = 8; // with fewer, a password repeats itself

function addShowButton(box) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "show";
  const label = document.querySelector(`label[for="${box.id}"]`).textContent.trim();
  const update = () => {
    const isShown = box.type === "text";
    button.textContent = isShown ? texts.hide : texts.show;
    button.setAttribute("aria-label", (isShown ? texts.hideWhat : texts.showWhat).replace("{what}", label));
    box.style.paddingInlineEnd = `${button.offsetWidth + 12}px`;
  };
  button.addEventListener("click", () => {
    box.type = box.type === "password" ? "text" : "password";
    update();
    box.focus();
  });
  box.form.addEventListener("submit", () => { box.type = "password"; update(); }); // for password managers
  box.after(button);
  update();
}

// Returns advice only: the server decides, and the form can be sent with any password.
function adviceOn(password) {
  const characters = [...password.normalize("NFC")];
  if (!characters.length) return "";
  if (characters.length < Number(texts.least)) return texts.short.replace("{count}", characters.length);
  if (characters.length > Number(texts.most)) return texts.long;
  if (!/\D/.test(password)) return `${texts.enough} ${texts.digits}`;
  return new Set(characters).size < DIFFERENT_CHARACTERS_MIN ? `${texts.enough} ${texts.repeats}` : texts.enough;
}

function showAdvice(element) {
  const box = element.parentElement.querySelector("input");
  const [bar, text, announcement] = element.children;
  let timer;
  const update = () => {
    bar.value = Math.min([...box.value.normalize("NFC")].length, bar.max);
    bar.hidden = !box.value;
    text.textContent = adviceOn(box.value);
    clearTimeout(timer);
    timer = setTimeout(() => { announcement.textContent = text.textContent; }, PAUSE_MS);
  };
  box.addEventListener("input", update);
  update();
}

for (const box of document.querySelectorAll('input[type="password"]')) addShowButton(box);
for (const element of document.querySelectorAll(".advice")) showAdvice(element);
