// A quantity over time on a canvas: points by state, limits, medians of what is older, and how often each value came.

import { Ellipsis } from "lucide";

import { h } from "../common/dom.js";
import { iconButton } from "../common/icons.js";
import { openMenu } from "./menu.js";
import { ticks, timeTicks, valueRange, within } from "./series.js";
import { clock, moment, number, withUnit } from "./words.js";

const HEIGHT = 156;
const TOP = 6;
const BOTTOM = 20;
const BINS = 24;
const NEAR = 24; // px within which a point is under the pointer

const WORDS = { a: "accepted", f: "flagged", w: "waiting", x: "failed" };

function colours(element) {
  const style = getComputedStyle(element);
  // what the browser makes of a variable with two values is told by a property of its own
  const probe = h("span");
  element.append(probe);
  const of = (name) => {
    probe.style.color = `var(--fnb-${name})`;
    return getComputedStyle(probe).color;
  };
  const found = { ink: of("ink"), muted: of("muted"), line: of("line"), surface: of("surface"), a: of("running"), f: of("warning"), w: of("muted"), x: of("failed"), beyond: of("failed-ground"), accent: of("accent"), chosen: of("chosen"), font: `12px ${style.fontFamily}` };
  probe.remove();
  return found;
}

export function drawMark(context, state, x, y, r) {
  context.beginPath();
  if (state === "f") {
    context.moveTo(x, y - r * 1.3);
    context.lineTo(x + r * 1.2, y + r);
    context.lineTo(x - r * 1.2, y + r);
    context.fill();
  } else if (state === "w") {
    context.arc(x, y, r, 0, 7);
    context.stroke();
  } else if (state === "x") {
    context.moveTo(x - r, y - r);
    context.lineTo(x + r, y + r);
    context.moveTo(x + r, y - r);
    context.lineTo(x - r, y + r);
    context.stroke();
  } else {
    context.arc(x, y, r, 0, 7);
    context.fill();
  }
}

