// The lines: only those in sight are in the document, in a pool of elements that is used again and again.

import { ChevronDown, ChevronRight, ListFilter, Play, Table2 } from "lucide";

import { h } from "../common/dom.js";
import { flag, icon, state } from "../common/icons.js";

const WINDOW = 200; // lines asked for at once
const SPARE = 30; // lines kept ready beyond sight; fewer than that, and more are asked for
const EXTRA = 6; // lines drawn beyond sight
const TICKED = 1;
const HIGHLIGHTED = 2;
const ICONS = { filter: ListFilter, play: Play, table: Table2 };

export class Body {
  constructor(table) {
    this.table = table;
    this.element = h("div", { class: "fnb-table-body", role: "rowgroup" });
    this.notice = h("div", { class: "fnb-table-notice", hidden: true });
    this.pool = [];
    this.start = 0; // first line of the window we hold
    this.lines = [];
    this.version = -1;
    this.asking = null;
    this.cursor = null; // {line, id, group}
    this.origin = null; // where a range begins
    this.drawing = false;
    this.marks = 0; // changes of the highlight so far
    this.changes = []; // those the kernel may not know yet
    this.rowHeight = 28;
    this.compact = false;
  }

  watch() {
    const { scroll } = this.table;
    const onScroll = () => {
      this.table.menus.closeFleeting();
      this.draw();
    };
    scroll.addEventListener("scroll", onScroll, { passive: true });
    const observer = new ResizeObserver(() => {
      this.measure();
      this.draw();
    });
    observer.observe(scroll);
    return () => {
      scroll.removeEventListener("scroll", onScroll);
      observer.disconnect();
    };
  }

  measure() {
    const { el, scroll } = this.table;
    const height = Number.parseFloat(getComputedStyle(el).getPropertyValue("--fnb-row"));
    if (height > 0) this.rowHeight = height;
    const compact = el.clientWidth > 0 && el.clientWidth < 600;
    if (el.classList.contains("fnb-table-compact") !== compact) {
      el.classList.toggle("fnb-table-compact", compact);
      this.compact = compact;
      this.table.head.draw();
      this.rebuild();
    }
    this.element.style.height = `${this.table.state.lines * this.rowHeight}px`;
    this.headHeight = this.table.head.element.offsetHeight;
    scroll.style.scrollPaddingTop = `${this.headHeight}px`;
  }

  // Elements anew where the columns are others.
  rebuild() {
    const { columns, head } = this.table;
    const made = JSON.stringify(columns.map((column) => [column.name, column.kind, head.isHidden(column)]));
    if (made === this.made) return;
    this.made = made;
    this.pool = [];
    this.element.replaceChildren();
  }

  // Lines in sight: first, and how many fit.
  sight() {
    const { scroll } = this.table;
    const height = Math.max(scroll.clientHeight - (this.headHeight ?? 0), 0);
    const first = Math.floor(scroll.scrollTop / this.rowHeight);
    return { first, count: Math.ceil(height / this.rowHeight) + 1, whole: Math.floor(height / this.rowHeight) };
  }

  lineAt(line) {
    return this.lines[line - this.start];
  }

  takeState(before, first) {
    const { state: now } = this.table;
    this.wasAtEnd = !first && before.lines > 0 && this.isAtEnd(before.lines);
    this.measure();
    this.drawNotice(now.notice);
    if (first || now.version !== this.version) this.ask(true);
    this.draw();
  }

  isAtEnd(lines) {
    const { first, whole } = this.sight();
    return lines > whole && first + whole >= lines - 1;
  }

  // Ask for the window around what is in sight. What stands at the top is to stay there.
  ask(anew = false) {
    if (!this.table.known) return;
    const { first, count } = this.sight();
    const start = Math.max(0, first - Math.floor((WINDOW - count) / 2));
    if (this.asking !== null) {
      this.askNext = anew || this.askNext === true;
      return;
    }
    const line = this.lineAt(first);
    const known = line && first > 0 && !this.wasAtEnd;
    this.asking = { version: this.table.state.version };
    this.table.send({
      k: "window",
      start: this.wasAtEnd ? Math.max(this.table.state.lines - WINDOW, 0) : start,
      count: WINDOW,
      anchor: known ? [first, line[0], line[0] === null ? line[1] : null] : null,
    });
  }

  // What others highlighted; without ids it is so much that the lines are asked for.
  takeMarks(ids) {
    this.changes = [];
    if (!ids) {
      this.ask(true);
      return;
    }
    const marked = new Set(ids);
    for (const line of this.lines) {
      if (line[0] === null) continue;
      if (marked.has(line[0])) line[1] |= HIGHLIGHTED;
      else line[1] &= ~HIGHLIGHTED;
    }
    if (this.cursor === null) this.placeCursor();
    this.draw();
  }

