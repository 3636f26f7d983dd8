// The views of one exposure: tiles side by side, stepped through from what was fetched ahead, enlarged to the screen.

import {
  ArrowLeftRight,
  ChevronLeft,
  ChevronRight,
  CircleQuestionMark,
  Contrast,
  Maximize2,
  Minimize2,
  RotateCcw,
  ScanEye,
} from "lucide";

import { CURRENT, begin, claim, h, idle, throttle } from "../common/dom.js";
import { hearing } from "../common/hear.js";
import { flag, icon, iconButton, state } from "../common/icons.js";
import { Cache, decode } from "./cache.js";
import { Picture } from "./picture.js";
import STYLES from "./styles.css";

const AHEAD = 4; // exposures fetched ahead, in the direction of the last step
const BEHIND = 2;
const FLIP = 1000; // ms between two flips by themselves, as Focus had it
const ANSWER = 1000; // ms in which the kernel says what a table on the same page has shown already
const REST = 250; // ms without a step after which a whole screen is drawn sharp

const KEYS = [
  ["↑ ↓", "exposure before, after"],
  ["Page ↑ ↓", "ten before, after"],
  ["Home End", "first, last of those near"],
  ["← →", "view before, after"],
  ["1 2 3", "overview"],
  ["Enter", "view on the whole screen, and back"],
  ["F", "flip the view with its partner"],
  ["Shift F", "flip once a second"],
  ["+ −", "brighter, darker"],
  [". ,", "more, less contrast"],
  ["0", "greys as they are"],
  ["?", "these keys"],
];

