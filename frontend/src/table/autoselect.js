// Ticking by values: any number of ranges, and flags; how many exposures that would be is told while it is written.

import { Plus, X } from "lucide";

import { debounce, h } from "../common/dom.js";
import { flag, icon, iconButton } from "../common/icons.js";
import { number } from "./body.js";
import { line } from "./popup.js";

const FLAGS = ["", "red", "green", "blue", "gold"];

export class AutoSelect {
  constructor(table) {
    this.table = table;
    this.ranges = [];
  }

  async open(place) {
    const answer = await this.table.ask("chooser");
    if (!answer) return;
    this.numbers = answer.columns.filter((column) => column.number);
    const menu = this.table.menus.make("Tick by values", {
      role: "dialog",
      fleeting: false,
      className: "fnb-table-auto",
    });
    this.menu = menu;
    this.list = h("div", { class: "fnb-table-ranges" });
    this.flags = FLAGS.map((name) => {
      const box = h("input", { type: "checkbox", value: name });
      box.checked = true;
      box.addEventListener("change", () => this.count());
      return h("label", { title: name || "no flag" }, box, flag(name || null));
    });
    this.sign = h("input", { type: "checkbox", onchange: () => this.count() });
    this.told = h("div", { class: "fnb-table-told", role: "status" });
    this.commit = h(
      "button",
      { type: "button", class: "fnb-button fnb-button-first", onclick: () => this.tick() },
      "Tick these, and no others",
    );
    const add = h(
      "button",
      { type: "button", class: "fnb-button", onclick: () => this.addRange(null, true) },
      icon(Plus),
      "Another range",
    );
    this.count = debounce(() => this.countNow(), 150);
    const shown = this.numbers.filter((column) => column.shown);
    const first = shown.find((column) => column.name === "ctf_fit_resolution") ?? shown[0] ?? this.numbers[0];
    const title = h("div", { class: "fnb-table-heading" }, "Tick exposures with");
    const options = h("label", { class: "fnb-row" }, this.sign, "numbers without their sign");
    menu.element.append(
      title,
      this.list,
      add,
      options,
      h("div", { class: "fnb-row", role: "group", "aria-label": "Flags" }, "and the flag", ...this.flags),
      line(),
      h("div", { class: "fnb-table-end" }, this.told, this.commit),
    );
    if (first) this.addRange(first.name);
    menu.open(place);
    this.countNow();
  }

  addRange(name, focus = false) {
    const shown = this.numbers.filter((column) => column.shown);
    const others = this.numbers.filter((column) => !column.shown);
    const option = ({ name: value, label, unit }) => h("option", { value }, unit ? `${label} (${unit})` : label);
    const column = h(
      "select",
      { class: "fnb-input", "aria-label": "Column", onchange: () => this.count() },
      h("optgroup", { label: "Shown" }, ...shown.map(option)),
      h("optgroup", { label: "Others" }, ...others.map(option)),
    );
    column.value = name ?? (shown.find((item) => !this.ranges.some((range) => range.column.value === item.name)) ?? {}).name;
    const bound = (words) =>
      h("input", {
        class: "fnb-input fnb-number",
        inputmode: "decimal",
        placeholder: words,
        "aria-label": words,
        oninput: () => this.count(),
      });
    const range = { column, low: bound("from"), high: bound("to") };
    const remove = iconButton(X, "Without this range", () => {
      this.ranges.splice(this.ranges.indexOf(range), 1);
      row.remove();
      this.count();
    });
    const row = h("div", { class: "fnb-table-range" }, column, range.low, h("span", {}, "to"), range.high, remove);
    this.ranges.push(range);
    this.list.append(row);
    if (focus) column.focus();
    if (focus) this.count();
  }

  request() {
    const ranges = this.ranges
      .map(({ column, low, high }) => [column.value, low.value.trim(), high.value.trim()])
      .filter(([name, low, high]) => name && (low || high))
      .map(([name, low, high]) => [name, `${low}..${high}`]);
    const flags = this.flags.map((label) => label.querySelector("input")).filter((box) => box.checked);
    const all = flags.length === FLAGS.length;
    return { ranges, flags: all ? null : flags.map((box) => box.value || null), ignore_sign: this.sign.checked };
  }

  async countNow() {
    this.asked = (this.asked ?? 0) + 1;
    const { asked } = this;
    const answer = await this.table.ask("auto", this.request(), { quiet: true });
    if (asked !== this.asked) return;
    this.commit.disabled = Boolean(answer.error);
    this.told.classList.toggle("fnb-table-wrong", Boolean(answer.error));
    const total = this.table.state.total - this.table.state.trashed;
    this.told.textContent = answer.error ?? `${number(answer.count)} of ${number(total)} exposures`;
  }

  async tick() {
    this.menu.close();
    await this.table.ask("auto", { ...this.request(), commit: true });
  }
}
