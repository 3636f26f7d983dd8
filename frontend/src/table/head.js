// Captions, by which columns are sorted, moved and made wider, and the filters below them.

import { ArrowDown, ArrowUp } from "lucide";

import { claim, debounce, h } from "../common/dom.js";
import { icon } from "../common/icons.js";

const WIDTHS = { name: 188, status: 112, flag: 56, number: 80, time: 172, yes: 72, choice: 96, text: 128, comment: 220 };
const COMPACT = { ...WIDTHS, name: 132, status: 40, flag: 32, number: 68 };
// On a phone long texts and what is the same for all stay away; the details of an exposure have them.
const AWAY_KINDS = ["time", "text", "comment"];
const AWAY_GROUPS = ["Optics", "Recording", "Files"];
const LETTER = 7.4; // pixels
const TICK = 36;
const NARROWEST = 48;

export class Head {
  constructor(table) {
    this.table = table;
    this.element = h("div", { class: "fnb-table-head", role: "rowgroup" });
    this.cells = [];
    this.filters = new Map();
    this.filtersShown = null; // null: on a wide table
    this.active = 0;
    this.hint = h("div", { class: "fnb-table-hint", role: "alert", hidden: true });
  }

  get areFiltersShown() {
    return this.filtersShown ?? !this.table.el.classList.contains("fnb-table-compact");
  }

  showFilters(shown) {
    this.filtersShown = shown;
    this.draw();
    this.table.body.measure();
    this.table.body.draw();
    this.table.bar.draw();
  }

  isHidden(column) {
    if (!this.table.el.classList.contains("fnb-table-compact")) return false;
    return AWAY_KINDS.includes(column.kind) || AWAY_GROUPS.includes(column.group);
  }

  widthOf(column) {
    const compact = this.table.el.classList.contains("fnb-table-compact");
    if (column.width) return compact ? Math.min(column.width, 160) : column.width;
    const usual = (compact ? COMPACT : WIDTHS)[column.kind] ?? 120;
    return ["number", "yes", "choice"].includes(column.kind) ? Math.max(usual, captionWidth(column)) : usual;
  }

  draw() {
    const { columns, el } = this.table;
    const tracks = columns.map((column) => (this.isHidden(column) ? "0px" : `${this.widthOf(column)}px`));
    el.style.setProperty("--fnb-table-tick", `${TICK}px`);
    el.style.setProperty("--fnb-table-columns", `${TICK}px ${tracks.join(" ")}`);
    const focused = this.focusedFilter();
    this.cells = columns.map((column, place) => this.makeCaption(column, place));
    const captions = h(
      "div",
      { class: "fnb-table-captions", role: "row", "aria-rowindex": 1 },
      h("div", { class: "fnb-table-tick", role: "columnheader" }, h("span", { class: "fnb-hidden" }, "Ticked")),
      ...this.cells,
    );
    this.filters = new Map();
    const fields = columns.map((column) => this.makeFilter(column));
    const filters = h("div", { class: "fnb-table-filters", role: "row" }, h("div", { class: "fnb-table-tick" }), ...fields);
    filters.hidden = !this.areFiltersShown;
    this.element.replaceChildren(captions, filters, this.hint);
    if (focused) this.restoreFilter(focused);
    this.table.scroll.setAttribute("aria-colcount", columns.length + 1);
    if (columns.length) this.table.scroll.style.scrollPaddingLeft = `${TICK + this.widthOf(columns[0])}px`;
  }

  // Captions

  makeCaption(column, place) {
    const { label, unit, help, sort, kind, name } = column;
    const several = this.table.state.sort.length > 1;
    const arrow = sort
      ? h("span", { class: "fnb-table-arrow" }, icon(sort[1] ? ArrowUp : ArrowDown), several ? String(sort[0]) : null)
      : null;
    const caption = h(
      "span",
      { class: "fnb-table-caption" },
      h("span", {}, label),
      unit ? h("span", { class: "fnb-table-unit" }, ` ${unit}`) : null,
    );
    const cell = h(
      "div",
      {
        class: `fnb-table-cell fnb-table-of-${kind}`,
        role: "columnheader",
        tabindex: place === this.active ? 0 : -1,
        "aria-sort": sort ? (sort[1] ? "ascending" : "descending") : "none",
        "aria-colindex": place + 2,
        title: `${label}${unit ? ` (${unit})` : ""}${help ? `\n${help}` : ""}`,
        dataset: { column: name },
        onclick: (event) => this.sortBy(column, event.shiftKey),
        onkeydown: (event) => this.onKey(event, column, place),
        oncontextmenu: (event) => {
          claim(event);
          this.table.menus.openColumn(column, event.clientX, event.clientY);
        },
        onpointerdown: (event) => this.beginMove(event, column),
      },
      kind === "number" ? arrow : null,
      caption,
      kind === "number" ? null : arrow,
      h("span", {
        class: "fnb-table-edge",
        title: "Drag to make the column wider; double click for the usual width",
        onpointerdown: (event) => this.beginResize(event, column),
        onclick: claim,
        ondblclick: (event) => {
          claim(event);
          this.table.tell("width", { name, width: null });
        },
      }),
    );
    if (this.isHidden(column)) cell.classList.add("fnb-table-away");
    return cell;
  }

