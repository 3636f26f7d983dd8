// The mouse and the finger: rows are highlighted by a click, a drag, with shift and control; highlighted ones are dragged
// to a group; a finger scrolls, taps, and opens the menu by staying.

import { h } from "../common/dom.js";
import { number } from "./body.js";

const FAR = 6; // pixels after which it is a drag
const LONG = 500; // milliseconds after which a finger has stayed
const EDGE = 28; // pixels from the edge at which the table scrolls by itself

export function bindPointer(table) {
  const pointer = new Pointer(table);
  const { element } = table.body;
  const bound = ["pointerdown", "click", "dblclick", "contextmenu"].map((name) => {
    const listener = (event) => pointer[name](event);
    element.addEventListener(name, listener);
    return () => element.removeEventListener(name, listener);
  });
  return () => {
    pointer.end();
    for (const forget of bound) forget();
  };
}

class Pointer {
  constructor(table) {
    this.table = table;
    this.forget = [];
  }

  // What was hit: the line, its data, and the part of it.
  hit(event) {
    const { body } = this.table;
    const row = event.target.closest(".fnb-table-row");
    if (!row) return null;
    const line = body.rowAt(event.clientY);
    const data = body.lineAt(line);
    if (!data) return null;
    const cell = event.target.closest("[data-column]");
    let part = "row";
    if (event.target.closest(".fnb-table-tick")) part = "tick";
    else if (event.target.closest(".fnb-table-fold")) part = "fold";
    else if (cell?.dataset.column === "flag" && data[0] !== null) part = "flag";
    else if (cell?.dataset.column === "comment" && data[0] !== null) part = "comment";
    return { line, data, part, cell };
  }

  pointerdown(event) {
    const found = this.hit(event);
    if (!found) return;
    this.end();
    if (event.pointerType === "touch") {
      this.waitForLong(event);
      return;
    }
    const { body } = this.table;
    if (event.button !== 0 || found.part === "tick" || found.part === "fold" || found.part === "flag") return;
    const { line } = found;
    this.table.focus();
    event.preventDefault(); // no text is selected
    if (event.shiftKey) body.mark(line, { range: true });
    else if (event.ctrlKey || event.metaKey) body.mark(line, { mode: "toggle" });
    else if (body.isHighlighted(line) && this.table.state.grouped === "group") {
      this.follow(event, (moved) => this.dragRows(moved), (ended) => this.dropRows(ended, line));
      return;
    } else body.mark(line);
    const mode = event.ctrlKey || event.metaKey ? "add" : "replace";
    this.follow(event, (moved) => {
      const at = body.rowAt(moved.clientY);
      if (at !== body.cursor?.line) body.mark(at, { range: true, mode });
    });
  }

  // Follow the pointer until it is let go; near the edges the table scrolls.
  follow(event, onMove, onEnd = () => {}) {
    const { clientX, clientY } = event;
    let far = false;
    let last = event;
    const move = (moved) => {
      last = moved;
      far ||= Math.hypot(moved.clientX - clientX, moved.clientY - clientY) > FAR;
      if (far) onMove(moved);
    };
    const end = (ended) => {
      this.end();
      onEnd(far && ended.type === "pointerup" ? ended : null);
    };
    const key = (pressed) => {
      if (pressed.key === "Escape") end(pressed);
    };
    const timer = setInterval(() => {
      if (!far) return;
      const box = this.table.scroll.getBoundingClientRect();
      const top = box.top + (this.table.body.headHeight ?? 0);
      const by = last.clientY < top + EDGE ? last.clientY - top - EDGE : Math.max(last.clientY - box.bottom + EDGE, 0);
      if (!by) return;
      this.table.scroll.scrollTop += by / 2;
      onMove(last);
    }, 30);
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", end);
    window.addEventListener("pointercancel", end);
    window.addEventListener("keydown", key, true);
    this.forget = [
      () => clearInterval(timer),
      () => window.removeEventListener("pointermove", move),
      () => window.removeEventListener("pointerup", end),
      () => window.removeEventListener("pointercancel", end),
      () => window.removeEventListener("keydown", key, true),
    ];
  }

  end() {
    for (const forget of this.forget) forget();
    this.forget = [];
    this.ghost?.remove();
    this.ghost = null;
    this.target?.classList.remove("fnb-table-target");
    this.target = null;
  }

