// Menus and small forms of the table.

import {
  ArrowDown,
  ArrowUp,
  Check,
  ChevronsDownUp,
  ChevronsUpDown,
  Columns3,
  Copy,
  EyeOff,
  FolderInput,
  Group,
  Maximize2,
  Pencil,
  RotateCcw,
  SlidersHorizontal,
  Trash2,
  Ungroup,
} from "lucide";

import { claim, h } from "../common/dom.js";
import { flag, state } from "../common/icons.js";
import { AutoSelect } from "./autoselect.js";
import { number } from "./body.js";
import { openChooser } from "./chooser.js";
import { copyText } from "../common/clipboard.js";
import { KEYS } from "./keys.js";
import { entry, heading, line, Popup } from "./popup.js";

const FLAGS = [
  ["", "no flag", "N"],
  ["red", "red", "R"],
  ["green", "green", "G"],
  ["blue", "blue", "B"],
  ["gold", "gold", "O"],
];

const MOST_ROWS = 6; // lines of a comment seen at once while it is written

export class Menus {
  constructor(table) {
    this.table = table;
    this.present = null;
  }

  make(label, options = {}) {
    this.close();
    this.present = new Popup(this.table, { label, ...options });
    return this.present;
  }

  close() {
    this.present?.close(false);
  }

  closeFleeting() {
    if (this.present?.fleeting) this.present.close();
  }

  closed(popup) {
    if (this.present === popup) this.present = null;
  }

  // A choice from a menu: the menu closes, then it is done.
  pick(f) {
    return () => {
      this.present?.close();
      f();
    };
  }

  get locked() {
    return this.table.state.writable ? "" : "This project can only be read: ask for write access to its folder";
  }

  // The menu of the highlighted rows

  openRow(x, y) {
    const { table, locked } = this;
    const { cursor } = table.body;
    const count = table.highlighted;
    const menu = this.make("Highlighted rows");
    const flags = FLAGS.map(([name, words, key]) =>
      h(
        "button",
        {
          type: "button",
          class: "fnb-button fnb-button-icon",
          role: "menuitem",
          title: `Flag: ${words} (${key})`,
          "aria-label": `Flag: ${words}`,
          disabled: locked !== "",
          onclick: this.pick(() => table.ask("flag", { flag: name })),
        },
        flag(name || null),
      ),
    );
    const parts = [
      count > 1 ? heading(`${number(count)} rows`) : null,
      h("div", { class: "fnb-table-flags", role: "group", "aria-label": "Flag" }, ...flags),
      line(),
      entry("Tick", this.pick(() => table.ask("tick", { how: "tick" })), { drawing: Check, key: "Space" }),
      entry("Take ticks off", this.pick(() => table.ask("tick", { how: "untick" })), { key: "Ctrl Space" }),
      line(),
      cursor?.id != null && count <= 1
        ? entry("Open", this.pick(() => table.tell("open", { id: cursor.id })), { drawing: Maximize2, key: "Enter" })
        : null,
      cursor?.id != null && count <= 1
        ? entry("Comment…", this.pick(() => this.editComment(cursor.line)), {
            drawing: Pencil,
            key: "F2",
            disabled: locked,
          })
        : null,
      cursor?.id === null && table.state.grouped === "group" && cursor.group !== "TRASH"
        ? entry("Rename the group…", this.pick(() => this.renameGroup(cursor)), {
            drawing: Pencil,
            key: "F2",
            disabled: locked,
          })
        : null,
      entry("Move to group…", this.pick(() => this.openGroups([x, y])), {
        drawing: FolderInput,
        key: "Ctrl M",
        disabled: locked,
      }),
      this.inTrash()
        ? entry("Put back", this.pick(() => table.ask("restore")), { drawing: RotateCcw, disabled: locked })
        : entry("Move to TRASH", this.pick(() => table.ask("trash")), {
            drawing: Trash2,
            key: "Delete",
            disabled: locked,
          }),
      line(),
      entry("Copy rows", this.pick(() => this.copy()), { drawing: Copy, key: "Ctrl C" }),
      entry("Copy names", this.pick(() => this.copy({ names: true }))),
    ];
    menu.element.append(...parts.filter(Boolean));
    menu.open([x, y]);
  }

  inTrash() {
    const { body } = this.table;
    if (this.table.state.grouped !== "group" || !body.cursor) return false;
    return (body.cursor.group ?? body.groupOf(body.cursor.line)) === "TRASH";
  }

