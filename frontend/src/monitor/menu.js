// A small menu beside a button: entries {words, run}, elements, or null for a line between.

import { claim, h } from "../common/dom.js";

export function openMenu(button, entries) {
  const menu = h("div", { class: "fnb-menu pop", role: "menu" });
  for (const entry of entries) {
    if (entry === null) menu.append(h("hr"));
    else if (entry instanceof Node) menu.append(entry);
    else menu.append(h("button", { type: "button", class: "fnb-menu-item", role: "menuitem", onclick: () => (entry.run(), close()) }, entry.words));
  }
  const place = button.parentElement;
  place.append(menu);
  button.setAttribute("aria-expanded", "true");

  function close() {
    menu.remove();
    button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside, true);
    button.removeEventListener("click", again, true);
    button.focus({ preventScroll: true });
  }
  function outside(event) {
    if (!menu.contains(event.target) && !button.contains(event.target)) close();
  }
  function again(event) {
    event.stopImmediatePropagation(); // the button that opened it closes it
    close();
  }
  button.addEventListener("click", again, true);
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape" || (event.key === "Enter" && event.target.matches("input"))) {
      claim(event);
      close();
    }
  });
  document.addEventListener("pointerdown", outside, true);
  menu.querySelector("input, button")?.focus({ preventScroll: true });
}
