// The library as a table. The kernel sorts, filters, groups and selects; here some lines are shown and asked for.

import { CURRENT, begin, h } from "../common/dom.js";
import { hearing } from "../common/hear.js";
import { Bar } from "./bar.js";
import { Body } from "./body.js";
import { Head } from "./head.js";
import { bindKeys } from "./keys.js";
import { Menus } from "./menus.js";
import { bindPointer } from "./pointer.js";
import POPUPS from "./popups.css";
import { Status } from "./status.js";
import STYLES from "./styles.css";

// What the parts share: the model's messages, the present state, and asking the kernel for something.
class Table {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    // two tables of a page may be made within the same millisecond, each by a module of its own
    this.view = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
    this.columns = [];
    this.state = { version: -1, lines: 0, total: 0, shown: 0, ticked: 0, sort: [], filters: 0, text: "" };
    this.known = false;
    this.highlighted = 0;
    this.asked = new Map();
    this.questions = 0;
  }

  build() {
    const { el } = this;
    this.frame = h("div", { class: "fnb-table-frame" });
    this.scroll = h("div", {
      class: "fnb-table-scroll",
      role: "treegrid",
      tabindex: 0,
      "aria-label": "Exposures",
      "aria-multiselectable": "true",
      "aria-busy": "true",
    });
    this.menus = new Menus(this);
    this.bar = new Bar(this);
    this.head = new Head(this);
    this.body = new Body(this);
    this.status = new Status(this);
    this.scroll.append(this.head.element, this.body.element);
    this.frame.append(this.scroll, this.body.notice, this.status.toast, this.status.fresh);
    el.append(this.bar.element, this.frame, this.status.element);
    this.setHeight();
    this.forget = [bindKeys(this), bindPointer(this), this.body.watch()];
  }

  setHeight() {
    this.el.style.setProperty("--fnb-table-height", `${this.model.get("height")}px`);
  }

  send(message) {
    this.model.send({ view: this.view, ...message });
  }

  // Ask for something without waiting for the answer; a fault is told.
  tell(what, details = {}) {
    this.body.flushMark();
    this.send({ k: "do", what, ...details });
  }

  // Ask for something and wait for the answer; a fault is told unless `quiet`, and null is given.
  async ask(what, details = {}, { quiet = false } = {}) {
    this.body.flushMark();
    const n = (this.questions += 1);
    const answer = await new Promise((resolve) => {
      this.asked.set(n, resolve);
      this.send({ k: "do", n, what, ...details });
    });
    if (answer.error && quiet) return answer;
    if (answer.error) this.status.say(answer.error, { failed: true, details: answer.details });
    else if (answer.told) this.status.say(answer.told, { undo: answer.undo });
    return answer.error ? null : answer;
  }

  receive(message) {
    if (message.k === "state") this.takeState(message);
    else if (message.k === "window" && message.view === this.view) this.body.takeWindow(message);
    else if (message.k === "marks") this.takeMarks(message);
    else if (message.k === "reveal") this.body.reveal(message.line, message.id);
    else if (message.k === "done" && message.view === this.view) this.takeAnswer(message);
  }

  takeState({ k, columns, ...state }) {
    const first = !this.known;
    if (first && !columns) return; // the state another view asked for; ours comes with its columns
    const before = this.state;
    this.state = state;
    this.known = true;
    if (columns) {
      this.columns = columns;
      this.head.draw();
      this.body.rebuild();
    }
    this.scroll.setAttribute("aria-busy", "false");
    this.bar.draw();
    this.body.takeState(before, first);
    this.status.takeState(before, first);
  }

  takeMarks({ view, highlighted, ids }) {
    this.highlighted = highlighted;
    this.status.draw();
    if (view !== this.view) this.body.takeMarks(ids);
  }

  takeAnswer(message) {
    const resolve = this.asked.get(message.n);
    this.asked.delete(message.n);
    if (resolve) resolve(message);
    else if (message.error) this.status.say(message.error, { failed: true, details: message.details });
  }

  // Let the views of an exposure turn to it at once, if they are on this page; the kernel tells them as well.
  showCurrent(id) {
    if (id !== null) this.el.dispatchEvent(new CustomEvent(CURRENT, { bubbles: true, detail: { id } }));
  }

  focus() {
    this.scroll.focus({ preventScroll: true });
  }
}

function render({ model, el }) {
  begin(el, "table", STYLES + POPUPS);
  const table = new Table(model, el);
  table.build();
  const receive = (message) => table.receive(message);
  const resize = () => table.setHeight();
  model.on("msg:custom", receive);
  model.on("change:height", resize);
  model.send({ k: "ready" });
  return () => {
    model.off("msg:custom", receive);
    model.off("change:height", resize);
    table.menus.close();
    for (const forget of table.forget) forget();
  };
}

export default { render: hearing(render) };