  openRowAtCursor() {
    const { body } = this.table;
    const row = body.cursor && body.elementOf(body.cursor.line);
    if (!row) return;
    const box = row.name.getBoundingClientRect();
    this.openRow(box.left, box.bottom);
  }

  openFlags(cell, ids) {
    const menu = this.make("Flag", { className: "fnb-table-palette" });
    const entries = FLAGS.map(([name, words, key]) =>
      entry(words, this.pick(() => this.table.ask("flag", { flag: name, ids })), {
        drawing: flag(name || null),
        key,
        disabled: this.locked,
      }),
    );
    menu.element.append(...entries);
    menu.open(cell);
  }

  async copy(options = {}) {
    const answer = await this.table.ask("copy", options);
    if (!answer) return;
    try {
      await copyText(answer.text);
      const count = answer.text.split("\n").length - (options.names ? 0 : 1);
      this.table.status.say(`${number(count)} ${options.names ? "name" : "row"}${count === 1 ? "" : "s"} copied.`);
    } catch {
      this.table.status.say("The browser did not let it be copied; open the page by https or from this computer.", {
        failed: true,
      });
    }
    this.table.focus();
  }

  // Groups

  async openGroups(place = null) {
    if (this.locked) {
      this.table.status.say(this.locked, { failed: true });
      return;
    }
    const answer = await this.table.ask("groups");
    if (!answer) return;
    const menu = this.make("Move to group", { role: "dialog", fleeting: false, className: "fnb-table-groups" });
    const groups = answer.groups.filter(([name]) => name);
    const field = h("input", {
      class: "fnb-input",
      placeholder: "Group, or the name of a new one",
      "aria-label": "Group, or the name of a new one",
      autofocus: true,
      spellcheck: "false",
    });
    const list = h("div", { class: "fnb-table-list" });
    const move = (group) => {
      menu.close();
      this.table.ask("move", { group });
    };
    const draw = () => {
      const text = field.value.trim();
      const found = groups.filter(([name]) => name.toLowerCase().includes(text.toLowerCase()));
      const isNew = text && !groups.some(([name]) => name === text);
      const entries = found.map(([name, count]) => entry(name, () => move(name), { note: number(count) }));
      if (isNew) entries.push(entry(`New group ${text}`, () => move(text), { drawing: FolderInput }));
      list.replaceChildren(...entries);
    };
    field.addEventListener("input", draw);
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      claim(event);
      const text = field.value.trim();
      const exact = groups.find(([name]) => name === text);
      if (exact || text) move(exact ? exact[0] : text);
    });
    draw();
    menu.element.append(h("div", { class: "fnb-table-form" }, field), list);
    const row = this.table.body.cursor && this.table.body.elementOf(this.table.body.cursor.line);
    menu.open(place ?? row?.cells[0].cell ?? this.table.bar.ticks);
  }

  renameGroup(cursor) {
    const row = this.table.body.elementOf(cursor.line);
    if (!row || this.locked) return;
    this.edit(row.cells[0].cell, cursor.group, "Name of the group", (name) => {
      if (name) this.table.ask("rename", { group: cursor.group, name });
    });
  }

  toggleGroup(group) {
    const { body } = this.table;
    const line = body.lines.find((other) => other[0] === null && other[1] === group);
    if (line) this.table.tell("fold", { groups: [group], closed: line[3] });
  }

  tickGroup(group) {
    const { body } = this.table;
    const line = body.lines.find((other) => other[0] === null && other[1] === group);
    if (line) this.table.ask("tick", { group, how: line[4] === line[2] ? "untick" : "tick" });
  }

  // Comments, written in their place

  editComment(at) {
    const { table } = this;
    const place = table.columns.findIndex((column) => column.name === "comment");
    const row = table.body.elementOf(at);
    const data = table.body.lineAt(at);
    if (this.locked) table.status.say(this.locked, { failed: true });
    if (!row || !data || data[0] === null || this.locked) return;
    const away = place < 0 || table.head.isHidden(table.columns[place]);
    if (away && place < 0) {
      table.status.say("Show the column Comment to write into it: View, Columns.");
      return;
    }
    const cell = away ? row.cells[0].cell : row.cells[place].cell;
    if (!away) cell.scrollIntoView({ block: "nearest", inline: "nearest" });
    const keep = (text) => table.ask("comment", { id: data[0], text });
    this.edit(cell, data[2][place], "Comment", keep, { tag: "textarea" });
  }

  // A textarea holds several lines: Shift Enter begins one.
  edit(cell, value, label, done, { tag = "input" } = {}) {
    this.close();
    const field = h(tag, { class: "fnb-input fnb-table-editor", "aria-label": label });
    field.value = value;
    const before = field.value.trim(); // an input holds one line: what it cannot hold is no change
    const box = cell.getBoundingClientRect();
    const frame = this.table.frame.getBoundingClientRect();
    const width = Math.max(box.width, 220);
    const left = Math.min(box.left - frame.left, frame.width - width - 4);
    Object.assign(field.style, { left: `${left}px`, width: `${width}px` });
    const fit = () => {
      // as high as its lines, those among them that are broken because they are long
      if (tag === "textarea") for (field.rows = 1; field.rows < MOST_ROWS && isCut(); ) field.rows += 1;
      field.style.top = `${Math.min(box.top - frame.top, frame.height - field.offsetHeight - 4)}px`;
    };
    const isCut = () => field.scrollHeight > field.clientHeight + 1;
    field.addEventListener("input", fit);
    let open = true;
    const end = (keep, back = true) => {
      if (!open) return;
      open = false;
      field.remove();
      this.table.scroll.removeEventListener("scroll", giveUp);
      const text = field.value.trim();
      if (keep && text !== before) done(text);
      if (back) this.table.focus();
    };
    const giveUp = () => end(true);
    field.addEventListener("keydown", (event) => {
      event.stopPropagation();
      // these keys choose among the characters that an input method offers; WebKit tells of its last key by 229 only
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Enter" && event.shiftKey && tag === "textarea") return;
      if (event.key === "Enter" || event.key === "Tab") end(true);
      else if (event.key === "Escape") end(false);
      else return;
      claim(event);
    });
    field.addEventListener("blur", (event) => end(true, event.relatedTarget === null)); // who went elsewhere is there
    this.table.frame.append(field);
    fit();
    field.focus({ preventScroll: true });
    field.select();
    setTimeout(() => this.table.scroll.addEventListener("scroll", giveUp));
  }

  // Columns

  openColumn(column, x, y) {
    const { table } = this;
    const { name, label, sort, kind } = column;
    const menu = this.make(label);
    const others = table.state.sort.filter(([other]) => other !== name);
    const sortBy = (keys) => this.pick(() => table.ask("sort", { keys }));
    const words = ["text", "choice", "status", "flag"].includes(kind);
    const parts = [
      heading(label),
      entry("Sort upwards", sortBy([[name, true]]), { drawing: ArrowUp }),
      entry("Sort downwards", sortBy([[name, false]]), { drawing: ArrowDown }),
      others.length && !sort ? entry("Add to the sorting", sortBy([...others, [name, true]])) : null,
      sort ? entry("Do not sort by it", sortBy(others)) : null,
      line(),
      words ? entry(`Group by ${label}`, this.pick(() => table.ask("group", { name })), { drawing: Group }) : null,
      kind !== "name"
        ? entry("Hide", this.pick(() => table.tell("column", { name, shown: false })), {
            drawing: EyeOff,
            key: "Delete",
          })
        : null,
      entry("Columns…", this.pick(() => this.openColumns([x, y])), { drawing: Columns3 }),
    ];
    menu.element.append(...parts.filter(Boolean));
    menu.open([x, y]);
  }

  openColumns(place) {
    return openChooser(this, place);
  }

  async openChoices(column, button) {
    const { table } = this;
    const answer = await table.ask("choices", { column: column.name });
    if (!answer) return;
    const menu = this.make(`Filter ${column.label}`, { role: "dialog", fleeting: false });
    const chosen = new Set(column.filter.split(",").map((word) => word.trim()).filter(Boolean));
    const boxes = answer.choices.map(([word, count]) => {
      const value = word || "none";
      const box = h("input", { type: "checkbox", value });
      box.checked = chosen.has(value);
      box.addEventListener("change", () => {
        if (box.checked) chosen.add(value);
        else chosen.delete(value);
        table.ask("filter", { column: column.name, value: [...chosen].join(", ") });
      });
      const note = h("span", { class: "fnb-caption" }, number(count));
      const isFlag = column.kind === "flag";
      const words = column.kind === "status" && word ? state(word) : isFlag && !word ? "no flag" : value;
      const entryWords = h("span", { class: "fnb-table-entry" }, words);
      return h("label", { class: "fnb-menu-item" }, box, isFlag ? flag(word || null) : null, entryWords, note);
    });
    const all = entry("All", () => {
      menu.close();
      table.ask("filter", { column: column.name, value: "" });
    });
    menu.element.append(...boxes, line(), all);
    menu.open(button);
  }

  // The menus of the bar

  openView(button) {
    const { table } = this;
    const now = table.state;
    const menu = this.make("View");
    const group = (name) => this.pick(() => table.ask("group", { name }));
    const foldAll = (closed) => this.pick(() => table.ask("fold", { groups: [], closed }));
    const isOther = now.grouped !== null && now.grouped !== "group";
    const parts = [
      entry("Columns…", this.pick(() => this.openColumns(button)), { drawing: Columns3 }),
      line(),
      entry("Groups", group(now.grouped === "group" ? null : "group"), {
        drawing: Group,
        checked: now.grouped === "group",
      }),
      isOther ? entry(`By ${now.grouped_label}`, group(null), { drawing: Ungroup, checked: true }) : null,
      now.grouped !== null ? entry("Open all groups", foldAll(false), { drawing: ChevronsUpDown }) : null,
      now.grouped !== null ? entry("Close all groups", foldAll(true), { drawing: ChevronsDownUp }) : null,
      line(),
      entry("Show TRASH", this.pick(() => table.ask("show", { trash: !now.show_trash })), {
        drawing: Trash2,
        checked: now.show_trash,
        note: now.trashed ? number(now.trashed) : "",
      }),
      now.filters || now.text || now.only_ticked
        ? entry("Take all filters off", this.pick(() => table.ask("clear")))
        : null,
      now.sort.length ? entry("Do not sort", this.pick(() => table.ask("sort", { keys: [] }))) : null,
    ];
    menu.element.append(...parts.filter(Boolean));
    menu.open(button, { owner: button });
  }

  async openTicks(button) {
    const { table } = this;
    const answer = await table.ask("selections");
    if (!answer) return;
    const menu = this.make("Ticks", { role: "dialog", fleeting: false, className: "fnb-table-ticks" });
    const tick = (how) => this.pick(() => table.ask("tick", { how }));
    const name = h("input", {
      class: "fnb-input",
      placeholder: "Save ticked rows as…",
      "aria-label": "Name of a selection",
      disabled: this.locked !== "",
    });
    name.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !name.value.trim()) return;
      claim(event);
      menu.close();
      table.ask("save", { name: name.value });
    });
    const saved = answer.selections.map(([saves, count]) =>
      entry(saves, this.pick(() => table.ask("load", { name: saves })), { note: number(count) }),
    );
    const parts = [
      entry("Tick all shown", tick("all"), { drawing: Check, key: "Ctrl A" }),
      entry("Take all ticks off", tick("none"), { key: "Ctrl R" }),
      entry("Invert those shown", tick("invert"), { key: "Ctrl I" }),
      entry("Show ticked only", this.pick(() => table.ask("show", { only_ticked: !table.state.only_ticked })), {
        checked: table.state.only_ticked,
        key: "Ctrl X",
      }),
      line(),
      entry("Tick by values…", this.pick(() => new AutoSelect(table).open(button)), { drawing: SlidersHorizontal }),
      line(),
      saved.length ? heading("Tick what was saved as") : null,
      ...saved,
      h("div", { class: "fnb-table-form" }, name),
    ];
    menu.element.append(...parts.filter(Boolean));
    menu.open(button, { owner: button });
  }

  openKeys() {
    const menu = this.make("Keys of the table", { role: "dialog", fleeting: false, className: "fnb-table-keys" });
    const rows = KEYS.flatMap(([keys, words]) => [
      h("dt", {}, ...keys.split(", ").map((key) => h("span", { class: "fnb-key" }, key))),
      h("dd", {}, words),
    ]);
    menu.element.append(h("div", { class: "fnb-table-heading" }, "Keys"), h("dl", {}, ...rows));
    const { help } = this.table.bar;
    const { scroll } = this.table;
    menu.open(help, { owner: help, back: document.activeElement === scroll ? scroll : help });
  }
}
