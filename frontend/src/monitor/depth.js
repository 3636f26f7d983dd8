// One microscope in depth: what there is to see of its session, over one time axis.

import { h } from "../common/dom.js";
import { iconButton, state } from "../common/icons.js";
import { ChevronLeft, ChevronRight, X } from "lucide";
import { head, headline } from "./glance.js";
import { makeGrid } from "./grid.js";
import * as lists from "./lists.js";
import { makePlot } from "./plot.js";
import { preview } from "./preview.js";
import { join, older } from "./series.js";
import { clock, moment } from "./words.js";

const RANGES = [["1 h", 1, "1"], ["3 h", 3, "3"], ["12 h", 12, "2"], ["Session", 0, "s"]];
const LEAST = 120; // s of the shortest range
const HOURS = 3;
const NEAR = 0.02; // of the range, beyond its begin: the margin of a plot

const MARKS = [["accepted", "M8 8m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0", "running"], ["flagged by a rule", "m8 3 5 9H3z", "warning"], ["failed", "m4 4 8 8m0-8-8 8", "failed"]];

function legend() {
  const marks = MARKS.map(([words, path, colour]) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("aria-hidden", "true");
    const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
    shape.setAttribute("d", path);
    shape.setAttribute(colour === "failed" ? "stroke" : "fill", `var(--fnb-${colour})`);
    svg.append(shape);
    return h("span", {}, svg, words);
  });
  return h("div", { class: "legend fnb-caption" }, ...marks, h("span", {}, "– – limit"), h("span", {}, "right: how often"), h("span", {}, "drag: a range of your own"), h("span", {}, `${matchMedia("(pointer: coarse)").matches ? "tap" : "point at"} an image to see it`));
}

