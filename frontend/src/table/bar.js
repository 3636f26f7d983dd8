// Above the table: looking for a text, and the menus of ticks, view and keys.

import { CircleQuestionMark, ListChecks, ListFilter, Search, SlidersHorizontal, Undo2, X } from "lucide";

import { claim, debounce, h } from "../common/dom.js";
import { icon, iconButton } from "../common/icons.js";

export class Bar {
  constructor(table) {
    this.table = table;
    const { menus } = table;
    this.search = h("input", {
      class: "fnb-table-search",
      type: "text",
      placeholder: "Search names, comments, reasons",
      "aria-label": "Search names, comments and reasons",
      spellcheck: "false",
      autocomplete: "off",
      onkeydown: (event) => this.onKey(event),
    });
    this.apply = debounce(() => table.ask("text", { value: this.search.value }), 250);
    this.search.addEventListener("input", () => {
      this.drawClear();
      this.apply();
    });
    this.clear = iconButton(X, "Look for nothing", () => this.setSearch(""));
    this.filter = this.button(ListFilter, "Filters", () => table.head.showFilters(!table.head.areFiltersShown));
    this.ticks = this.button(ListChecks, "Ticks", (event) => menus.openTicks(event.currentTarget));
    this.view = this.button(SlidersHorizontal, "View", (event) => menus.openView(event.currentTarget));
    this.undo = iconButton(Undo2, "Nothing to take back", () => {
      table.ask("undo");
      table.focus();
    });
    this.help = iconButton(CircleQuestionMark, "Keys (?)", () => menus.openKeys());
    for (const button of [this.ticks, this.view]) button.setAttribute("aria-haspopup", "menu");
    const find = h("div", { class: "fnb-input fnb-table-find" }, icon(Search), this.search, this.clear);
    const buttons = [this.filter, this.ticks, this.view, this.undo, this.help];
    this.element = h("div", { class: "fnb-table-bar", role: "toolbar", "aria-label": "Table" }, find, ...buttons);
    this.drawClear();
  }

  button(parts, words, onclick) {
    const count = h("span", { class: "fnb-table-badge", hidden: true });
    const properties = { type: "button", class: "fnb-button fnb-table-tool", title: words, onclick };
    const button = h("button", properties, icon(parts), h("span", { class: "fnb-table-tool-words" }, words), count);
    button.setAttribute("aria-label", words);
    button.count = count;
    return button;
  }

  draw() {
    const { state, head } = this.table;
    if (document.activeElement !== this.search && this.search.value !== state.text) this.search.value = state.text;
    this.drawClear();
    badge(this.filter, state.filters);
    this.filter.setAttribute("aria-pressed", head.areFiltersShown);
    badge(this.ticks, state.only_ticked ? "only" : 0);
    this.undo.disabled = !state.undo;
    this.undo.title = state.undo ? `Take back: ${state.undo} (Ctrl Z)` : "Nothing to take back";
    this.undo.setAttribute("aria-label", this.undo.title);
  }

  drawClear() {
    this.clear.hidden = this.search.value === "";
  }

  setSearch(text) {
    this.search.value = text;
    this.drawClear();
    this.apply();
    this.apply.now();
    this.search.focus({ preventScroll: true });
  }

  focusSearch() {
    this.search.focus({ preventScroll: true });
    this.search.select();
  }

  onKey(event) {
    event.stopPropagation();
    if (event.key === "Escape" && this.search.value) this.setSearch("");
    else if (event.key === "Escape" || event.key === "ArrowDown" || event.key === "Enter") {
      this.apply.now();
      this.table.focus();
    } else return;
    claim(event);
  }
}

function badge(button, value) {
  button.count.hidden = !value;
  button.count.textContent = String(value || "");
}