  // Once: ascending; again: descending; a third time: not at all. With shift it is one more key.
  sortBy(column, more) {
    const keys = this.table.state.sort;
    const present = keys.find(([name]) => name === column.name);
    const next = !present ? [column.name, true] : present[1] ? [column.name, false] : null;
    let wanted = next ? [next] : [];
    if (more && present) wanted = keys.flatMap((key) => (key === present ? (next ? [next] : []) : [key]));
    else if (more) wanted = [...keys, next];
    this.table.ask("sort", { keys: wanted });
  }

  onKey(event, column, place) {
    const { key } = event;
    if (event.target !== event.currentTarget) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (by && event.altKey && event.shiftKey) {
      this.table.tell("width", { name: column.name, width: Math.max(NARROWEST, this.widthOf(column) + 8 * by) });
    } else if (by && event.altKey) this.move(column.name, place + by);
    else if (by) this.focusCaption(place + by);
    else if (key === "Home") this.focusCaption(0);
    else if (key === "End") this.focusCaption(this.cells.length - 1);
    else if (key === "Enter" || key === " ") this.sortBy(column, event.shiftKey);
    else if (key === "ArrowDown") this.focusFilter(column.name);
    else if (key === "Delete") this.table.tell("column", { name: column.name, shown: false });
    else if (key === "ContextMenu" || (key === "F10" && event.shiftKey)) {
      const box = event.currentTarget.getBoundingClientRect();
      this.table.menus.openColumn(column, box.left, box.bottom);
    } else if (key === "Escape") this.table.focus();
    else return;
    claim(event);
  }

  focusCaption(place) {
    const at = Math.min(Math.max(place, 0), this.cells.length - 1);
    this.active = at;
    this.cells.forEach((cell, number) => {
      cell.tabIndex = number === at ? 0 : -1;
    });
    this.cells[at]?.focus();
  }

  move(name, place) {
    const names = this.table.columns.map((column) => column.name).filter((other) => other !== name);
    const at = Math.min(Math.max(place, 1), names.length);
    names.splice(at, 0, name);
    this.active = at;
    this.wantFocus = true;
    this.table.tell("columns", { names });
  }

  beginResize(event, column) {
    claim(event);
    const edge = event.currentTarget;
    const from = event.clientX;
    const width = this.widthOf(column);
    const place = this.table.columns.indexOf(column);
    let now = width;
    edge.setPointerCapture(event.pointerId);
    const onMove = (moved) => {
      now = Math.max(NARROWEST, Math.round(width + moved.clientX - from));
      const tracks = this.table.columns.map((other) => (this.isHidden(other) ? 0 : this.widthOf(other)));
      tracks[place] = now;
      this.table.el.style.setProperty("--fnb-table-columns", [TICK, ...tracks].map((value) => `${value}px`).join(" "));
    };
    const onUp = () => {
      edge.removeEventListener("pointermove", onMove);
      if (now !== width) this.table.tell("width", { name: column.name, width: now });
    };
    edge.addEventListener("pointermove", onMove);
    edge.addEventListener("lostpointercapture", onUp, { once: true });
  }

  // A caption dragged sideways moves its column; a line shows where to.
  beginMove(event, column) {
    if (event.button !== 0 || event.pointerType === "touch" || this.table.columns[0] === column) return;
    const cell = event.currentTarget;
    const from = event.clientX;
    let target = null;
    const onMove = (moved) => {
      if (target === null && Math.abs(moved.clientX - from) < 6) return;
      if (target === null) cell.setPointerCapture(event.pointerId);
      const others = this.cells.slice(1);
      const after = others.filter((other) => {
        const box = other.getBoundingClientRect();
        return box.width > 0 && moved.clientX > box.left + box.width / 2;
      });
      target = after.length + 1;
      this.cells.forEach((other, place) => {
        other.classList.toggle("fnb-table-before", place === target);
        other.classList.toggle("fnb-table-after", place === target - 1 && target === this.cells.length);
      });
      cell.classList.add("fnb-table-moving");
    };
    const onUp = () => {
      window.removeEventListener("pointermove", onMove);
      cell.classList.remove("fnb-table-moving");
      for (const other of this.cells) other.classList.remove("fnb-table-before", "fnb-table-after");
      if (target === null) return;
      const place = this.table.columns.indexOf(column);
      cell.addEventListener("click", (click) => click.stopImmediatePropagation(), { once: true, capture: true });
      const wanted = target > place ? target - 1 : target;
      if (wanted !== place) this.move(column.name, wanted);
      this.wantFocus = false;
    };
    window.addEventListener("pointermove", onMove);
    window.addEventListener("pointerup", onUp, { once: true });
  }

  // Filters