export function makeDepth(place, store, { name, watched, onBack, cardOf, now }) {
  let status = null;
  let hours = HOURS;
  let free = null; // [begin, end] of a range of the viewer's own
  let series = null;
  let seriesKey = "";
  let gone = false;
  let pointed = null; // {plot, x}: where the pointer is, or the finger was last
  const seen = new Set();
  const plots = new Map();

  const watching = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) seen.add(entry.target);
        else seen.delete(entry.target);
      }
      drawAll();
    },
    { rootMargin: "200px" },
  );
  const sizing = new ResizeObserver(() => drawAll());

  const shared = {
    begin: 0,
    end: 1,
    at: null,
    seen: (element) => seen.has(element),
    narrow: () => place.clientWidth < 480,
    name: () => name,
    select(begin, end) {
      free = end - begin < LEAST ? [(begin + end - LEAST) / 2, (begin + end + LEAST) / 2] : [begin, end];
      setRange();
    },
    reset() {
      free = null;
      setRange();
    },
    point(time, plot, event) {
      shared.at = time;
      pointed = time === null ? null : { plot, x: event.clientX };
      showTip();
      drawSoon();
    },
  };

  const top = h("div", { class: "depth-head" });
  const back = onBack ? h("button", { type: "button", class: "fnb-button back", onclick: onBack }, "All microscopes") : null;
  const ranges = h("div", { class: "ranges", role: "group", "aria-label": "Range" });
  const own = h("span", { class: "own" });
  const plotting = h("div", { class: "plots" });
  const before = h("div", { class: "before" });
  const tip = h("div", { class: "tip", hidden: true });
  const over = h("section", { hidden: true }, h("div", { class: "section-head sticky" }, h("h2", {}, "Over time"), h("div", { class: "fnb-row" }, own, ranges)), legend(), plotting);
  const grid = makeGrid(shared);
  const after = h("div", { class: "after" });
  const dialog = h("dialog", { class: "larger", onclick: () => dialog.close() });
  const wrong = h("div", {});
  const element = h("div", { class: "depth" }, back, top, wrong, before, over, grid.element, after, tip, dialog);
  place.append(element);
  watching.observe(grid.element);

  const buttons = RANGES.map(([words, value, key]) =>
    h("button", { type: "button", class: "fnb-button", title: `${words} (${key})`, onclick: () => chooseHours(value) }, words),
  );
  ranges.append(...buttons);

  function chooseHours(value) {
    hours = value;
    free = null;
    setRange();
  }

  function setRange() {
    if (!status || !series) return;
    const first = series.past.time[0] ?? series.time[0] ?? status.made_at - 3600;
    const session = status.session ? Math.max(first, status.session.begin) : first;
    if (free) [shared.begin, shared.end] = free;
    else {
      shared.end = status.made_at;
      shared.begin = hours ? Math.max(shared.end - 3600 * hours, Math.min(first - 60, shared.end - 600)) : Math.min(session - 30, shared.end - 600);
    }
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(!free && RANGES[i][1] === hours)));
    const inside = !free ? [] : [iconButton(ChevronLeft, "Earlier (←)", () => move(-0.5)), h("b", { class: "fnb-number" }, `${moment(shared.begin)}–${clock(shared.end)}`), iconButton(ChevronRight, "Later (→)", () => move(0.5)), iconButton(X, "Follow again (Esc)", shared.reset)];
    own.replaceChildren(...inside);
    drawAll();
  }

  function move(part) {
    const width = shared.end - shared.begin;
    free = [shared.begin + part * width, shared.end + part * width];
    setRange();
  }

  function zoom(factor) {
    const [middle, half] = [(shared.begin + shared.end) / 2, ((shared.end - shared.begin) / 2) * factor];
    shared.select(middle - half, middle + half);
  }

  let waiting = 0;
  function drawSoon() {
    waiting ||= requestAnimationFrame(() => {
      waiting = 0;
      for (const plot of plots.values()) plot.draw();
    });
  }
  function drawAll() {
    drawSoon();
    grid.draw();
  }

  function showTip() {
    // what was pointed at leaves the plots on the left as the night goes on
    const point = pointed && status && shared.at >= shared.begin - NEAR * (shared.end - shared.begin) ? pointed.plot.pointAt(shared.at) : null;
    tip.hidden = point === null;
    if (point === null) return;
    tip.replaceChildren(h("b", { class: "fnb-number" }, point.value), h("span", {}, `${moment(point.time, true)}, ${point.state}`), ...preview(store, name, status.previews, point.id));
    const area = element.getBoundingClientRect();
    const wide = tip.offsetWidth;
    const x = pointed.x - area.left;
    tip.style.left = `${Math.min(Math.max(0, x + wide + 24 > area.width ? x - wide - 16 : x + 16), Math.max(0, area.width - wide))}px`;
    tip.style.top = `${pointed.plot.canvas.getBoundingClientRect().top - area.top + 4}px`;
  }

  // A finger leaves the picture where it was; a tap elsewhere takes it away.
  const onDown = (event) => pointed && !event.composedPath().includes(pointed.plot.canvas) && shared.point(null);
  document.addEventListener("pointerdown", onDown, true);

  function enlarge(picture, source) {
    dialog.replaceChildren(h("img", { src: source, alt: picture.label }), h("div", { class: "fnb-caption" }, [picture.label, picture.blurred_to && `blurred to ${picture.blurred_to} Å`].filter(Boolean).join(", ")));
    dialog.showModal();
  }

  // Put sections into a place, and those that did not change stay as they are: a viewer may be reading them.
  const kept = new Map();
  function put(where, parts) {
    const made = [];
    for (const [key, content, make] of parts) {
      const text = JSON.stringify(content);
      const old = kept.get(key);
      if (old && old.text === text) made.push(old.element);
      else {
        const fresh = make();
        kept.set(key, { text, element: fresh });
        made.push(fresh);
      }
    }
    const wanted = made.filter(Boolean);
    if (wanted.length !== where.childNodes.length || wanted.some((part, i) => part !== where.childNodes[i])) where.replaceChildren(...wanted);
  }

  function show() {
    status = store.status(name) ?? null;
    if (status === null) {
      wrong.replaceChildren(h("div", { class: "fnb-empty" }, "Nothing is known of this session yet. It appears as soon as it can be read."));
      return;
    }
    try {
      showStatus();
      showTip();
      wrong.replaceChildren();
      gone = false;
    } catch (error) {
      if (!gone) wrong.replaceChildren(h("div", { class: "fnb-message", dataset: { kind: "failed" }, role: "alert" }, state("failed", ""), h("div", {}, `What was published cannot be shown (${error.message}). Publish it again with this version.`)));
      gone = true;
    }
  }

  function showStatus() {
    const files = status.pictures.map((p) => p.file).filter(Boolean);
    const pieces = status.series.pieces.map((piece) => piece.file);
    const medians = status.series.older ? [status.series.older.file] : [];
    const have = store.need(name, [...pieces, ...medians, ...files]);
    const { counts, speed, disk } = status;
    const arrived = files.map((file) => Boolean(store.picture(file)));
    put(before, [["alerts", status.alerts, () => lists.alerts(status)], ["numbers", [counts, speed, disk], () => lists.numbers(status)]]);
    put(after, [
      ["pictures", [status.pictures, status.pictures_of, arrived], () => lists.pictures(status, store.picture, enlarge)],
      ["failures", status.failures, () => lists.failures(status)],
      ["hours", status.windows, () => lists.hours(status)],
      ["past", [status.history, counts.images > 0], () => lists.past(status)],
    ]);
    over.hidden = counts.images === 0;
    const names = Object.keys(status.quantities);
    const key = [...pieces, ...medians].join();
    if (have || !series) {
      const there = pieces.map((file) => store.data(file));
      if (there.every(Boolean) && key !== seriesKey) {
        series = join(there, names);
        series.past = older(medians.length ? store.data(medians[0]) : null, names);
        seriesKey = key;
      }
    }
    if (series) fillPlots(names);
  }

  function plotOf(key) {
    if (!plots.has(key)) {
      const plot = makePlot(key, shared);
      plots.set(key, plot);
      plotting.append(plot.element);
      watching.observe(plot.element);
      sizing.observe(plot.element);
    }
    return plots.get(key);
  }

  function fillPlots(names) {
    const known = names.filter((key) => status.quantities[key].known > 0 && series.values[key]);
    for (const key of [...watched.filter((key) => known.includes(key)), "throughput", ...known.filter((key) => !watched.includes(key))]) {
      const plot = plotOf(key);
      if (key === "throughput") plot.set({ label: "Throughput", unit: "per 10 min", caption: "Images in ten minutes", precision: 0 }, { time: [], state: [], id: [], values: [], older: { time: [], values: [] }, bars: status.throughput });
      else plot.set(status.quantities[key], { time: series.time, state: series.state, id: series.id, values: series.values[key], older: { time: series.past.time, values: series.past.values[key] ?? [] }, bars: null });
    }
    for (const [key, plot] of plots) plot.element.hidden = key !== "throughput" && !known.includes(key);
    grid.set(series, status);
    setRange();
  }

  function tick() {
    const card = cardOf();
    if (!card) return;
    const { shown, parts } = head(card, store, now(), { title: true });
    const text = JSON.stringify([{ ...shown, alerts: null }, headline(shown, now()), shown.picture ? store.picture(shown.picture.file) : ""]);
    const age = top.querySelector(".age b");
    if (top.dataset.key === text && age) {
      age.textContent = parts.find((part) => part?.classList.contains("body"))?.querySelector(".age b").textContent ?? "";
    } else {
      top.dataset.key = text;
      top.dataset.level = shown.level;
      // alerts and values have places of their own below
      top.replaceChildren(...parts.filter((part) => part && !part.classList.contains("values") && !part.classList.contains("alerts")));
    }
  }

  const KEYS = { ArrowLeft: () => move(-0.5), ArrowRight: () => move(0.5), "+": () => zoom(0.5), "-": () => zoom(2), Escape: () => (free ? shared.reset() : onBack?.()) };
  for (const [, value, key] of RANGES) KEYS[key] = () => chooseHours(value);

  return {
    element,
    show,
    tick,
    redraw: drawAll,
    key: (key) => KEYS[key] ?? null,
    close() {
      watching.disconnect();
      sizing.disconnect();
      cancelAnimationFrame(waiting);
      document.removeEventListener("pointerdown", onDown, true);
      element.remove();
    },
  };
}