// shared: { begin, end, at (time under the pointer or null), select(begin, end), point(time, plot or null), reset() }
export function makePlot(name, shared) {
  const caption = h("span", { class: "caption" });
  const readout = h("span", { class: "readout fnb-number" });
  const share = h("span", { class: "share fnb-caption" });
  const canvas = h("canvas", { role: "img" });
  const more = iconButton(Ellipsis, "Limits, picture, table", (event) => openMenu(event.currentTarget, entries()));
  const bar = h("div", { class: "plot-head" }, caption, share, readout, more);
  const element = h("figure", { class: "plot", dataset: { name } }, bar, canvas);
  let data = { time: [], state: [], id: [], values: [], older: { time: [], values: [] }, bars: null };
  let quantity = { label: name, unit: "", precision: 2, low: null, high: null };
  let own = null; // limits of this viewer alone: {low, high}
  let range = [0, 1];
  let drag = null;

  const limits = () => own ?? { low: quantity.low, high: quantity.high };
  const sides = () => ({ left: 54, right: shared.narrow() ? 36 : 56 });
  const said = (value) => withUnit(number(value, quantity.precision), quantity.unit);

  function set(nextQuantity, nextData) {
    quantity = nextQuantity;
    data = nextData;
    draw();
  }

  function entries() {
    const both = limits();
    const inputs = ["low", "high"].map((which) =>
      h("input", { class: "fnb-input", type: "number", step: "any", value: both[which] ?? "", "aria-label": which === "low" ? "Lower limit" : "Upper limit", placeholder: "none" }),
    );
    const apply = () => {
      const [low, high] = inputs.map((input) => (input.value === "" ? null : Number(input.value)));
      own = { low, high };
      draw();
    };
    for (const input of inputs) input.addEventListener("input", apply);
    const reset = () => {
      own = null;
      draw();
    };
    const form = data.bars
      ? []
      : [h("div", { class: "limits" }, h("span", { class: "fnb-caption" }, `Limits for you alone${quantity.unit ? ` (${quantity.unit})` : ""}`), h("div", { class: "fnb-row" }, inputs[0], h("span", {}, "to"), inputs[1])), { words: "Limits of the session", run: reset }, null];
    return [...form, { words: "Save as PNG", run: savePicture }, { words: "Save as CSV", run: saveTable }];
  }

  // drawing

  const across = (t, box) => box.left + (box.width * (t - shared.begin)) / (shared.end - shared.begin);
  const down = (v, box) => box.top + box.height * (1 - (Math.min(Math.max(v, range[0]), range[1]) - range[0]) / (range[1] - range[0]));

  function boxOf(width, height) {
    const { left, right } = sides();
    return { left, top: TOP, width: Math.max(width - left - right, 10), height: height - TOP - BOTTOM, right };
  }

  function draw() {
    const width = element.clientWidth;
    if (!width || !shared.seen(element)) return;
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(HEIGHT * scale);
    canvas.style.height = `${HEIGHT}px`;
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    paint(context, width, HEIGHT, colours(element));
    tell();
  }

  function paint(context, width, height, look) {
    const box = boxOf(width, height);
    context.clearRect(0, 0, width, height);
    context.font = look.font;
    const [from, to] = within(data.time, shared.begin, shared.end);
    if (data.bars) range = [0, Math.max(4, 1.1 * Math.max(0, ...data.bars.recorded.filter((_, i) => barInside(i)), ...data.bars.processed.filter((_, i) => barInside(i))))];
    else range = valueRange([...data.values.slice(from, to), ...data.older.values.filter((_, i) => data.older.time[i] >= shared.begin && data.older.time[i] <= shared.end)], [limits().low, limits().high]);
    axes(context, box, look);
    context.save();
    context.beginPath();
    context.rect(box.left, box.top - 4, box.width, box.height + 8);
    context.clip();
    if (data.bars) bars(context, box, look);
    else {
      medians(context, box, look);
      points(context, box, look, from, to);
    }
    selection(context, box, look);
    context.restore();
    if (!data.bars) {
      boundaries(context, box, look);
      spread(context, box, look, from, to);
    }
    if (data.time.length === 0 && !data.bars) {
      context.fillStyle = look.muted;
      context.textAlign = "center";
      context.fillText("no values yet", box.left + box.width / 2, box.top + box.height / 2);
    }
  }

  const barInside = (i) => data.bars.begin + (i + 1) * data.bars.seconds >= shared.begin && data.bars.begin + i * data.bars.seconds <= shared.end;

  function axes(context, box, look) {
    const { low, high } = limits();
    context.fillStyle = look.beyond;
    if (!data.bars && low !== null && low > range[0]) context.fillRect(box.left, down(low, box), box.width, box.top + box.height - down(low, box));
    if (!data.bars && high !== null && high < range[1]) context.fillRect(box.left, box.top, box.width, down(high, box) - box.top);
    context.strokeStyle = look.line;
    context.lineWidth = 1;
    context.fillStyle = look.muted;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const { step, values } = ticks(range[0], range[1], 3);
    const digits = Math.max(0, Math.min(4, -Math.floor(Math.log10(step) + 1e-9)));
    for (const value of values) {
      const y = Math.round(down(value, box)) + 0.5;
      line(context, box.left, y, box.left + box.width, y);
      context.fillText(number(value, digits), box.left - 6, y);
    }
    context.textAlign = "center";
    context.textBaseline = "top";
    const times = timeTicks(shared.begin, shared.end, Math.max(2, Math.floor(box.width / 72)));
    for (const t of times.values) {
      const x = Math.round(across(t, box)) + 0.5;
      line(context, x, box.top + box.height, x, box.top + box.height + 4);
      const words = times.step >= 86400 ? new Date(1000 * t).toLocaleDateString([], { day: "numeric", month: "short" }) : clock(t);
      context.fillText(words, Math.min(Math.max(x, box.left + 14), box.left + box.width - 12), box.top + box.height + 6);
    }
    line(context, box.left, box.top + box.height + 0.5, box.left + box.width, box.top + box.height + 0.5);
  }

  function line(context, x0, y0, x1, y1) {
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
    context.stroke();
  }

  function points(context, box, look, from, to) {
    const many = (to - from) / box.width;
    const r = many > 4 ? 1.1 : many > 1 ? 1.6 : 2.2;
    context.lineWidth = 1.25;
    // the many first, so that what needs a look lies above
    for (const state of ["a", "w", "f", "x"]) {
      context.fillStyle = context.strokeStyle = look[state];
      context.globalAlpha = state === "a" && many > 1 ? 0.6 : 1;
      for (let i = from; i < to; i++) {
        if (data.state[i] !== state) continue;
        const value = data.values[i];
        const x = across(data.time[i], box);
        if (Number.isFinite(value)) drawMark(context, state, x, down(value, box), state === "a" ? r : Math.max(r, 2.2) + 0.4);
        else if (state === "x") drawMark(context, "x", x, box.top + box.height - 4, 2.5);
      }
    }
    context.globalAlpha = 1;
  }

  function medians(context, box, look) {
    context.strokeStyle = look.a;
    context.lineWidth = 1.5;
    context.beginPath();
    let pen = false;
    data.older.values.forEach((value, i) => {
      if (!Number.isFinite(value)) {
        pen = false;
        return;
      }
      const x = across(data.older.time[i], box);
      if (pen) context.lineTo(x, down(value, box));
      else context.moveTo(x, down(value, box));
      pen = true;
    });
    context.stroke();
  }

  function bars(context, box, look) {
    const { begin, seconds, recorded, processed } = data.bars;
    for (let i = 0; i < recorded.length; i++) {
      if (!barInside(i)) continue;
      const x0 = across(begin + i * seconds, box);
      const x1 = across(begin + (i + 1) * seconds, box);
      const bottom = box.top + box.height;
      context.fillStyle = look.a;
      context.globalAlpha = 0.4;
      context.fillRect(x0, down(recorded[i], box), Math.max(x1 - x0 - 1, 1), bottom - down(recorded[i], box));
      context.globalAlpha = 1;
      context.strokeStyle = look.ink;
      context.lineWidth = 1.5;
      line(context, x0, down(processed[i], box), x1, down(processed[i], box));
    }
  }

  function boundaries(context, box, look) {
    const { low, high } = limits();
    context.strokeStyle = own ? look.accent : look.x;
    context.lineWidth = 1.25;
    context.setLineDash([5, 4]);
    for (const value of [low, high]) {
      if (value === null || value < range[0] || value > range[1]) continue;
      const y = Math.round(down(value, box)) + 0.5;
      line(context, box.left, y, box.left + box.width, y);
    }
    context.setLineDash([]);
    // which value the line stands for, where no tick tells it
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const value of [low, high]) {
      if (value === null || value < range[0] || value > range[1]) continue;
      const words = number(value, quantity.precision).replace(/\.0+$/, "");
      const [x, y] = [box.left + box.width - 3, down(value, box) + (down(value, box) > box.top + 16 ? -8 : 9)];
      context.fillStyle = look.surface;
      context.fillRect(x - context.measureText(words).width - 2, y - 7, context.measureText(words).width + 4, 13);
      context.fillStyle = own ? look.accent : look.x;
      context.fillText(words, x, y);
    }
  }

  function spread(context, box, look, from, to) {
    const accepted = new Array(BINS).fill(0);
    const others = new Array(BINS).fill(0);
    for (let i = from; i < to; i++) {
      const value = data.values[i];
      if (!Number.isFinite(value)) continue;
      const part = (Math.min(Math.max(value, range[0]), range[1]) - range[0]) / (range[1] - range[0]);
      const bin = Math.min(BINS - 1, Math.floor(part * BINS));
      if (data.state[i] === "a") accepted[bin]++;
      else others[bin]++;
    }
    const most = Math.max(1, ...accepted.map((n, i) => n + others[i]));
    const left = box.left + box.width + 4;
    const room = box.right - 8;
    const tall = box.height / BINS;
    for (let i = 0; i < BINS; i++) {
      const y = box.top + box.height - (i + 1) * tall;
      const first = (room * accepted[i]) / most;
      context.globalAlpha = 0.55;
      context.fillStyle = look.a;
      context.fillRect(left, y + 0.5, first, tall - 1);
      context.globalAlpha = 1;
      context.fillStyle = look.f;
      context.fillRect(left + first, y + 0.5, (room * others[i]) / most, tall - 1);
    }
  }

  function selection(context, box, look) {
    if (drag !== null && Math.abs(drag.x - drag.from) > 4) {
      context.fillStyle = look.accent;
      context.globalAlpha = 0.2;
      context.fillRect(Math.min(drag.from, drag.x), box.top, Math.abs(drag.x - drag.from), box.height);
      context.globalAlpha = 1;
    }
    if (shared.at === null) return;
    const x = Math.round(across(shared.at, box)) + 0.5;
    context.strokeStyle = look.muted;
    context.lineWidth = 1;
    line(context, x, box.top, x, box.top + box.height);
    const near = nearest(shared.at);
    if (near !== null && !data.bars && Number.isFinite(data.values[near])) {
      context.strokeStyle = look.ink;
      context.lineWidth = 1.5;
      context.beginPath();
      context.arc(across(data.time[near], box), down(data.values[near], box), 5, 0, 7);
      context.stroke();
    }
  }

  // words

  function nearest(t) {
    const [place] = within(data.time, t, t);
    let best = null;
    for (const i of [place - 1, place]) if (i >= 0 && i < data.time.length && (best === null || Math.abs(data.time[i] - t) < Math.abs(data.time[best] - t))) best = i;
    return best;
  }

  function tell() {
    caption.replaceChildren(quantity.label, quantity.unit ? h("span", { class: "unit" }, ` ${quantity.unit}`) : "");
    if (data.bars) {
      share.textContent = "recorded ▮ processed —";
      const i = shared.at === null ? data.bars.recorded.length - 1 : Math.floor((shared.at - data.bars.begin) / data.bars.seconds);
      readout.textContent = data.bars.recorded[i] === undefined ? "–" : `${data.bars.recorded[i]} / ${data.bars.processed[i]}`;
      canvas.setAttribute("aria-label", quantity.label);
      return;
    }
    const [from, to] = within(data.time, shared.begin, shared.end);
    const { low, high } = limits();
    let known = 0;
    let beyond = 0;
    for (let i = from; i < to; i++) {
      const value = data.values[i];
      if (!Number.isFinite(value)) continue;
      known++;
      if ((low !== null && value < low) || (high !== null && value > high)) beyond++;
    }
    share.textContent = beyond ? `${beyond} of ${known} outside` : own ? "none outside" : "";
    share.dataset.beyond = beyond ? "yes" : "no";
    const near = shared.at === null ? null : nearest(shared.at);
    const value = near === null ? quantity.present : data.values[near];
    readout.textContent = number(value, quantity.precision);
    readout.title = near === null ? "Median of the last 15 images" : moment(data.time[near], true);
    const told = low === null && high === null ? "none" : `${low === null ? "" : `from ${said(low)} `}${high === null ? "" : `to ${said(high)}`}`.trim();
    canvas.setAttribute("aria-label", `${quantity.label} over time, ${known} values; last 15 images ${said(quantity.present)}; limits ${told}`);
  }

  // What is under the pointer, for the tip beside it.
  function pointAt(t) {
    const i = nearest(t);
    if (i === null || data.bars) return null;
    return { time: data.time[i], id: data.id[i], value: Number.isFinite(data.values[i]) ? said(data.values[i]) : "no value", label: quantity.label, state: WORDS[data.state[i]] };
  }

  // the hand

  const timeAt = (x) => {
    const box = boxOf(element.clientWidth, HEIGHT);
    return shared.begin + ((x - box.left) / box.width) * (shared.end - shared.begin);
  };
  const placeOf = (event) => event.clientX - canvas.getBoundingClientRect().left;

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    drag = { from: placeOf(event), x: placeOf(event) };
    shared.point(timeAt(drag.x), api, event);
  });
  canvas.addEventListener("pointermove", (event) => {
    const x = placeOf(event);
    if (drag !== null) drag.x = x;
    const inside = x >= sides().left - NEAR && x <= element.clientWidth - sides().right + NEAR;
    shared.point(inside ? timeAt(x) : null, api, event);
  });
  canvas.addEventListener("pointerup", () => {
    const done = drag;
    drag = null;
    if (done !== null && Math.abs(done.x - done.from) > 8) {
      const both = [timeAt(done.from), timeAt(done.x)].sort((a, b) => a - b);
      shared.select(...both);
    }
  });
  canvas.addEventListener("pointercancel", () => {
    drag = null;
    shared.point(null, api);
  });
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && drag === null && shared.point(null, api));
  canvas.addEventListener("dblclick", () => shared.reset());

  // what is taken away

  function save(content, suffix) {
    const link = h("a", { href: URL.createObjectURL(content), download: `${shared.name()} ${name}.${suffix}`.replace(/[^\w.-]+/g, "_") });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function savePicture() {
    const [width, height, scale, title] = [960, 320, 2, 28];
    const sheet = h("canvas");
    sheet.width = width * scale;
    sheet.height = (height + title) * scale;
    const context = sheet.getContext("2d");
    context.scale(scale, scale);
    const look = colours(element);
    context.fillStyle = look.surface;
    context.fillRect(0, 0, width, height + title);
    const inner = h("canvas");
    inner.width = width * scale;
    inner.height = height * scale;
    const plotting = inner.getContext("2d");
    plotting.scale(scale, scale);
    paint(plotting, width, height, look);
    context.drawImage(inner, 0, title, width, height);
    context.fillStyle = look.ink;
    context.font = look.font.replace("12px", "14px");
    context.textBaseline = "middle";
    context.fillText(`${shared.name()}: ${quantity.caption ?? quantity.label}, ${moment(shared.begin)} to ${moment(shared.end)}`, 12, title / 2 + 2);
    sheet.toBlob((blob) => save(blob, "png"));
  }

  function saveTable() {
    const iso = (t) => new Date(1000 * t).toISOString();
    let lines;
    if (data.bars) {
      lines = ["begin,recorded,processed", ...data.bars.recorded.map((n, i) => [iso(data.bars.begin + i * data.bars.seconds), n, data.bars.processed[i]].join(","))];
    } else {
      const [from, to] = within(data.time, shared.begin, shared.end);
      lines = [`time,exposure,state,"${(quantity.caption ?? name).replaceAll('"', '""')}"`];
      for (let i = from; i < to; i++) lines.push([iso(data.time[i]), data.id[i], WORDS[data.state[i]], Number.isFinite(data.values[i]) ? data.values[i] : ""].join(","));
    }
    save(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }), "csv");
  }

  const api = { element, canvas, name, set, draw, pointAt };
  return api;
}
