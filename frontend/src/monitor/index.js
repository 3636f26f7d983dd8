// All microscopes at a glance, one in depth, live. The kernel tells what there is; nothing here changes anything.

import { MoonStar } from "lucide";

import { begin, claim, h } from "../common/dom.js";
import { hearing } from "../common/hear.js";
import { icon, state } from "../common/icons.js";
import DEPTH from "./depth.css";
import { makeDepth } from "./depth.js";
import { makeGlance } from "./glance.js";
import { openStore } from "./store.js";
import STYLES from "./styles.css";
import { moment } from "./words.js";

const KEYS = [["1 3 2 s", "the last hour, 3 h, 12 h, the session"], ["← →", "earlier, later"], ["+ −", "closer, wider"], ["Esc", "follow again; all microscopes"], ["?", "these keys"]];

function render({ model, el }) {
  begin(el, "monitor", STYLES + DEPTH);
  const alone = document.body.dataset.voila !== undefined; // a page of its own may name what is shown in its address
  const silent = h("div", { class: "fnb-message silent", dataset: { kind: "failed" }, role: "alert", hidden: true });
  const empty = h("div", { class: "fnb-empty", hidden: true }, icon(MoonStar), "No microscope is named. Name some in a file, or start this with the folder of a project.");
  const all = h("div", { class: "all" });
  const one = h("div", { class: "one" });
  const help = h("dialog", { class: "larger keys", onclick: () => help.close() }, h("h2", {}, "Keys"), h("dl", {}, ...KEYS.flatMap(([keys, words]) => [h("dt", {}, ...keys.split(" ").map((key) => h("kbd", { class: "fnb-key" }, key))), h("dd", {}, words)])));
  const root = h("div", { class: "night", tabindex: -1 }, silent, empty, all, one, help);
  el.append(root);

  // This device's clock may be wrong; the kernel's is what ages are told by.
  let offset = 0;
  let heard = Date.now();
  const now = () => Date.now() / 1000 + offset;
  const cards = () => model.get("cards");
  let depth = null;
  let shown = null;

  const store = openStore(model, () => {
    depth?.show();
    refresh();
  });
  const glance = makeGlance(all, store, open);

  function wanted() {
    if (cards().length === 1) return cards()[0].name;
    if (!alone) return shown;
    const name = decodeURIComponent(location.hash.slice(1));
    return cards().some((card) => card.name === name) ? name : null;
  }

  function open(name) {
    if (alone && cards().length > 1) location.hash = name === null ? "" : encodeURIComponent(name);
    else show(name);
  }

  function show(name) {
    if (name === shown && (name === null || depth)) return;
    depth?.close();
    depth = null;
    shown = name;
    all.hidden = name !== null;
    store.open(name);
    if (name !== null) {
      const onBack = cards().length > 1 ? () => open(null) : null;
      depth = makeDepth(one, store, { name, watched: model.get("watched"), onBack, cardOf: () => cards().find((card) => card.name === name), now });
      depth.show();
      if (onBack) root.scrollIntoView({ block: "start" });
    }
    refresh();
  }

  function refresh() {
    empty.hidden = cards().length > 0;
    if (shown === null) glance.show(cards(), now());
    depth?.tick();
    const quiet = (Date.now() - heard) / 1000;
    silent.hidden = quiet < Math.max(60, 6 * model.get("every"));
    if (!silent.hidden) silent.replaceChildren(state("failed", ""), h("div", {}, `Nothing was heard since ${moment(heard / 1000)}. What you see is of then; load this page again.`));
    if (alone) document.title = title();
  }

  // A tab in the background tells as well.
  function title() {
    const told = shown === null ? cards() : cards().filter((card) => card.name === shown);
    const bad = told.filter((card) => card.level === "bad" || card.level === "warning");
    return bad.length ? `▲ ${bad.map((card) => `${card.name}: ${card.alerts[0]?.sentence ?? card.word}`).join("; ")}` : told.map((card) => `${card.name}: ${card.word}`).join(", ") || "Microscopes";
  }

  const onSeen = () => {
    heard = Date.now();
    offset = model.get("seen") - heard / 1000;
    if (Math.abs(offset) < 2) offset = 0; // the way takes its time as well
    refresh();
  };
  const onHash = () => show(wanted());
  const onKey = (event) => {
    if (event.target.closest("input, select, textarea, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "?") {
      claim(event);
      help.showModal();
    }
    const run = depth?.key(event.key);
    if (!run) return;
    claim(event);
    run();
  };
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const onScheme = () => depth?.redraw();

  model.on("change:cards", refresh);
  model.on("change:seen", onSeen);
  window.addEventListener("hashchange", onHash);
  scheme.addEventListener("change", onScheme);
  // in a page of its own keys work wherever the focus is
  const listens = alone ? document : root;
  listens.addEventListener("keydown", onKey);
  const timer = setInterval(refresh, 1000);
  if (model.get("seen")) offset = Math.abs(model.get("seen") - Date.now() / 1000) < 3600 ? 0 : model.get("seen") - Date.now() / 1000;
  show(wanted());
  refresh();

  return () => {
    clearInterval(timer);
    depth?.close();
    store.close();
    model.off("change:cards", refresh);
    model.off("change:seen", onSeen);
    window.removeEventListener("hashchange", onHash);
    scheme.removeEventListener("change", onScheme);
    listens.removeEventListener("keydown", onKey);
  };
}

export default { render: hearing(render) };
