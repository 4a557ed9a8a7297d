// A button beside each password box that shows what was typed. Without JavaScript the box is a box.
for (const box of document.querySelectorAll('input[type="password"]')) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "show";
  const label = document.querySelector(`label[for="${box.id}"]`).textContent;
  const say = () => {
    const shown = box.type === "text";
    button.textContent = shown ? "Hide" : "Show";
    button.setAttribute("aria-label", `${button.textContent}: ${label}`);
    button.setAttribute("aria-pressed", String(shown));
  };
  button.addEventListener("click", () => {
    box.type = box.type === "password" ? "text" : "password";
    say();
    box.focus();
  });
  box.form.addEventListener("submit", () => { box.type = "password"; say(); }); // so that password managers see one
  say();
  box.after(button);
}
