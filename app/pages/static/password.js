// What helps whoever types a password: a button that shows it, and, for a new one, how long it is so far. Without
// JavaScript a box is a box. The words are the page's: they stand in the attributes of this script.
const words = document.currentScript.dataset;
const PAUSE_MS = 600; // a screen reader is not told of every key
const FEW = 8; // different characters in a password that repeats itself

function addShow(box) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "show";
  const label = document.querySelector(`label[for="${box.id}"]`).textContent.trim();
  const say = () => {
    const isShown = box.type === "text";
    button.textContent = isShown ? words.hide : words.show;
    button.setAttribute("aria-label", (isShown ? words.hideWhat : words.showWhat).replace("{what}", label));
    box.style.paddingInlineEnd = `${button.offsetWidth + 12}px`;
  };
  button.addEventListener("click", () => {
    box.type = box.type === "password" ? "text" : "password";
    say();
    box.focus();
  });
  box.form.addEventListener("submit", () => { box.type = "password"; say(); }); // so that password managers see one
  box.after(button);
  say();
}

// Advice alone: what counts is what the server says, and nothing here keeps anybody from sending.
function adviceOn(password) {
  const characters = [...password.normalize("NFC")];
  if (!characters.length) return "";
  if (characters.length < Number(words.least)) return words.short.replace("{count}", characters.length);
  if (characters.length > Number(words.most)) return words.long;
  if (!/\D/.test(password)) return `${words.enough} ${words.digits}`;
  return new Set(characters).size < FEW ? `${words.enough} ${words.repeats}` : words.enough;
}

function fillAdvice(place) {
  const box = place.parentElement.querySelector("input");
  const [bar, text, heard] = place.children;
  let pause;
  const say = () => {
    bar.value = Math.min([...box.value.normalize("NFC")].length, bar.max);
    text.textContent = adviceOn(box.value);
    clearTimeout(pause);
    pause = setTimeout(() => { heard.textContent = text.textContent; }, PAUSE_MS);
  };
  box.addEventListener("input", say);
  say();
}

for (const box of document.querySelectorAll('input[type="password"]')) addShow(box);
for (const place of document.querySelectorAll(".advice")) fillAdvice(place);
