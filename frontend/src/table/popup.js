// A menu or a small form over the page: closed by Escape, by a click elsewhere, and by scrolling where it is fleeting.

import { claim, h } from "../common/dom.js";
import { icon } from "../common/icons.js";

const EDGE = 8;

export class Popup {
  constructor(table, { label, role = "menu", fleeting = true, className = "" }) {
    this.table = table;
    this.fleeting = fleeting;
    this.element = h("div", {
      class: `fnb fnb-menu fnb-table-popup ${className}`,
      role,
      "aria-label": label,
      tabindex: -1,
      dataset: { lmSuppressShortcuts: "true" },
      onkeydown: (event) => this.onKey(event),
      oncontextmenu: claim,
    });
    // the page, or what the table lies in, went on under it
    this.scrolled = (event) => {
      if (this.fleeting && event.target.contains(this.table.el)) this.close(false);
    };
    this.outside = (event) => {
      if (!this.element.contains(event.target) && !this.owner?.contains(event.target)) this.close(false);
    };
  }

  // Show it at a point, or below an element; whole within the window.
  // `back` has the focus again when it is closed.
  open(place, { owner = null, back = owner ?? this.table.scroll } = {}) {
    this.owner = owner;
    this.back = back;
    document.body.append(this.element);
    // light or dark as where it was opened
    this.element.style.colorScheme = getComputedStyle(this.table.el).colorScheme;
    const box = place instanceof Element ? place.getBoundingClientRect() : null;
    const [x, y] = box ? [box.left, box.bottom + 4] : place;
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const below = y + height + EDGE <= window.innerHeight;
    const above = box ? box.top - 4 - height : y - height;
    const top = below ? y : above >= EDGE ? above : Math.max(EDGE, window.innerHeight - height - EDGE);
    this.element.style.left = `${Math.max(EDGE, Math.min(x, window.innerWidth - width - EDGE))}px`;
    this.element.style.top = `${top}px`;
    owner?.setAttribute("aria-expanded", "true");
    setTimeout(() => document.addEventListener("pointerdown", this.outside, true));
    document.addEventListener("scroll", this.scrolled, { capture: true, passive: true });
    this.focusFirst();
  }

  focusFirst() {
    const first = this.element.querySelector("[autofocus]") ?? this.items()[0] ?? this.element;
    first.focus({ preventScroll: true });
  }

  items() {
    const items = this.element.querySelectorAll(
      "button:not(:disabled), input:not(:disabled), select:not(:disabled), [role=option]",
    );
    return [...items].filter((item) => item.offsetParent !== null);
  }

  onKey(event) {
    event.stopPropagation();
    const items = this.items();
    const at = items.indexOf(document.activeElement);
    const inField = ["INPUT", "SELECT"].includes(event.target.tagName) && event.target.type !== "checkbox";
    if (event.key === "Escape") this.close();
    else if (event.key === "ArrowDown" && event.target.tagName !== "SELECT") items[(at + 1) % items.length]?.focus();
    else if (event.key === "ArrowUp" && event.target.tagName !== "SELECT") items.at((at || items.length) - 1)?.focus();
    else if (event.key === "Tab") items.at((at + (event.shiftKey ? -1 : 1)) % items.length)?.focus();
    else if (!inField && event.key === "Home") items[0]?.focus();
    else if (!inField && event.key === "End") items.at(-1)?.focus();
    else return;
    claim(event);
  }

  close(back = true) {
    document.removeEventListener("pointerdown", this.outside, true);
    document.removeEventListener("scroll", this.scrolled, { capture: true });
    this.owner?.setAttribute("aria-expanded", "false");
    this.element.remove();
    this.table.menus.closed(this);
    if (back) this.back.focus({ preventScroll: true });
  }
}

// One entry of a menu. `checked` makes it one that is on or off.
export function entry(words, onclick, { drawing = null, key = "", checked = null, disabled = "", note = "" } = {}) {
  const properties = {
    type: "button",
    class: "fnb-menu-item",
    role: checked === null ? "menuitem" : "menuitemcheckbox",
    "aria-checked": checked === null ? null : String(checked),
    disabled: disabled !== "",
    title: disabled || null,
    onclick,
  };
  const mark = drawing instanceof Element ? drawing : drawing ? icon(drawing) : h("span", { class: "fnb-table-space" });
  return h(
    "button",
    properties,
    mark,
    h("span", { class: "fnb-table-entry" }, words),
    note ? h("span", { class: "fnb-caption" }, note) : null,
    key ? h("span", { class: "fnb-key" }, key) : null,
  );
}

export function line() {
  return h("hr");
}

export function heading(words) {
  return h("div", { class: "fnb-caption fnb-table-heading" }, words);
}