  takeWindow({ version, start, shift, lines, marked }) {
    const moved = version !== this.version;
    this.asking = null;
    this.version = version;
    this.start = start;
    this.lines = lines;
    if (shift) this.table.scroll.scrollTop += shift * this.rowHeight;
    if (moved && this.wasAtEnd) this.table.scroll.scrollTop = this.element.scrollHeight;
    if (moved) this.wasAtEnd = false;
    this.changes = this.changes.filter((change) => change.number > marked);
    if (moved) this.follow(shift);
    for (const change of this.changes) this.apply(change);
    if (this.cursor === null) this.placeCursor();
    if (this.wanted) this.scrollToWanted();
    if (this.pending && this.lineAt(this.pending.line)) this.goTo(this.pending.line, this.pending);
    this.paint();
    const again = this.askNext || this.version !== this.table.state.version;
    this.askNext = false;
    if (again) this.ask();
    else this.askIfShort();
    this.table.status.draw();
  }

  // Rows moved: the cursor, and the ends of ranges, are where their exposures are now.
  follow(shift) {
    const ends = this.changes.flatMap(({ origin, target }) => [origin, target]);
    for (const place of [this.cursor, this.origin, ...ends]) {
      if (!place) continue;
      const at = this.lines.findIndex((line) => line[0] === place.id && (place.id !== null || line[1] === place.group));
      place.line = at >= 0 ? this.start + at : place.line + shift;
    }
  }