class View {
  constructor(model, element) {
    this.model = model;
    this.cache = new Cache();
    this.id = null; // the exposure that is to be seen
    this.around = [];
    this.place = null;
    this.total = 0;
    this.seq = 0;
    this.turned = []; // exposures a table on the page led to, of which the kernel has not spoken yet
    this.coming = new Map(); // exposures that were sent and are being decoded, with the message that is the newest
    this.ahead = 1; // direction of the last step
    this.entry = null; // what is shown of it
    this.active = 0;
    this.flipped = false;
    this.comparing = false;
    this.flipping = null;
    this.light = 1;
    this.contrast = 1;
    this.delta = 0;
    this.sayGo = throttle(() => this.#sendGo(), 50);
    this.sayWant = throttle(() => this.#sendWant(), 30);
    this.#build(element);
    this.receive = (message, buffers) => this.#receive(message, buffers);
    model.on("msg:custom", this.receive);
    this.changed = () => this.#showOverview();
    model.on("change:chosen", this.changed);
    this.follow = (event) => this.#follow(event);
    document.addEventListener(CURRENT, this.follow);
    this.#showOverview();
    model.send({ k: "ready" });
  }

  close() {
    this.model.off("msg:custom", this.receive);
    this.model.off("change:chosen", this.changed);
    document.removeEventListener(CURRENT, this.follow);
    clearInterval(this.flipping);
    clearTimeout(this.resting);
    for (const tile of [...this.tiles, this.large]) tile.picture.close();
  }

  get overview() {
    return this.model.get("chosen");
  }

  // Building

  #build(element) {
    this.root = h("div", { class: "root", tabindex: 0, role: "group", "aria-label": "Overview of an exposure" });
    this.name = h("div", { class: "name" });
    this.marks = h("div", { class: "marks" });
    this.values = h("dl", { class: "values" });
    this.note = h("div", { class: "note", hidden: true });
    this.where = h("span", { class: "where fnb-number" });
    this.previous = iconButton(ChevronLeft, "Exposure before (↑)", () => this.step(-1));
    this.next = iconButton(ChevronRight, "Exposure after (↓)", () => this.step(1));
    const place = h("div", { class: "place" }, this.previous, this.where, this.next);
    const head = h("div", { class: "head" }, h("div", { class: "who" }, this.name, this.marks), place);

    this.tabs = h("div", { class: "tabs fnb-tabs", role: "tablist", "aria-label": "Overviews" });
    this.flip = iconButton(ArrowLeftRight, "Flip with its partner (F)", () => this.toggleFlip());
    this.adjust = iconButton(Contrast, "Brightness and contrast", () => this.#toggleSliders());
    this.help = iconButton(CircleQuestionMark, "Keys (?)", () => this.#toggleKeys());
    const tools = h("div", { class: "tools" }, this.flip, this.adjust, this.help);
    this.sliders = this.#buildSliders();
    this.keys = this.#buildKeys();

    this.grid = h("div", { class: "tiles" });
    this.tiles = [0, 1, 2, 3].map((place) => this.#buildTile(place));
    this.grid.append(...this.tiles.map((tile) => tile.element));
    this.stage = h("div", { class: "stage" }, this.grid, this.note);
    this.nothing = h("div", { class: "fnb-empty", hidden: true });
    this.live = h("div", { class: "fnb-hidden", "aria-live": "polite" });
    this.#buildLarge();

    const bar = h("div", { class: "toolbar" }, this.tabs, tools);
    const below = [this.values, bar, this.sliders, this.keys, this.stage, this.nothing];
    this.root.append(head, ...below, this.screen, this.live);
    this.root.addEventListener("keydown", (event) => this.#onKey(event));
    element.append(this.root);
  }

  #buildTile(place) {
    const picture = new Picture();
    const title = h("figcaption", { class: "fnb-caption" });
    const enlarge = iconButton(Maximize2, "On the whole screen (Enter)", () => this.enlarge(place));
    const element = h(
      "figure",
      {
        class: "tile",
        onpointerdown: () => this.#activate(place),
        ondblclick: () => this.enlarge(place),
      },
      picture.element,
      h("div", { class: "under" }, title, enlarge),
    );
    return { element, picture, title, place };
  }

  #buildLarge() {
    const picture = new Picture();
    const title = h("div", { class: "fnb-caption" });
    this.largeName = h("div", { class: "name" });
    this.largeValues = h("dl", { class: "values" });
    const buttons = h(
      "div",
      { class: "tools" },
      iconButton(ChevronLeft, "Exposure before (↑)", () => this.step(-1)),
      iconButton(ChevronRight, "Exposure after (↓)", () => this.step(1)),
      iconButton(ArrowLeftRight, "Flip with its partner (F)", () => this.toggleFlip()),
      iconButton(Minimize2, "Back (Esc)", () => this.reduce()),
    );
    const head = h("div", { class: "head" }, h("div", { class: "who" }, this.largeName, title), buttons);
    this.screen = h("dialog", {
      class: "screen fnb",
      "aria-label": "One view on the whole screen",
      tabindex: -1,
      autofocus: true,
    });
    this.screen.append(head, picture.element, this.largeValues);
    this.screen.addEventListener("close", () => this.#reduced());
    this.screen.addEventListener("fullscreenchange", () => {
      if (!document.fullscreenElement && this.screen.open) this.screen.close();
    });
    picture.element.addEventListener("dblclick", () => this.reduce());
    this.large = { picture, title };
  }

  #buildSliders() {
    const slider = (name, label, change) =>
      h("label", {}, h("span", {}, label), h("input", { type: "range", min: 0.4, max: 2.5, step: 0.05, value: 1, name, oninput: change }));
    const light = slider("light", "Brightness", (event) => this.#setGreys(Number(event.target.value), this.contrast));
    const contrast = slider("contrast", "Contrast", (event) => this.#setGreys(this.light, Number(event.target.value)));
    const reset = iconButton(RotateCcw, "Greys as they are (0)", () => this.#setGreys(1, 1));
    return h("div", { class: "sliders", hidden: true }, light, contrast, reset);
  }

  #buildKeys() {
    const rows = KEYS.map(([key, does]) => h("div", {}, h("kbd", { class: "fnb-key" }, key), h("span", {}, does)));
    return h("div", { class: "keys", hidden: true, role: "note" }, ...rows);
  }

  // Messages

  async #receive(message, buffers) {
    if (message.k === "show") {
      if (this.#isOld(message) && message.id !== this.id) return;
      this.around = message.around;
      this.place = message.place;
      this.total = message.total;
      if (message.id !== this.id) this.#turnTo(message.id);
      this.#showPlace();
      this.sayWant();
    } else if (message.k === "exposure") {
      await this.#keep(message, buffers);
    } else if (message.k === "forget") {
      this.#forget(message.ids);
    } else if (message.k === "view") {
      await this.#keepView(message, buffers);
    } else if (message.k === "sharp") {
      await this.#keepSharp(message, buffers);
    }
  }

  // Whether the user has gone on since, by the keys here or in a table on the page.
  #isOld({ id, seq }) {
    const now = performance.now();
    this.turned = this.turned.filter((turn) => now - turn.at < ANSWER);
    if (seq !== null) return seq < this.seq || this.turned.length > 0;
    const answered = this.turned.findIndex((turn) => turn.id === id);
    const steppedOn = answered >= 0 && this.turned[answered].seq < this.seq;
    this.turned.splice(0, answered < 0 ? this.turned.length : answered + 1);
    return this.turned.length > 0 || steppedOn;
  }

  async #keep(message, buffers) {
    const key = Cache.key(message.id, message.overview);
    this.coming.set(key, message);
    const entry = { id: message.id, head: message.head, tiles: message.tiles ?? [], error: message.error, bytes: 2000 };
    const isSeen = () => message.id === this.id && message.overview === this.overview;
    if (isSeen()) await Promise.all(entry.tiles.map((tile) => this.#decode(entry, tile, buffers)));
    else {
      for (const tile of entry.tiles) {
        if (!isSeen()) await idle(); // what comes next must not hold up the step that is being taken
        await this.#decode(entry, tile, buffers);
      }
    }
    if (this.coming.get(key) !== message) return; // it has changed meanwhile, or came again
    this.coming.delete(key);
    entry.others = new Map(entry.tiles.map((tile) => [tile.name, tile]));
    this.cache.put(message.id, message.overview, entry);
    if (isSeen()) this.#showEntry(entry);
  }

  async #decode(entry, tile, buffers) {
    entry.bytes += await decode(tile, buffers);
  }

  #forget(ids) {
    this.cache.forget(ids);
    const gone = ids === null ? null : new Set(ids);
    for (const [key, { id }] of [...this.coming]) if (gone === null || gone.has(id)) this.coming.delete(key);
  }

  async #keepView(message, buffers) {
    const entry = this.cache.get(message.id, this.overview);
    const bytes = await decode(message.tile, buffers);
    if (!entry) return;
    this.cache.grown(entry, bytes);
    entry.others.set(message.tile.name, message.tile);
    if (entry === this.entry) this.#draw();
  }

  async #keepSharp(message, buffers) {
    const { k, id, name, ...described } = message;
    const plain = this.entry?.id === id ? this.entry.others.get(name) : null;
    if (!plain) return;
    const sharp = { ...plain, ...described, buffer: 0 };
    await decode(sharp, buffers);
    if (this.entry?.id !== id || !sharp.bitmap) return;
    this.entry.sharp = { name, tile: sharp }; // one only: they are large
    this.#draw();
  }

  #sendGo() {
    if (this.delta === 0) return;
    const delta = this.delta;
    this.delta = 0;
    this.model.send({ k: "go", id: this.id, delta, seq: this.seq });
  }

