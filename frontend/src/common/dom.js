// What every widget needs of the browser.

import THEME from "./theme.css";

// Put a style sheet into the document once, however many widgets of a kind there are.
export function addStyles(name, text, owner = document) {
  const id = `fnb-style-${name}`;
  const present = owner.getElementById(id);
  if (present) {
    if (present.textContent !== text) present.textContent = text; // a newer kernel brought a newer sheet
    return;
  }
  const style = owner.createElement("style");
  style.id = id;
  style.textContent = text;
  owner.head.append(style);
}

// Make an element the root of a panel: theme and look apply to all inside. `name` and `text` are its own style sheet.
export function begin(element, name, text = "") {
  addStyles("theme", THEME, element.ownerDocument);
  if (text) addStyles(name, text, element.ownerDocument);
  element.classList.add("fnb", `fnb-${name}`);
  return element;
}

// Make an element: h("button", { class: "fnb-button", onclick: f, "aria-label": "x", dataset: { id: 3 } }, "text", child).
// Properties with a value of null, undefined or false are left out; children likewise. Text is never read as HTML.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "style" && typeof value === "object") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Call a function at most once in so many milliseconds, with the last arguments it was given.
export function throttle(f, milliseconds) {
  let timer = null;
  let waiting = null;
  const run = () => {
    timer = null;
    if (waiting === null) return;
    const args = waiting;
    waiting = null;
    timer = setTimeout(run, milliseconds);
    f(...args);
  };
  return (...args) => {
    waiting = args;
    if (timer === null) run();
  };
}

// Call a function when it has not been asked for so many milliseconds; .now() calls it at once if it is waiting.
export function debounce(f, milliseconds) {
  let timer = null;
  let args = [];
  const run = () => {
    timer = null;
    f(...args);
  };
  const wait = (...given) => {
    args = given;
    clearTimeout(timer);
    timer = setTimeout(run, milliseconds);
  };
  wait.now = () => {
    if (timer === null) return;
    clearTimeout(timer);
    run();
  };
  return wait;
}

// Wait until the page has nothing more pressing to do, a quarter of a second at most.
export function idle() {
  const ask = window.requestIdleCallback ?? ((go) => setTimeout(go, 30)); // Safari has none
  return new Promise((resolve) => ask(resolve, { timeout: 250 }));
}

// Keep a key from JupyterLab and the browser once it has been used here.
export function claim(event) {
  event.stopPropagation();
  event.preventDefault();
}

// What a table of an explorer tells the explorer's other parts: the cursor is on another exposure.
export const CURRENT = "fnb-current";