  askIfShort() {
    const { first, count } = this.sight();
    const { lines } = this.table.state;
    const needed = Math.max(0, first - SPARE) < this.start && this.start > 0;
    const end = this.start + this.lines.length;
    if (needed || (Math.min(lines, first + count + SPARE) > end && end < lines)) this.ask();
  }

  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.paint();
      if (this.asking === null) this.askIfShort();
    });
  }

  paint() {
    if (!this.table.known) return;
    const { lines } = this.table.state;
    const { first, count } = this.sight();
    const from = Math.max(0, first - EXTRA);
    const to = Math.min(lines, first + count + EXTRA);
    while (this.pool.length < count + 2 * EXTRA) this.pool.push(this.makeRow());
    const used = new Set();
    for (let line = from; line < to; line += 1) {
      const row = this.pool[line % this.pool.length];
      used.add(row);
      this.fill(row, line);
    }
    for (const row of this.pool) {
      if (used.has(row)) continue;
      row.element.hidden = true;
      row.line = -1;
    }
    const active = this.cursor && this.pool.find((row) => row.line === this.cursor.line);
    if (active) this.table.scroll.setAttribute("aria-activedescendant", active.element.id);
    else this.table.scroll.removeAttribute("aria-activedescendant");
  }

  makeRow() {
    const { columns, view, head } = this.table;
    const tick = h("input", { type: "checkbox", tabindex: -1, "aria-label": "Tick" });
    const tickCell = h("div", { class: "fnb-table-tick", role: "gridcell" }, tick);
    const cells = columns.map((column, place) => {
      const kind = column.kind;
      const cell = h("div", { role: "gridcell", class: `fnb-table-cell fnb-table-of-${kind}` });
      cell.dataset.column = column.name;
      cell.setAttribute("aria-colindex", place + 2);
      cell.classList.toggle("fnb-table-away", head.isHidden(column));
      return { cell, kind, shown: null };
    });
    const fold = h("span", { class: "fnb-table-fold" });
    const name = h("span", { class: "fnb-table-words" });
    const count = h("span", { class: "fnb-table-count" });
    cells[0].cell.append(fold, name, count);
    const element = h("div", { class: "fnb-table-row", role: "row" }, tickCell, ...cells.map(({ cell }) => cell));
    element.id = `fnb-table-${view}-${this.pool.length}`;
    this.element.append(element);
    return { element, tick, cells, fold, name, count, line: -1, isOpen: null };
  }

  fill(row, line) {
    const { element } = row;
    const data = this.lineAt(line);
    if (row.line !== line) {
      row.line = line;
      element.hidden = false;
      element.style.transform = `translateY(${line * this.rowHeight}px)`;
      element.setAttribute("aria-rowindex", line + 2);
      element.classList.toggle("fnb-table-odd", line % 2 === 1);
    }
    element.classList.toggle("fnb-table-cursor", this.cursor !== null && this.cursor.line === line);
    element.classList.toggle("fnb-table-waiting", !data);
    if (!data) this.fillWaiting(row);
    else if (data[0] === null) this.fillGroup(row, data);
    else this.fillExposure(row, data);
  }

  fillWaiting(row) {
    row.tick.hidden = true;
    row.element.removeAttribute("data-id");
    row.element.removeAttribute("data-group");
    row.name.textContent = "";
    row.count.textContent = "";
    row.fold.replaceChildren();
    row.isOpen = null;
    for (const cell of row.cells.slice(1)) setCell(cell, "");
  }

  fillExposure(row, [id, marks, cells, reason]) {
    const { element } = row;
    const highlighted = (marks & HIGHLIGHTED) > 0;
    element.dataset.id = id;
    element.removeAttribute("data-group");
    element.classList.remove("fnb-table-grouprow");
    element.classList.toggle("fnb-table-chosen", highlighted);
    element.setAttribute("aria-selected", highlighted);
    element.removeAttribute("aria-expanded");
    element.setAttribute("aria-level", this.table.state.grouped ? 2 : 1);
    row.tick.hidden = false;
    row.tick.checked = (marks & TICKED) > 0;
    row.tick.indeterminate = false;
    if (row.isOpen !== null) {
      row.isOpen = null;
      row.fold.replaceChildren();
    }
    if (row.name.textContent !== cells[0]) {
      row.name.textContent = cells[0];
      row.name.title = cells[0];
    }
    if (row.count.textContent) row.count.textContent = "";
    const word = this.compact ? " " : ""; // on a phone the shape alone
    for (let place = 1; place < row.cells.length; place += 1) setCell(row.cells[place], cells[place], reason, word);
  }

  fillGroup(row, [, name, count, isOpen, ticked, unwell, cells]) {
    const { element } = row;
    element.removeAttribute("data-id");
    element.dataset.group = name;
    element.classList.add("fnb-table-grouprow");
    element.classList.remove("fnb-table-chosen");
    element.setAttribute("aria-selected", "false");
    element.setAttribute("aria-expanded", isOpen);
    element.setAttribute("aria-level", 1);
    row.tick.hidden = false;
    row.tick.checked = ticked > 0 && ticked === count;
    row.tick.indeterminate = ticked > 0 && ticked < count;
    if (row.isOpen !== isOpen) {
      row.isOpen = isOpen;
      row.fold.replaceChildren(icon(isOpen ? ChevronDown : ChevronRight));
    }
    const label = name || `no ${this.table.state.grouped_label.toLowerCase()}`;
    row.name.textContent = label;
    row.name.title = label;
    row.count.textContent = number(count);
    for (let place = 1; place < row.cells.length; place += 1) {
      const cell = row.cells[place];
      if (cell.kind === "status") setCell(cell, unwell ? "failed" : "", "", unwell ? unwellWords(unwell, this.compact) : "");
      else if (cell.kind === "number") setCell(cell, cells[place], "", "", "mean of the rows shown");
      else setCell(cell, cells[place], "", "", "", true);
    }
  }

  drawNotice(notice) {
    const key = JSON.stringify(notice);
    if (key === this.noticeShown) return;
    this.noticeShown = key;
    this.notice.hidden = !notice;
    if (!notice) return;
    const action = notice.action
      ? h(
          "button",
          {
            type: "button",
            class: "fnb-button fnb-button-first",
            onclick: () => {
              this.table.ask(notice.action.what, notice.action);
              this.table.focus();
            },
          },
          notice.label,
        )
      : null;
    const command = notice.command ? h("code", {}, notice.command) : null;
    this.notice.classList.toggle("fnb-table-beside", notice.beside === true);
    const parts = [icon(ICONS[notice.icon] ?? Table2), h("div", {}, notice.text), command, action];
    this.notice.replaceChildren(h("div", { class: "fnb-empty", role: "status" }, ...parts));
  }

  // Highlight and cursor: shown here at once, and told to the kernel.

  place(line) {
    const data = this.lineAt(line);
    if (!data) return null;
    return { line, id: data[0], group: data[0] === null ? data[1] : null };
  }

  // A table that was just opened has its cursor on what is highlighted, so that the keys go on from there.
  placeCursor() {
    const at = this.lines.findIndex((line) => line[0] !== null && line[1] & HIGHLIGHTED);
    if (at < 0) return;
    this.cursor = this.place(this.start + at);
    this.origin = { ...this.cursor };
  }

  // Highlight a line, or those from where the range began; mode is replace, add or toggle.
  mark(to, { range = false, mode = "replace" } = {}) {
    const target = this.place(to);
    if (!target) return;
    if (!range || !this.origin) this.origin = { ...target };
    this.cursor = target;
    const whole = this.origin.line === to && target.id === null; // a group stands for its rows
    this.do({ mode, origin: { ...this.origin }, target: { ...target }, whole });
    const { origin } = this;
    this.sendMark({
      mode,
      from: whole ? null : [origin.id, origin.group],
      to: whole ? null : [target.id, target.group],
      group: whole ? target.group : null,
      current: target.id,
    });
    this.table.showCurrent(target.id);
  }

  clearMarks() {
    this.do({ mode: "replace", none: true });
    this.sendMark({ mode: "replace", none: true, from: null, to: null, current: this.cursor?.id ?? null });
  }

  // Show a change of the highlight, and remember it until lines come that the kernel made knowing of it.
  do(change) {
    this.marks += 1;
    this.changes = [...(change.mode === "replace" ? [] : this.changes), { ...change, number: this.marks }];
    this.apply(change);
    this.draw();
  }

  apply({ mode, origin, target, whole, none }) {
    const [low, high] = none ? [0, -1] : [Math.min(origin.line, target.line), Math.max(origin.line, target.line)];
    this.lines.forEach((line, offset) => {
      if (line[0] === null) return;
      const at = this.start + offset;
      const inside = whole ? this.groupOf(at) === target.group : at >= low && at <= high;
      if (inside && mode === "toggle") line[1] ^= HIGHLIGHTED;
      else if (inside) line[1] |= HIGHLIGHTED;
      else if (mode === "replace") line[1] &= ~HIGHLIGHTED;
    });
  }

  // The line of the group a row is in, as far as it has come; -1 where it has not.
  groupLineOf(line) {
    for (let at = line; at >= this.start; at -= 1) if (this.lineAt(at)[0] === null) return at;
    return -1;
  }

  groupOf(line) {
    const at = this.groupLineOf(line);
    return at >= 0 ? this.lineAt(at)[1] : null;
  }

  // One message in 40 ms. Of several that replace what was, the last one says it all.
  sendMark(message) {
    if (this.waiting && message.mode !== "replace") this.flushMark();
    this.waiting = message;
    if (!this.marking) this.flushMark();
  }

  // Before anything else is asked for: it works on the rows that are highlighted.
  flushMark() {
    const { waiting } = this;
    if (!waiting) return;
    this.waiting = null;
    clearTimeout(this.marking);
    this.marking = setTimeout(() => {
      this.marking = null;
      this.flushMark();
    }, 40);
    this.table.send({ k: "do", what: "highlight", number: this.marks, ...waiting });
  }

  // Put the cursor on a line, which may still have to come.
  goTo(line, { extend = false } = {}) {
    const at = Math.min(Math.max(line, 0), this.table.state.lines - 1);
    if (at < 0) return;
    this.bringIntoSight(at);
    if (this.lineAt(at)) {
      this.pending = null;
      this.mark(at, { range: extend });
    } else {
      this.pending = { line: at, extend };
      this.ask();
    }
  }

  isHighlighted(line) {
    const data = this.lineAt(line);
    return Boolean(data && data[0] !== null && data[1] & HIGHLIGHTED);
  }

  bringIntoSight(line) {
    const { scroll } = this.table;
    const { first, whole } = this.sight();
    if (line <= first) scroll.scrollTop = line * this.rowHeight;
    else if (line >= first + whole) scroll.scrollTop = (line - whole + 1) * this.rowHeight + 1;
  }

  reveal(line, id) {
    this.wanted = { line, id };
    this.scrollToWanted();
    if (this.wanted) this.ask(true);
  }

  scrollToWanted() {
    const { line, id } = this.wanted;
    const { first, whole } = this.sight();
    if (line < first || line >= first + whole) {
      this.table.scroll.scrollTop = Math.max(0, line - Math.floor(whole / 2)) * this.rowHeight;
    }
    const place = this.place(line);
    if (place && place.id === id) {
      this.cursor = place;
      this.origin = { ...place };
      this.wanted = null;
    }
    this.draw();
  }

  rowAt(y) {
    const box = this.element.getBoundingClientRect();
    return Math.min(Math.max(Math.floor((y - box.top) / this.rowHeight), 0), this.table.state.lines - 1);
  }

  elementOf(line) {
    return this.pool.find((row) => row.line === line);
  }
}

export function number(value) {
  return value.toLocaleString("en-US");
}

function unwellWords(count, compact) {
  return compact ? number(count) : `${number(count)} failed`;
}

// Put a value into a cell, if another one stands there.
function setCell(cell, value, reason = "", word = "", title = null, quiet = false) {
  const { cell: element, kind } = cell;
  const key = kind === "status" ? `${value}|${reason}|${word}` : `${value}|${quiet}`;
  if (cell.shown !== key) {
    cell.shown = key;
    if (kind === "status") {
      element.replaceChildren(...(value ? [state(value, word || value)] : []));
      element.title = reason ? `${value}: ${reason}` : word.trim() === "" ? value : "";
    } else if (kind === "flag") {
      element.replaceChildren(...(quiet ? [] : [flag(value || null)]));
    } else {
      element.textContent = value;
      if (kind !== "number") element.title = value;
    }
  }
  if (kind === "number" && element.title !== (title ?? "")) element.title = title ?? "";
}