  // What is not here of what will be looked at next; a newer wish takes the place of the one before.
  #sendWant() {
    const here = this.around.indexOf(this.id);
    const order = [this.id];
    if (here >= 0) {
      for (let i = 1; i <= AHEAD; i++) order.push(this.around[here + i * this.ahead]);
      for (let i = 1; i <= BEHIND; i++) order.push(this.around[here - i * this.ahead]);
    }
    const isHere = (id) => this.cache.has(id, this.overview) || this.coming.has(Cache.key(id, this.overview));
    const ids = order.filter((id) => id !== undefined && id !== null && !isHere(id));
    if (ids.length) this.model.send({ k: "want", ids, overview: this.overview });
  }

  // Going on

  step(delta) {
    if (!this.around.length) return;
    const here = this.around.indexOf(this.id); // one that a filter hides has no neighbours: then the first is next
    const target = here < 0 ? 0 : Math.min(Math.max(here + delta, 0), this.around.length - 1);
    if (target === here) return;
    const gone = target - here;
    this.delta += gone;
    this.seq += 1;
    this.ahead = Math.sign(gone);
    if (this.place !== null) this.place += gone;
    this.#turnTo(this.around[target]);
    this.#showPlace();
    this.sayGo();
    this.sayWant();
  }

  // Turn to what a table on the same page has its cursor on, without waiting for the kernel to say so.
  #follow(event) {
    const page = this.root.closest(".fnb-explorer");
    if (!page || event.target.closest(".fnb-explorer") !== page) return;
    const { id } = event.detail;
    const gone = this.around.indexOf(id) - this.around.indexOf(this.id);
    if (id === this.id || !this.around.includes(id)) return;
    this.turned.push({ id, at: performance.now(), seq: this.seq });
    this.ahead = Math.sign(gone);
    if (this.place !== null) this.place += gone;
    this.#turnTo(id);
    this.#showPlace();
    this.sayWant();
  }

  #turnTo(id) {
    this.id = id;
    this.comparing = this.flipped;
    this.root.dataset.id = id ?? "";
    const entry = id === null ? null : this.cache.get(id, this.overview);
    if (entry) this.#showEntry(entry);
    else this.#showWaiting();
  }

  #showOverview() {
    const overviews = this.model.get("overviews");
    this.tabs.replaceChildren(
      ...overviews.map((overview, place) => {
        const chosen = place === this.overview;
        const choose = () => this.#choose(place);
        return h(
          "button",
          { type: "button", role: "tab", class: "fnb-tab", "aria-selected": String(chosen), onclick: choose, title: `${overview.title} (${place + 1})` },
          overview.title,
        );
      }),
    );
    this.flipped = false;
    const count = overviews[this.overview]?.views.length ?? 0;
    for (const tile of this.tiles) tile.element.hidden = tile.place >= count;
    this.active = Math.min(this.active, Math.max(count - 1, 0));
    this.#turnTo(this.id);
    this.sayWant();
  }

  #choose(place) {
    if (place === this.overview || place >= this.model.get("overviews").length) return;
    this.model.set("chosen", place);
    this.model.save_changes();
  }

  // Showing

  #showPlace() {
    this.where.textContent = this.place === null ? "" : `${this.place.toLocaleString("en")} / ${this.total.toLocaleString("en")}`;
    this.previous.disabled = this.place === null || this.place <= 1;
    this.next.disabled = this.place === null || this.place >= this.total;
  }

  #showWaiting() {
    this.entry = null;
    const nothing = this.id === null;
    this.root.dataset.state = nothing ? "nothing" : "waiting";
    this.nothing.hidden = !nothing;
    this.stage.hidden = nothing;
    this.stage.classList.remove("bare");
    this.note.hidden = true;
    if (nothing) {
      const words = this.total ? "Choose an exposure in the table to see its views." : "There is no exposure to show.";
      this.nothing.replaceChildren(icon(ScanEye), h("div", {}, words));
      this.name.textContent = "";
      this.marks.replaceChildren();
      this.values.replaceChildren();
    }
    for (const tile of this.tiles) tile.picture.wait();
    this.large.picture.wait();
  }

  #showEntry(entry) {
    this.entry = entry;
    this.root.dataset.state = entry.error ? "broken" : "shown";
    this.nothing.hidden = !entry.error;
    this.stage.hidden = Boolean(entry.error);
    if (entry.error) {
      this.nothing.replaceChildren(icon(ScanEye), h("div", {}, entry.error));
      this.name.textContent = "";
      this.marks.replaceChildren();
      this.values.replaceChildren();
      this.note.hidden = true;
      return;
    }
    this.#showHead(entry.head);
    // where there is no picture at all, the reason stands in their place; else below, so that no picture moves
    this.stage.classList.toggle("bare", Boolean(entry.head.failure) && entry.tiles.every((tile) => tile.missing));
    this.#draw();
  }

  #showHead(head) {
    this.name.textContent = this.largeName.textContent = head.name;
    this.name.title = head.name;
    const group = head.group ? h("span", { class: "fnb-caption group", title: head.group }, head.group) : null;
    this.marks.replaceChildren(
      ...[head.flag ? flag(head.flag) : null, state(head.status, head.word), group].filter((part) => part !== null),
    );
    const values = head.values.map((value) =>
      h(
        "div",
        { class: value.by_hand ? "by-hand" : null, title: value.by_hand ? "set by hand" : null },
        h("dt", {}, value.label),
        h("dd", {}, value.text, value.unit ? h("span", { class: "unit" }, `${value.unit === "°" ? "" : "\u202f"}${value.unit}`) : null),
      ),
    );
    this.values.replaceChildren(...values);
    this.largeValues.replaceChildren(...values.map((value) => value.cloneNode(true)));
    this.#showNote(head);
  }

  #showNote(head) {
    this.note.hidden = !(head.failure || head.remark);
    this.note.className = "note";
    if (head.failure) {
      const words = head.failure.status === "broken" ? "broke" : "failed";
      this.note.className = "note fnb-message";
      this.note.dataset.kind = "failed";
      const cure = h("div", { class: "fnb-caption" }, head.failure.cure);
      this.note.replaceChildren(state(head.failure.status, ""), h("div", {}, h("b", {}, `${head.failure.title} ${words}. `), head.failure.reason, cure));
    } else if (head.remark) {
      this.note.className = "note fnb-message";
      this.note.dataset.kind = "warning";
      this.note.replaceChildren(state("warning", ""), h("div", {}, head.remark));
    }
  }

  // Draw what is known of the present exposure, flipped or not, into the tiles and onto the screen.
  #draw() {
    if (!this.entry) return;
    for (const tile of this.tiles) {
      const shown = this.entry.tiles[tile.place];
      if (!shown) continue;
      const large = this.screen.open;
      this.#drawInto(tile, shown, this.flipped && !large && tile.place === this.active);
      tile.element.classList.toggle("active", tile.place === this.active);
    }
    const chosen = this.entry.tiles[this.active];
    this.flip.disabled = !chosen?.partner;
    this.flip.setAttribute("aria-pressed", String(this.flipped));
    if (this.screen.open && chosen) {
      const { sharp } = this.entry;
      const plain = !this.comparing && sharp?.name === chosen.name ? sharp.tile : chosen;
      this.#drawInto(this.large, plain, this.flipped);
    }
  }

  #drawInto(target, tile, flipped) {
    let shown = tile;
    if (flipped && tile.partner) {
      shown = this.entry.others.get(tile.partner);
      if (!shown) {
        this.model.send({ k: "view", id: this.entry.id, name: tile.partner });
        this.entry.others.set(tile.partner, (shown = tile)); // asked for once; until it comes this one stays
      }
    }
    target.picture.show(shown, `${shown.title} of ${this.entry.head.name}`);
    target.title.textContent = shown.title;
  }

  // What the keys do

  #activate(place) {
    if (place === this.active) return;
    this.active = place;
    this.flipped = this.comparing = false;
    this.#stopFlipping();
    this.#draw();
    if (this.screen.open) this.#rest();
  }

  toggleFlip() {
    const chosen = this.entry?.tiles[this.active];
    if (!chosen?.partner) return;
    this.flipped = !this.flipped;
    this.comparing = true; // two pictures are compared as the steps drew both, not one of them sharp
    this.#draw();
  }

  #toggleFlipping() {
    if (this.flipping) return this.#stopFlipping();
    this.flipping = setInterval(() => this.toggleFlip(), FLIP);
    this.toggleFlip();
  }

  #stopFlipping() {
    clearInterval(this.flipping);
    this.flipping = null;
  }

  enlarge(place = this.active) {
    this.#activate(place);
    if (this.screen.open || !this.entry?.tiles.length) return;
    this.screen.showModal();
    this.screen.requestFullscreen?.({ navigationUI: "hide" }).catch(() => {}); // the window is large enough then
    this.#draw();
    this.#rest();
  }

  reduce() {
    if (document.fullscreenElement === this.screen) document.exitFullscreen();
    this.screen.close();
  }

  #reduced() {
    if (document.fullscreenElement === this.screen) document.exitFullscreen();
    clearTimeout(this.resting);
    this.#draw();
    this.root.focus({ preventScroll: true });
  }

  // Ask for a sharp picture once nobody steps on.
  #rest() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      const tile = this.entry?.tiles[this.active];
      if (!this.screen.open || this.comparing || !tile?.sharp || this.entry.sharp?.name === tile.name) return;
      this.model.send({ k: "sharpen", id: this.entry.id, name: tile.name });
    }, REST);
  }

  #setGreys(light, contrast) {
    this.light = Math.min(Math.max(light, 0.4), 2.5);
    this.contrast = Math.min(Math.max(contrast, 0.4), 2.5);
    this.root.style.setProperty("--light", this.light);
    this.root.style.setProperty("--contrast", this.contrast);
    for (const input of this.sliders.querySelectorAll("input")) input.value = this[input.name];
    this.adjust.setAttribute("aria-pressed", String(this.light !== 1 || this.contrast !== 1));
  }

  #toggleSliders() {
    this.sliders.hidden = !this.sliders.hidden;
    this.adjust.setAttribute("aria-expanded", String(!this.sliders.hidden));
  }

  #toggleKeys() {
    this.keys.hidden = !this.keys.hidden;
    this.help.setAttribute("aria-expanded", String(!this.keys.hidden));
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof HTMLInputElement && event.key !== "0") return;
    const count = this.entry?.tiles.length ?? 0;
    const on = event.target.closest?.("button");
    const actions = {
      ArrowDown: () => this.step(1),
      ArrowUp: () => this.step(-1),
      PageDown: () => this.step(10),
      PageUp: () => this.step(-10),
      Home: () => this.step(-this.around.length),
      End: () => this.step(this.around.length),
      ArrowRight: () => count && this.#activate((this.active + 1) % count),
      ArrowLeft: () => count && this.#activate((this.active + count - 1) % count),
      Enter: () => (this.screen.open ? this.reduce() : this.enlarge()),
      f: () => this.toggleFlip(),
      F: () => this.#toggleFlipping(),
      "+": () => this.#setGreys(this.light + 0.1, this.contrast),
      "=": () => this.#setGreys(this.light + 0.1, this.contrast),
      "-": () => this.#setGreys(this.light - 0.1, this.contrast),
      ".": () => this.#setGreys(this.light, this.contrast + 0.1),
      ",": () => this.#setGreys(this.light, this.contrast - 0.1),
      0: () => this.#setGreys(1, 1),
      "?": () => this.#toggleKeys(),
    };
    for (let place = 0; place < this.model.get("overviews").length; place++) {
      actions[place + 1] = () => this.#choose(place);
    }
    const act = actions[event.key];
    if (!act || (on && event.key === "Enter")) return;
    claim(event);
    act();
    if (this.screen.open) this.#rest();
  }
}

function render({ model, el }) {
  begin(el, "overview", STYLES);
  const view = new View(model, el);
  el.focusnbOverview = view; // for tests: which exposures were fetched ahead
  return () => view.close();
}

export default { render: hearing(render) };
