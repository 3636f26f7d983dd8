// Where on the grid images were taken: a mark for each hole, or each square, in the colour of a quantity's median.

import { h } from "../common/dom.js";
import { median } from "./series.js";
import { count, number, withUnit } from "./words.js";

const TALLEST = 300;
const LEAST = 72;
const MARGIN = 16;
const SCALE = ["sunken", "accent"];

function groupBy(series, key) {
  const groups = new Map();
  for (let i = 0; i < series.time.length; i++) {
    const name = key(i);
    if (name === null) continue;
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(i);
  }
  return groups;
}

// {square, hole, places, x, y} of each mark; holes where these lie apart, squares else; in rows where no stage told.
function marksOf(series, grid) {
  const at = (places, name) => median(places.map((i) => series[name][i]));
  const collect = (key) => [...groupBy(series, key)].map(([, places]) => ({ square: series.square[places[0]], hole: series.hole[places[0]], places, x: at(places, "stage_x"), y: at(places, "stage_y") }));
  const squares = collect((i) => (Number.isFinite(series.square[i]) ? series.square[i] : null));
  const holes = collect((i) => (Number.isFinite(series.hole[i]) ? `${series.square[i]}:${series.hole[i]}` : null));
  const apart = (marks) => new Set(marks.filter((m) => m.x !== null && m.y !== null).map((m) => `${m.x.toFixed(2)}:${m.y.toFixed(2)}`)).size;
  const known = apart(squares) > 1 || apart(holes) > 1;
  const chosen = holes.length && (apart(holes) > 1.5 * squares.length || (!known && holes.length < 400)) ? holes : squares;
  const hasHoles = chosen === holes;
  if (!known) {
    const columns = Math.ceil(Math.sqrt(2.5 * chosen.length));
    chosen.forEach((mark, i) => Object.assign(mark, { x: i % columns, y: -Math.floor(i / columns) }));
  }
  const names = new Map((grid?.squares ?? []).map((square) => [square.square, square.name]));
  for (const mark of chosen) {
    const square = `Square ${names.get(mark.square) ?? mark.square}`;
    mark.words = hasHoles ? `${Number.isFinite(mark.square) ? `${square}, ` : ""}hole ${grid?.holes?.[mark.hole] ?? mark.hole}` : square;
  }
  return { marks: chosen.filter((mark) => mark.x !== null && mark.y !== null), known, holes: hasHoles };
}

export function makeGrid(shared) {
  const choice = h("select", { class: "fnb-input", "aria-label": "Colour by", onchange: () => draw() });
  const canvas = h("canvas", { role: "img" });
  const told = h("div", { class: "fnb-caption legend" });
  const tip = h("div", { class: "fnb-caption under", role: "status" });
  const element = h("section", { class: "grid", hidden: true }, h("div", { class: "section-head" }, h("h2", {}, "Grid"), h("label", { class: "fnb-row fnb-muted" }, "Colour", choice)), h("div", { class: "sheet" }, canvas, told, tip));
  let state = { marks: [], known: false, holes: false };
  let placed = [];
  let all = null;
  let quantities = {};

  function set(series, status) {
    all = series;
    quantities = status.quantities;
    state = status.grid ? marksOf(series, status.grid) : { marks: [] };
    element.hidden = state.marks.length < 2;
    if (element.hidden) return;
    const names = [...Object.keys(quantities).filter((name) => quantities[name].known), "usable"];
    if (choice.dataset.names !== names.join()) {
      const before = choice.value;
      choice.dataset.names = names.join();
      choice.replaceChildren(...names.map((name) => h("option", { value: name }, name === "usable" ? "Usable part" : quantities[name].label)));
      choice.value = names.includes(before) ? before : names.includes("ctf_fit_resolution") ? "ctf_fit_resolution" : names[0];
    }
    draw();
  }

  function valueOf(mark, name) {
    if (name !== "usable") return median(mark.places.map((i) => all.values[name][i]));
    const done = mark.places.filter((i) => all.state[i] !== "w");
    return done.length ? (100 * done.filter((i) => all.state[i] === "a").length) / done.length : null;
  }
  const describe = (name) => (name === "usable" ? { label: "Usable", unit: "%", precision: 0 } : quantities[name]);

  function draw() {
    const width = canvas.parentElement.clientWidth - 24;
    if (element.hidden || width <= 0 || !shared.seen(element)) return;
    const scale = window.devicePixelRatio || 1;
    const [xs, ys] = [state.marks.map((m) => m.x), state.marks.map((m) => m.y)];
    const span = (all) => Math.max(Math.max(...all) - Math.min(...all), 1e-6);
    const height = Math.round(Math.min(TALLEST, Math.max(LEAST, 2 * MARGIN + ((width - 2 * MARGIN) * span(ys)) / span(xs))));
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const name = choice.value;
    const q = describe(name);
    const values = state.marks.map((mark) => valueOf(mark, name));
    const sorted = values.filter((v) => v !== null).sort((a, b) => a - b);
    const low = sorted[Math.floor(0.02 * sorted.length)] ?? 0;
    const high = sorted[Math.min(sorted.length - 1, Math.floor(0.98 * sorted.length))] ?? 1;
    // as on the stage: the same scale both ways, y up
    const unit = Math.min((width - 2 * MARGIN) / span(xs), (height - 2 * MARGIN) / span(ys));
    const middle = (all) => (Math.max(...all) + Math.min(...all)) / 2;
    const size = Math.max(4, Math.min(22, 0.8 * Math.sqrt((width * height) / state.marks.length / 3)));
    const style = canvas.style;
    placed = state.marks.map((mark, i) => {
      const part = values[i] === null ? null : high > low ? Math.min(1, Math.max(0, (values[i] - low) / (high - low))) : 0.5;
      const x = width / 2 + unit * (mark.x - middle(xs));
      const y = height / 2 - unit * (mark.y - middle(ys));
      style.color = part === null ? "transparent" : `color-mix(in oklab, var(--fnb-${SCALE[1]}) ${Math.round(100 * part)}%, var(--fnb-${SCALE[0]}))`;
      context.fillStyle = getComputedStyle(canvas).color;
      style.color = "var(--fnb-edge)";
      context.strokeStyle = getComputedStyle(canvas).color;
      context.lineWidth = 0.75;
      context.beginPath();
      if (state.holes) context.arc(x, y, size / 2, 0, 7);
      else context.rect(x - size / 2, y - size / 2, size, size);
      context.fill();
      context.stroke();
      return { mark, value: values[i], x, y };
    });
    told.replaceChildren(h("span", {}, number(low, q.precision)), h("i", { class: "ramp" }), h("span", {}, withUnit(number(high, q.precision), q.unit)), h("span", {}, `${count(state.marks.length)} ${state.holes ? "holes" : "squares"}${state.known ? ", where the stage was" : ", in the order of recording"}`));
    canvas.setAttribute("aria-label", `${q.label} on the grid`);
  }

  canvas.addEventListener("pointermove", (event) => {
    const place = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - place.left, event.clientY - place.top];
    const away = (spot) => Math.hypot(spot.x - x, spot.y - y);
    const near = placed.reduce((best, spot) => (best === null || away(spot) < away(best) ? spot : best), null);
    const q = describe(choice.value);
    tip.textContent = near && away(near) < 24 ? `${near.mark.words}: ${q.label} ${withUnit(number(near.value, q.precision), q.unit)}, ${count(near.mark.places.length)} images` : "";
  });
  canvas.addEventListener("pointerleave", () => (tip.textContent = ""));

  return { element, set, draw };
}
