// Icons of the Lucide set, and our own shapes for states and flags: whatever has a colour has a shape and a word too.

import flagBlue from "./shapes/flag-blue.svg";
import flagGold from "./shapes/flag-gold.svg";
import flagGreen from "./shapes/flag-green.svg";
import flagNone from "./shapes/flag-none.svg";
import flagRed from "./shapes/flag-red.svg";
import stateBroken from "./shapes/state-broken.svg";
import stateDone from "./shapes/state-done.svg";
import stateFailed from "./shapes/state-failed.svg";
import stateNew from "./shapes/state-new.svg";
import stateQueued from "./shapes/state-queued.svg";
import stateRunning from "./shapes/state-running.svg";
import stateWarning from "./shapes/state-warning.svg";
import { h } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

const STATES = {
  new: stateNew,
  queued: stateQueued,
  running: stateRunning,
  done: stateDone,
  warning: stateWarning,
  failed: stateFailed,
  broken: stateBroken,
};
const FLAGS = { red: flagRed, green: flagGreen, blue: flagBlue, gold: flagGold, "": flagNone };

const drawn = new Map();

// A drawing is parsed once and copied after that.
function copy(text) {
  if (!drawn.has(text)) {
    const template = document.createElement("template");
    template.innerHTML = text;
    drawn.set(text, template.content.firstElementChild);
  }
  return drawn.get(text).cloneNode(true);
}

// icon(Search) with `import { Search } from "lucide"`; give a title where no words stand beside it.
export function icon(parts, title = "") {
  const svg = document.createElementNS(SVG, "svg");
  const look = { viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": 2 };
  const round = { "stroke-linecap": "round", "stroke-linejoin": "round" };
  for (const [name, value] of Object.entries({ ...look, ...round })) svg.setAttribute(name, value);
  if (title) {
    svg.setAttribute("role", "img");
    const element = document.createElementNS(SVG, "title");
    element.textContent = title;
    svg.append(element);
  } else {
    svg.setAttribute("aria-hidden", "true");
  }
  for (const [tag, values] of parts) {
    const shape = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(values)) if (name !== "key") shape.setAttribute(name, value);
    svg.append(shape);
  }
  return svg;
}

// A button with an icon alone has its words as tooltip and for those who cannot see it.
export function iconButton(parts, title, onclick) {
  const properties = { type: "button", class: "fnb-button fnb-button-icon", title, "aria-label": title, onclick };
  return h("button", properties, icon(parts));
}

// A state with its shape and its word: new, queued, running, done, warning, failed or broken.
export function state(name, word = name) {
  const shape = STATES[name] ?? STATES.new;
  return h("span", { class: "fnb-state", dataset: { state: name } }, copy(shape), word);
}

// A flag as Focus' colour and a shape: red, green, blue, gold or none.
export function flag(name) {
  const shape = FLAGS[name ?? ""] ?? FLAGS[""];
  return h("span", { class: "fnb-flag", title: name ? `flagged ${name}` : "no flag" }, copy(shape));
}
