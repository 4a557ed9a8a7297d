// Help with forms: two clicks send one once, its buttons are disabled meanwhile, a button may count down, and an
// open menu closes. The page works without JavaScript, too.
const SECOND_CLICK_MS = 5000; // a later one is another try
let sentAt = -SECOND_CLICK_MS;
let disabled = [];

function enable() {
  for (const button of disabled) button.disabled = false;
  disabled = [];
  sentAt = -SECOND_CLICK_MS;
}

addEventListener("submit", (event) => {
  if (event.defaultPrevented) return; // by another script, which sends it later
  if (event.timeStamp - sentAt < SECOND_CLICK_MS) return event.preventDefault();
  sentAt = event.timeStamp;
  setTimeout(() => { // once the data are collected, because a disabled button's value is not sent
    disabled = [...event.target.elements].filter((it) => it.type === "submit" && !it.disabled);
    for (const button of disabled) button.disabled = true;
  });
  setTimeout(enable, SECOND_CLICK_MS);
});
addEventListener("pageshow", enable); // the browser may have kept the page

function countDown(button) {
  const label = button.textContent;
  const end = Date.now() + 1000 * button.dataset.wait;
  const update = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    const time = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    button.disabled = left > 0;
    button.textContent = left > 0 ? button.dataset.waiting.replace("{time}", time) : label;
    if (left > 0) setTimeout(update, 1000);
  };
  update();
}

for (const button of document.querySelectorAll("button[data-wait]")) countDown(button);

const menu = document.querySelector(".languages details");
menu?.addEventListener("toggle", () => { if (menu.open) menu.lastElementChild.scrollIntoView({ block: "nearest" }); });
addEventListener("click", (event) => { if (menu && !menu.contains(event.target)) menu.open = false; });
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !menu?.open) return;
  menu.open = false;
  menu.firstElementChild.focus();
});
