// All that is known of one exposure, as tables under tabs; what failed stands above them.

import { ClipboardList } from "lucide";

import { begin, claim, h } from "../common/dom.js";
import { hearing } from "../common/hear.js";
import { flag, icon, state } from "../common/icons.js";
import STYLES from "./styles.css";

const TABS = ["Findings", "Facts", "Parameters", "Runs", "Log"];

function render({ model, el }) {
  begin(el, "details", STYLES);
  let shown = {};
  const head = h("div", { class: "head" });
  const failures = h("div", { class: "failures" });
  const tabs = h("div", { class: "tabs fnb-tabs", role: "tablist", "aria-label": "What is known of the exposure" });
  const find = h("input", { class: "fnb-input find", type: "search", placeholder: "Find a value", "aria-label": "Find a value" });
  const page = h("div", { class: "page", role: "tabpanel", tabindex: 0 });
  const bar = h("div", { class: "bar" }, tabs, find);
  el.append(head, failures, bar, page);

  const buttons = TABS.map((name) =>
    h("button", { type: "button", class: "fnb-tab", role: "tab", onclick: () => choose(name) }, name),
  );
  tabs.append(...buttons);

  function choose(name) {
    model.set("tab", name);
    model.save_changes();
  }

  function showTab() {
    const name = model.get("tab");
    for (const button of buttons) {
      const chosen = button.textContent === name;
      button.setAttribute("aria-selected", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    page.setAttribute("aria-label", name);
    find.hidden = name === "Log" || name === "Runs";
    const draw = { Findings: () => values("findings"), Facts: () => values("facts"), Parameters: () => values("parameters"), Runs: runs, Log: log };
    const top = page.scrollTop;
    page.replaceChildren(...(shown.head ? draw[name]() : []));
    page.scrollTop = top;
  }

  function values(which) {
    const words = find.value.trim().toLowerCase();
    const rows = shown[which].filter((row) => !words || `${row.label} ${row.name} ${row.group} ${row.text}`.toLowerCase().includes(words));
    if (!rows.length) return [empty(words ? `No ${which} match “${find.value.trim()}”.` : nothing(which))];
    const groups = new Map();
    for (const row of rows) groups.set(row.group, [...(groups.get(row.group) ?? []), row]);
    return [...groups].map(([group, members]) => h("section", {}, h("h3", {}, group), h("table", {}, h("tbody", {}, ...members.map(valueRow)))));
  }

  const nothing = (which) => (which === "findings" ? "No step has found anything yet." : `There are no ${which}.`);

  function valueRow(row) {
    const number = /^[−\d.]+$/.test(row.text);
    return h(
      "tr",
      { class: row.marked ? "marked" : null },
      h("th", { scope: "row", title: [row.name, row.help].filter(Boolean).join(": ") }, row.label),
      h("td", { class: number ? "value fnb-number" : "value" }, row.text),
      h("td", { class: "unit" }, row.unit),
      h("td", { class: "origin" }, row.origin, row.note ? h("div", { class: "note" }, row.note) : null),
    );
  }

  function runs() {
    if (!shown.runs.length) return [empty("No step has run on this exposure yet.")];
    const captions = ["Step", "Status", "Began", "Seconds", "Where", "Versions"];
    const rows = shown.runs.flatMap((run) => {
      const step = [run.step, run.trial ? h("span", { class: "fnb-caption" }, ` trial ${run.trial}`) : null];
      const again = run.attempt > 1 ? `${run.status}, attempt ${run.attempt}` : run.status;
      const cells = [h("td", {}, ...step), h("td", {}, state(run.status, again)), h("td", { class: "fnb-number" }, run.when)];
      cells.push(h("td", { class: "fnb-number" }, run.seconds), h("td", {}, run.host), h("td", {}, run.versions));
      const why = run.reason ? [h("tr", { class: "why" }, h("td", { colspan: 6 }, run.reason))] : [];
      return [h("tr", { class: run.reason ? "told" : null }, ...cells), ...why];
    });
    const heading = h("tr", {}, ...captions.map((caption) => h("th", { scope: "col" }, caption)));
    return [h("div", { class: "wide" }, h("table", { class: "runs" }, h("thead", {}, heading), h("tbody", {}, ...rows)))];
  }

  const log = () => [h("pre", { class: "fnb-mono" }, shown.log)];

  const empty = (words) => h("div", { class: "fnb-empty" }, icon(ClipboardList), h("div", {}, words));

  function failure(told) {
    const words = { broken: "broke", lost: "was lost" }[told.status] ?? "failed";
    const trace = told.traceback ? h("details", {}, h("summary", {}, "Traceback"), h("pre", {}, told.traceback)) : null;
    return h(
      "div",
      { class: "fnb-message", dataset: { kind: "failed" }, role: "alert" },
      state(told.status === "broken" ? "broken" : "failed", ""),
      h("div", {}, h("b", {}, `${told.title} ${words}. `), told.reason, h("div", { class: "fnb-caption" }, told.cure), trace),
    );
  }

  function show(message) {
    shown = message;
    const known = Boolean(message.head);
    bar.hidden = page.hidden = !known;
    failures.replaceChildren(...(message.failures ?? []).map(failure));
    if (!known) {
      head.replaceChildren(empty(message.error ?? "Choose an exposure to read what is known of it."));
      return;
    }
    const { name, flag: colour, status, word, comment } = message.head;
    const marks = h("div", { class: "marks" }, colour ? flag(colour) : null, state(status, word));
    const parts = [h("div", { class: "name" }, name), marks, h("div", { class: "fnb-caption folder" }, message.folder)];
    if (comment) parts.push(h("div", { class: "comment" }, comment));
    head.replaceChildren(...parts);
    showTab();
  }

  tabs.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    claim(event);
    const place = (TABS.indexOf(model.get("tab")) + move + TABS.length) % TABS.length;
    choose(TABS[place]);
    buttons[place].focus({ preventScroll: true });
  });
  find.addEventListener("input", showTab);
  el.addEventListener("keydown", (event) => event.stopPropagation());
  const receive = (message) => message.k === "show" && show(message);
  const changed = () => shown.head && showTab();
  model.on("msg:custom", receive);
  model.on("change:tab", changed);
  show({});
  model.send({ k: "ready" });
  return () => {
    model.off("msg:custom", receive);
    model.off("change:tab", changed);
  };
}

export default { render: hearing(render) };