  // Highlighted rows on their way to a group

  dragRows(event) {
    const { table } = this;
    if (!this.ghost) {
      this.ghost = h("div", { class: "fnb fnb-table-ghost" });
      document.body.append(this.ghost);
    }
    this.ghost.style.transform = `translate(${event.clientX + 12}px, ${event.clientY + 8}px)`;
    this.target?.classList.remove("fnb-table-target");
    const group = this.groupUnder(event);
    const count = `${number(table.highlighted)} exposure${table.highlighted === 1 ? "" : "s"}`;
    this.ghost.textContent = group === null ? count : `${count} → ${group || "no group"}`;
    const line = table.body.groupLineOf(table.body.rowAt(event.clientY));
    this.target = group === null ? null : (table.body.elementOf(line)?.element ?? null);
    this.target?.classList.add("fnb-table-target");
  }

  groupUnder(event) {
    const box = this.table.scroll.getBoundingClientRect();
    const inside = event.clientX > box.left && event.clientX < box.right && event.clientY > box.top;
    if (!inside || event.clientY > box.bottom) return null;
    return this.table.body.groupOf(this.table.body.rowAt(event.clientY));
  }

  dropRows(event, line) {
    if (event === null) {
      this.table.body.mark(line);
      return;
    }
    const group = this.groupUnder(event);
    const from = this.table.body.groupOf(line);
    if (group && group !== from) this.table.ask("move", { group });
  }

  // A finger that stays where it is

  waitForLong(event) {
    const { clientX, clientY } = event;
    this.long = false;
    const timer = setTimeout(() => {
      this.end();
      this.long = true;
      this.openMenu(event);
    }, LONG);
    const move = (moved) => {
      if (Math.hypot(moved.clientX - clientX, moved.clientY - clientY) > FAR) this.end();
    };
    const end = () => this.end();
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", end);
    window.addEventListener("pointercancel", end);
    this.forget = [
      () => clearTimeout(timer),
      () => window.removeEventListener("pointermove", move),
      () => window.removeEventListener("pointerup", end),
      () => window.removeEventListener("pointercancel", end),
    ];
  }

  click(event) {
    const found = this.hit(event);
    if (!found) return;
    const { table } = this;
    const { line, data, part } = found;
    if (this.long) {
      this.long = false;
      return;
    }
    if (part === "tick") this.tick(event, data);
    else if (part === "fold" && data[0] === null) table.menus.toggleGroup(data[1]);
    else if (part === "flag") this.openFlags(found);
    else if (event.pointerType === "touch") table.body.mark(line);
    if (part !== "flag") table.focus();
  }

  tick(event, data) {
    const { table } = this;
    const { body } = table;
    if (data[0] === null) {
      table.menus.tickGroup(data[1]);
      event.preventDefault();
      return;
    }
    const how = data[1] & 1 ? "untick" : "tick";
    data[1] ^= 1; // shown at once
    // the kernel knows which rows lie between two: lines move, and not all of them are here
    if (event.shiftKey && body.lastTicked !== undefined) table.ask("tick", { how, from: body.lastTicked, to: data[0] });
    else table.ask("tick", { how, ids: [data[0]] });
    body.lastTicked = data[0];
  }

  openFlags({ line, data, cell }) {
    const { body, menus } = this.table;
    if (!body.isHighlighted(line)) body.mark(line);
    const several = this.table.highlighted > 1 && body.isHighlighted(line);
    menus.openFlags(cell, several ? null : [data[0]]);
  }

  dblclick(event) {
    const found = this.hit(event);
    if (!found || found.part === "tick" || found.part === "fold") return;
    const { data, line, part } = found;
    if (data[0] === null) this.table.menus.toggleGroup(data[1]);
    else if (part === "comment") this.table.menus.editComment(line);
    else if (part !== "flag") this.table.tell("open", { id: data[0] });
  }

  contextmenu(event) {
    event.preventDefault();
    event.stopPropagation();
    if (this.long) return; // the finger has opened it already
    this.openMenu(event);
  }

  openMenu(event) {
    const found = this.hit(event);
    if (!found) return;
    const { body, menus } = this.table;
    if (!body.isHighlighted(found.line)) body.mark(found.line);
    else body.cursor = body.place(found.line);
    this.table.focus();
    menus.openRow(event.clientX, event.clientY);
  }
}