  makeFilter(column) {
    const { name, filter, example, kind, label } = column;
    if (kind === "flag" || kind === "status" || kind === "choice") return this.makeChoice(column);
    const input = h("input", {
      class: "fnb-input fnb-table-filter",
      tabindex: -1,
      "aria-label": `Filter ${label}`,
      placeholder: kind === "number" || kind === "time" ? ".." : "",
      title: `Filter ${label}: ${example}`,
      dataset: { column: name },
      spellcheck: "false",
      autocomplete: "off",
    });
    input.value = filter;
    const apply = debounce(() => this.apply(column, input), 300);
    input.addEventListener("input", apply);
    input.addEventListener("blur", () => {
      apply.now();
      if (input.getAttribute("aria-invalid") !== "true") this.hint.hidden = true;
    });
    input.addEventListener("keydown", (event) => this.onFilterKey(event, column, input, apply));
    this.filters.set(name, input);
    const cell = h("div", { class: `fnb-table-cell fnb-table-of-${kind}`, role: "gridcell" }, input);
    cell.classList.toggle("fnb-table-filtered", filter !== "");
    return cell;
  }

  makeChoice(column) {
    const { name, filter, label } = column;
    const button = h(
      "button",
      {
        type: "button",
        class: "fnb-input fnb-table-filter",
        tabindex: -1,
        title: `Filter ${label}`,
        "aria-label": `Filter ${label}${filter ? `: ${filter}` : ""}`,
        "aria-haspopup": "dialog",
        dataset: { column: name },
        onclick: () => this.table.menus.openChoices(column, button),
        onkeydown: (event) => this.onFilterKey(event, column, button, null),
      },
      h("span", {}, filter || "all"),
    );
    this.filters.set(name, button);
    const cell = h("div", { class: `fnb-table-cell fnb-table-of-${column.kind}`, role: "gridcell" }, button);
    cell.classList.toggle("fnb-table-filtered", filter !== "");
    return cell;
  }

  onFilterKey(event, column, field, apply) {
    const { key } = event;
    const names = this.table.columns.filter((other) => !this.isHidden(other)).map((other) => other.name);
    const next = names[names.indexOf(column.name) + (event.shiftKey ? -1 : 1)];
    if (key === "Tab" && next) this.focusFilter(next);
    else if (key === "Enter" && apply) apply.now();
    else if (key === "Escape") {
      if (apply && field.value) {
        field.value = "";
        this.apply(column, field);
      } else this.table.focus();
    } else if (key === "ArrowDown" && apply) this.table.focus();
    else if (key === "ArrowUp") this.focusCaption(this.table.columns.indexOf(column));
    else {
      event.stopPropagation(); // letters are for the field, not for JupyterLab
      return;
    }
    claim(event);
  }

  async apply(column, input) {
    const value = input.value.trim();
    const answer = await this.table.ask("filter", { column: column.name, value }, { quiet: true });
    const present = this.filters.get(column.name) ?? input;
    const wrong = Boolean(answer.error);
    present.setAttribute("aria-invalid", wrong);
    this.hint.hidden = !wrong;
    if (!wrong) return;
    this.hint.textContent = answer.error;
    this.hint.style.left = "0"; // where nothing makes it narrower than it wants to be
    const { scroll } = this.table;
    const box = present.getBoundingClientRect();
    const below = box.left - scroll.getBoundingClientRect().left; // of the field, as far as it can be seen whole
    const last = scroll.clientWidth - this.hint.offsetWidth - 4;
    this.hint.style.left = `${scroll.scrollLeft + Math.max(0, Math.min(below, last))}px`;
  }

  focusFilter(name) {
    if (!this.areFiltersShown) this.showFilters(true);
    const field = this.filters.get(name);
    field?.focus();
    field?.select?.();
  }

  // A column may be drawn anew while somebody types into its filter.
  focusedFilter() {
    if (this.wantFocus) {
      this.wantFocus = false;
      return { caption: this.active };
    }
    const field = document.activeElement;
    const caption = this.cells.indexOf(field);
    if (caption >= 0) return { caption };
    for (const [name, input] of this.filters) {
      if (input === field) return { name, value: input.value, at: input.selectionStart, till: input.selectionEnd };
    }
    return null;
  }

  restoreFilter({ name, value, at, till, caption }) {
    if (caption !== undefined) {
      this.focusCaption(caption);
      return;
    }
    const field = this.filters.get(name);
    if (!field) return;
    if (value !== undefined && field.tagName === "INPUT") field.value = value;
    field.focus({ preventScroll: true });
    if (at !== undefined && at !== null) field.setSelectionRange?.(at, till);
  }
}

// A caption has two lines, and no word of it is cut.
function captionWidth({ label, unit, sort }) {
  const words = `${label} ${unit}`.trim().split(" ");
  const letters = Math.max(...words.map((word) => word.length), words.join(" ").length / 2 + 2);
  return Math.min(Math.ceil(letters * LETTER + 18 + (sort ? 28 : 0)), 180);
}
