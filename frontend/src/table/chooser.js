// Which columns are shown.

import { h } from "../common/dom.js";
import { entry, heading, line } from "./popup.js";

export async function openChooser(menus, place) {
  const { table } = menus;
  const answer = await table.ask("chooser");
  if (!answer) return;
  const menu = menus.make("Columns", { role: "dialog", fleeting: false, className: "fnb-table-chooser" });
  const field = h("input", {
    class: "fnb-input",
    placeholder: "Find a column",
    "aria-label": "Find a column",
    autofocus: true,
    spellcheck: "false",
  });
  const list = h("div", { class: "fnb-table-list" });
  const shown = new Set(answer.columns.filter((column) => column.shown).map((column) => column.name));

  const choice = (column) => {
    const { name, label, unit, help } = column;
    const box = h("input", { type: "checkbox", disabled: name === "exposure" });
    box.checked = shown.has(name);
    box.addEventListener("change", () => {
      if (box.checked) shown.add(name);
      else shown.delete(name);
      table.ask("column", { name, shown: box.checked });
    });
    const words = h("span", { class: "fnb-table-entry" }, label, unit ? h("span", { class: "fnb-caption" }, ` ${unit}`) : null);
    return h("label", { class: "fnb-menu-item", title: help || null }, box, words);
  };

  const draw = () => {
    const text = field.value.trim().toLowerCase();
    const found = answer.columns.filter(({ name, label, help }) =>
      [name, label, help].some((words) => words.toLowerCase().includes(text)),
    );
    const groups = byGroup(found);
    const parts = [...groups].flatMap(([group, columns]) => [heading(group), ...columns.map(choice)]);
    list.replaceChildren(...(parts.length ? parts : [heading("No column is called so.")]));
  };

  field.addEventListener("input", draw);
  draw();
  const usual = entry("As the project's mode shows", () => {
    menu.close();
    table.ask("usual");
  });
  menu.element.append(h("div", { class: "fnb-table-form" }, field), list, line(), usual);
  menu.open(place);
}

function byGroup(columns) {
  const groups = new Map();
  for (const column of columns) groups.set(column.group, [...(groups.get(column.group) ?? []), column]);
  return groups;
}
