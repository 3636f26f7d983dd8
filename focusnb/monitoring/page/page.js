"use strict";
(() => {
  const SCHEMA = 1;
  const DRAWN = ":drawn";
  const RANGES = [["1 h", 1], ["3 h", 3], ["12 h", 12], ["Session", 0]];
  const $ = (id) => document.getElementById(id);
  const pieces = new Map(); // file -> its data: what is past is fetched once
  const WIDE = 176; // px of a preview
  const WORDS = { a: "accepted", f: "flagged", w: "waiting", x: "failed" };
  const PATIENCE = 30000; // ms until a file that does not come is given up, and all is asked for again
  const GONE = 3600; // s without news after which something is wrong, whatever the session was
  const APART = 60; // s between two clocks from which one of them is wrong
  const FROM_DISK = location.protocol === "file:"; // from where a browser reads no other file
  const DISK = "Opened from a disk, this page can show nothing: open it from a web server, such as 'python -m http.server' in its folder";
  const REST = 120; // ms that the pointer rests until a sheet of previews is fetched: what it passes over is not
  const AGAIN = 10000; // ms until a sheet that could not be had is tried again
  const MOST_SHEETS = 24; // that are held at once, each half a megabyte when it is drawn
  const sheets = new Map(); // file -> the picture of a sheet of previews, or null until it is here; the last used last
  let resting = null;
  let pointed = null; // {name, x, time}: the plot and the time under the pointer, or where the finger was last
  let points = { time: [], state: [], id: [] }, views = new Map();
  let ahead = 0; // s by which the server's clock is ahead of this device's, which may be wrong
  let newsAt = 0, lookedAt = 0; // s, by the server's clock: when the state that is shown came, and the last look at it
  let status = null, hours = 3, documents = null, reached = true, waiting = null;

  // words

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null && child !== undefined)); // text stays text
    return made;
  }
  const clock = (t) => new Date(1000 * t).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  function moment(t) {
    const date = new Date(1000 * t);
    const today = date.toDateString() === new Date().toDateString();
    return today ? clock(t) : `${date.toLocaleDateString([], { day: "numeric", month: "short" })} ${clock(t)}`;
  }
  function duration(s) {
    if (s < 100) return `${Math.max(0, Math.round(s))} s`;
    if (s < 6000) return `${Math.round(s / 60)} min`;
    return s < 172800 ? `${(s / 3600).toFixed(1)} h` : `${Math.round(s / 86400)} days`;
  }
  function number(value, precision) {
    if (value === null || value === undefined) return "–";
    return value.toFixed(precision === null || precision === undefined ? 2 : precision);
  }
  function bytes(value) {
    return value >= 1e12 ? `${(value / 1e12).toFixed(1)} TB` : `${(value / 1e9).toFixed(0)} GB`;
  }
  const show = (id, there) => { $(id).hidden = !there; };

  // parts of the page

  function showState() {
    const now = Date.now() / 1000 + ahead, quiet = now - newsAt, stale = status && quiet > status.valid_until - status.made_at;
    show("stale", stale || !reached);
    if (status && (stale || !reached)) {
      const last = `last update ${moment(status.made_at)}`;
      const what = stale ? `No news for ${duration(quiet)}` : "Cannot be reached";
      // why matters to whoever holds the phone: here it is its own network
      const why = !stale ? "it is tried again" : reached ? "nothing newer is published" : "it cannot be reached now";
      $("stale-text").replaceChildren(what, element("small", {}, `${last[0].toUpperCase()}${last.slice(1)}; ${why}`));
      $("stale").dataset.level = stale && quiet > GONE ? "bad" : "warning";
    } else if (!reached) {
      $("stale-text").textContent = FROM_DISK ? DISK : "The session cannot be reached; it is tried again";
    }
    show("state", status || reached);
    document.querySelector("main").classList.toggle("old", Boolean(stale)); // numbers of hours ago look like it
    if (!status) return;
    const band = $("state"), state = status.state;
    const open = status.alerts.filter((alert) => alert.recovered === null), severe = open.some((alert) => alert.severe);
    // as monitoring.microscopes.glance_at
    const level = severe ? "bad" : open.length && ["ok", "idle"].includes(state.level) ? "warning" : state.level;
    band.dataset.level = stale ? "idle" : level;
    const age = state.last_image === null ? "" : ` · last image ${duration(quiet + status.made_at - state.last_image)} ago`;
    const told = stale ? `It was: ${state.sentence}` : state.sentence + (state.word === "recording" || state.word === "failing" ? age : "");
    // what nobody has seen to yet, while images come
    const wrong = !stale && state.word === "recording" ? news() : [];
    const headline = wrong.length ? wrong[0].sentence.split(": ")[0] + (wrong.length > 1 ? `, and ${wrong.length - 1} more` : "") : "";
    if (headline) $("state-text").replaceChildren(headline, element("small", {}, told));
    else $("state-text").textContent = told;
  }

  // Alerts that nobody has seen to, severe ones first.
  const news = () => status.alerts.filter((alert) => alert.recovered === null && alert.state === "new").sort((a, b) => Number(b.severe) - Number(a.severe));

  function showNumbers() {
    const { counts, speed, disk, quantities } = status, told = [];
    told.push([counts.images, "images"], [counts.usable, "usable"], [Math.round(speed.recording), "recorded / h"], [Math.round(speed.processing), "processed / h"]);
    told.push([counts.waiting, speed.hours_to_catch_up ? `waiting, ${duration(3600 * speed.hours_to_catch_up)} of work` : "waiting"]);
    if (disk) {
      const left = disk.hours_left === null ? `${bytes(disk.free)} free` : `until the disk is full (${bytes(disk.free)})`;
      told.push([disk.hours_left === null ? `${((100 * disk.free) / disk.total).toFixed(0)} %` : duration(3600 * disk.hours_left), left]);
      if (disk.images_left !== null) told.push([disk.images_left, `images fit, ${disk.usable_left === null ? "–" : disk.usable_left} usable`]);
    }
    for (const q of Object.values(quantities)) if (q.present !== null && told.length < 12) told.push([number(q.present, q.precision), `${q.caption}, last 15 images`]);
    $("numbers").replaceChildren(...told.map(([value, caption]) => element("div", { class: "number" }, element("b", {}, String(value)), element("span", {}, caption))));
  }

  function showAlerts() {
    show("alerts-section", status.alerts.length > 0);
    $("alerts").replaceChildren(...status.alerts.map((alert) => {
      const over = alert.recovered !== null;
      const level = over ? "idle" : alert.severe ? "bad" : "warning";
      const words = { new: "New", acknowledged: "Acknowledged", muted: "Muted", recovered: "Recovered" };
      const note = `${words[alert.state]}${over ? ` ${clock(alert.recovered)}` : ""}${alert.undelivered ? " · the message could not be delivered" : ""}`;
      return element("li", { "data-level": level }, element("span", { class: "shape", "aria-hidden": "true" }),
        element("div", {}, alert.sentence, element("small", {}, over ? note : `${note}. ${alert.hint}`)), element("span", { class: "when" }, moment(alert.began)));
    }));
  }

  function showPictures() {
    show("pictures-section", status.pictures.length > 0);
    if (!status.pictures.length) return;
    const of = status.pictures_of;
    $("pictures-of").textContent = `${of.name ? `${of.name}, ` : ""}recorded ${moment(of.time)}`;
    const key = status.pictures.map((p) => p.file || p.missing).join();
    if ($("pictures").dataset.key === key) return;
    $("pictures").dataset.key = key;
    $("pictures").replaceChildren(...status.pictures.map((picture) => {
      const view = picture.file ? element("img", { src: picture.file, alt: picture.label, width: picture.width, height: picture.height, loading: "lazy" }) : element("div", { class: "missing" }, picture.missing);
      const note = picture.blurred_to ? `blurred to ${picture.blurred_to} Å` : "";
      return element("figure", {}, view, element("figcaption", {}, picture.label, element("span", { class: "muted" }, note)));
    }));
  }

  function rows(id, head, body) {
    const line = (tag, cells) => element("tr", {}, ...cells.map((cell) => element(tag, {}, String(cell))));
    $(id).replaceChildren(line("th", head), ...body.map((cells) => line("td", cells)));
  }

  function showTables() {
    show("windows-section", status.counts.images > 0);
    rows("windows", ["Last", "recorded", "processed", "usable", "failed"], status.windows.map((w) => [`${w.hours} h`, w.images, w.processed, w.usable, w.failed]));
    const failures = status.failures || [];
    show("failures-section", failures.length > 0);
    $("failures").replaceChildren(...failures.map((f) => element("li", {}, element("span", {}, `${f.count} ×`), element("div", {}, f.reason), element("span", { class: "when" }, moment(f.last)))));
    const history = status.history;
    show("history-section", Boolean(history));
    if (history) {
      const known = Object.entries(history.quantities).filter(([name]) => status.quantities[name]);
      rows("history", ["", "now", "usual", "from", "to"], known.map(([name, h]) => {
        const q = status.quantities[name];
        return [q.caption, ...[h.present, h.median, h.low, h.high].map((value) => number(value, q.precision))];
      }));
    }
    showGrid();
  }

  function showGrid() {
    const grid = status.grid;
    show("grid-section", Boolean(grid && grid.squares.length));
    if (!grid || !grid.squares.length) return;
    const names = Object.keys(status.quantities).filter((name) => grid.squares.some((s) => s.medians[name] !== undefined));
    const choice = $("grid-by");
    if (choice.options.length !== names.length) choice.replaceChildren(...names.map((name) => element("option", { value: name }, status.quantities[name].label)));
    const by = choice.value || names[0], q = status.quantities[by];
    const shown = names.slice(0, 5);
    rows("grid", ["Square", "images", "usable", "holes", ...shown.map((name) => status.quantities[name].caption)], grid.squares.slice().reverse().map((s) => [
      s.name || s.square, s.images, s.usable, s.holes, ...shown.map((name) => number(s.medians[name], status.quantities[name].precision))]));
    const placed = grid.squares.filter((s) => s.x !== null && s.y !== null && s.medians[by] !== undefined);
    $("grid-map").replaceChildren();
    if (placed.length < 2) return;
    const values = placed.map((s) => s.medians[by]), low = Math.min(...values), high = Math.max(...values);
    const xs = placed.map((s) => s.x), ys = placed.map((s) => s.y);
    const middle = [xs, ys].map((all) => (Math.min(...all) + Math.max(...all)) / 2);
    const scale = Math.min(340 / Math.max(Math.max(...xs) - Math.min(...xs), 1e-6), 180 / Math.max(Math.max(...ys) - Math.min(...ys), 1e-6));
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 400 240");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${q.caption} by position on the grid`);
    for (const s of placed) {
      const spot = document.createElementNS("http://www.w3.org/2000/svg", "rect"), part = high > low ? (s.medians[by] - low) / (high - low) : 0.5;
      spot.setAttribute("x", String(194 + scale * (s.x - middle[0])));
      spot.setAttribute("y", String(114 - scale * (s.y - middle[1])));
      spot.setAttribute("width", "12");
      spot.setAttribute("height", "12");
      spot.setAttribute("fill", "currentColor");
      spot.setAttribute("fill-opacity", String(0.15 + 0.85 * part));
      const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
      title.textContent = `Square ${s.name || s.square}: ${number(s.medians[by], q.precision)} ${q.unit}`;
      spot.append(title);
      svg.append(spot);
    }
    $("grid-map").append(svg, element("p", { class: "muted" }, `${q.caption}: faint ${number(low, q.precision)}, full ${number(high, q.precision)}; x and y of the stage`));
  }

  // plots

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  async function embed() {
    documents = null;
    for (const place of document.querySelectorAll(".plot")) place.replaceChildren();
    const made = JSON.parse($(dark.matches ? "figures-dark" : "figures-light").textContent);
    const managers = await Bokeh.embed.embed_items(made.documents, made.items);
    const shown = managers.flatMap((manager) => [...manager]);
    views = new Map(shown.map((view) => [view.model.name, view]));
    documents = [...new Set(shown.map((view) => view.model.document))];
    if (window.matchMedia("(pointer: fine)").matches) // a finger that drags scrolls the page
      for (const root of documents[0].roots()) for (const tool of root.toolbar ? root.toolbar.tools : []) if (tool.type === "BoxZoomTool") tool.active = true;
    draw();
  }
  const model = (name) => documents[0].get_model_by_name(name);
  const zone = (t) => t * 1000 - 60000 * new Date(1000 * t).getTimezoneOffset();
  const unzone = (ms) => (ms + 60000 * new Date(ms).getTimezoneOffset()) / 1000;
  const quantile = (sorted, part) => {
    const at = part * (sorted.length - 1), low = Math.floor(at);
    return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  };
  function valueRange(values, limits) { // as views.monitor.value_range
    const known = values.filter(Number.isFinite).sort((a, b) => a - b);
    if (!known.length) return [0, 1];
    let low = quantile(known, 0.02), high = quantile(known, 0.98);
    const room = Math.max(high - low, 0.05 * Math.max(Math.abs(high), Math.abs(low))) || 1, bottom = low, top = high;
    for (const limit of limits) if (limit !== null && bottom - room <= limit && limit <= top + room) { low = Math.min(low, limit); high = Math.max(high, limit); }
    return [low - 0.12 * room, high + 0.12 * room];
  }
  const numbers = (values, count) => (values ? values.map((value) => (value === null ? NaN : value)) : new Array(count).fill(NaN));

  function draw() {
    if (!documents || !status) return;
    const data = { time: [], state: [] }, ids = [], names = Object.keys(status.quantities);
    for (const name of names) data[name] = [];
    for (const piece of status.series.pieces) {
      const part = pieces.get(piece.file);
      if (!part) continue;
      for (const t of part.time) data.time.push(t);
      for (const s of part.state) data.state.push(s);
      for (const identity of part.id) ids.push(identity);
      for (const name of names) for (const value of numbers(part.values[name], part.time.length)) data[name].push(value);
    }
    const old = status.series.older && pieces.get(status.series.older.file);
    const past = { time: old ? old.time : [] };
    const first = past.time.length ? past.time[0] : data.time.length ? data.time[0] : status.made_at - 3600;
    const session = status.session ? Math.max(first, status.session.begin) : first;
    const end = status.made_at, begin = hours ? Math.max(end - 3600 * hours, Math.min(first - 60, end - 600)) : Math.min(session, end - 600);
    let any = false;
    for (const name of names) {
      const q = status.quantities[name], figure = model(name), place = $(`plot:${name}`);
      const inside = data[name].filter((_, i) => data.time[i] >= begin && data.time[i] <= end);
      const medians = numbers(old && old.values[name], past.time.length);
      const there = q.known > 0;
      any = any || there;
      if (place) place.hidden = !there;
      const [low, high] = valueRange(inside, [q.low, q.high]);
      const clamp = (value) => (Number.isFinite(value) ? Math.min(Math.max(value, low), high) : NaN);
      data[name + DRAWN] = data[name].map(clamp);
      past[name] = medians;
      past[name + DRAWN] = medians.map(clamp);
      if (!figure) continue;
      figure.y_range.setv({ start: low, end: high });
      for (const which of ["low", "high"]) {
        const line = model(`${which}:${name}`);
        if (line) line.setv({ visible: q[which] !== null, location: q[which] === null ? 0 : q[which] });
      }
    }
    show("plots-section", any || status.counts.images > 0);
    points = { time: data.time, state: data.state, id: ids, values: Object.fromEntries(names.map((name) => [name, data[name]])) };
    data.time = data.time.map(zone);
    past.time = past.time.map(zone);
    model("series").data = data;
    model("older").data = past;
    const { begin: left, seconds, recorded, processed } = status.throughput;
    model("bars").data = { left: recorded.map((_, i) => zone(left + i * seconds)), right: recorded.map((_, i) => zone(left + (i + 1) * seconds)), recorded, processed };
    model("span").setv({ start: zone(begin), end: zone(end) });
    showTip();
  }

  // what is under the pointer

  function nearest(t) {
    const { time } = points;
    let low = 0, high = time.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (time[middle] < t) low = middle + 1;
      else high = middle;
    }
    return low > 0 && (low === time.length || t - time[low - 1] < time[low] - t) ? low - 1 : low;
  }

  // A sheet of previews; null until it is here.
  function sheetPicture(file) {
    clearTimeout(resting);
    if (!sheets.has(file)) {
      resting = setTimeout(() => fetchSheet(file), REST);
      return null;
    }
    const picture = sheets.get(file);
    sheets.delete(file);
    sheets.set(file, picture);
    return picture;
  }

  function fetchSheet(file) {
    sheets.set(file, null);
    for (const old of [...sheets.keys()].slice(0, -MOST_SHEETS)) sheets.delete(old);
    const image = new Image(), goneOn = (then) => sheets.get(file) === null && then();
    image.src = file;
    image.decode().then(
      () => goneOn(() => sheets.set(file, image)),
      // the network may be back by then; a sheet that is complete keeps its name all night
      () => new Promise((after) => setTimeout(after, AGAIN)).then(() => goneOn(() => sheets.delete(file))),
    ).then(showTip);
  }

  function preview(id) {
    const previews = status.previews;
    if (!previews) return [];
    const sheet = previews.sheets.find((s) => id >= s.first && id < s.first + previews.each && (s.there >>> (id - s.first)) & 1);
    if (!sheet) return [element("span", { class: "muted" }, previews.sheets.length ? "no preview of it is kept" : "no previews yet")];
    const picture = sheetPicture(sheet.file), scale = window.devicePixelRatio || 1, tall = Math.round((WIDE * sheet.height) / sheet.width);
    const canvas = element("canvas", { role: "img", "aria-label": picture ? "Preview" : "The preview is being fetched", "data-preview": picture ? String(id) : "", width: Math.round(WIDE * scale), height: Math.round(tall * scale) });
    Object.assign(canvas.style, { width: `${WIDE}px`, height: `${tall}px` });
    if (picture) {
      const place = id - sheet.first, context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(picture, (place % previews.columns) * sheet.width, Math.floor(place / previews.columns) * sheet.height, sheet.width, sheet.height, 0, 0, canvas.width, canvas.height);
    }
    return [canvas, previews.blurred_to ? element("span", { class: "muted" }, `blurred to ${previews.blurred_to} Å`) : null];
  }

  function showTip() {
    const tip = $("tip"), place = pointed && $(`plot:${pointed.name}`), q = pointed && status && status.quantities[pointed.name];
    // what was pointed at leaves the plot on the left as the night goes on
    const inside = () => zone(timeOf(pointed)) >= model("span").start;
    const there = Boolean(q && documents && views.has(pointed.name) && points.time.length && !place.hidden && inside());
    const i = there ? nearest(timeOf(pointed)) : null;
    for (const name of documents ? views.keys() : []) {
      const line = model(`at:${name}`);
      if (line) line.setv({ visible: there, location: there ? zone(points.time[i]) : 0 });
    }
    tip.hidden = !there;
    if (!there) return;
    const value = points.values[pointed.name][i];
    const told = Number.isFinite(value) ? `${number(value, q.precision)}${q.unit ? ` ${q.unit}` : ""}` : "no value";
    const at = new Date(1000 * points.time[i]).toLocaleTimeString([], { hourCycle: "h23" });
    tip.replaceChildren(element("b", {}, told), element("span", {}, `${at}, ${WORDS[points.state[i]]}`), ...preview(points.id[i]).filter(Boolean));
    const room = document.documentElement.clientWidth, wide = tip.offsetWidth;
    const left = pointed.x + wide + 24 > room ? pointed.x - wide - 16 : pointed.x + 16;
    tip.style.left = `${window.scrollX + Math.min(Math.max(4, left), Math.max(4, room - wide - 4))}px`;
    tip.style.top = `${window.scrollY + place.getBoundingClientRect().top + 24}px`;
  }

  function point(event) {
    const place = event.target instanceof Element ? event.target.closest(".plot") : null;
    pointed = place ? { name: place.id.slice("plot:".length), x: event.clientX, time: null } : null;
    showTip();
  }

  // The time under the pointer, as soon as there is a plot that tells it; what was pointed at stays when the plot goes on.
  function timeOf(there) {
    if (there.time === null && views.has(there.name)) {
      const view = views.get(there.name), { left, right } = view.frame.bbox;
      const x = there.x - view.el.getBoundingClientRect().left;
      there.time = unzone(view.frame.x_scale.invert(Math.min(Math.max(x, left), right)));
    }
    return there.time;
  }

  function makeRanges() {
    $("ranges").replaceChildren(...RANGES.map(([label, value]) => {
      const button = element("button", { type: "button", "aria-pressed": String(value === hours) }, label);
      button.addEventListener("click", () => {
        hours = value;
        for (const other of $("ranges").children) other.setAttribute("aria-pressed", String(other === button));
        draw();
      });
      return button;
    }));
    $("legend").replaceChildren(...["● accepted", "▲ flagged by a rule", "◉ waiting", "✕ failed", "- - limit", `${window.matchMedia("(pointer: coarse)").matches ? "tap" : "point at"} an image to see it`].map((text) => element("span", {}, text)));
  }

  // fetching

  async function get(name, fresh) {
    // a phone that changes its network may wait for an answer for minutes, and would ask for nothing newer meanwhile
    const options = { cache: fresh ? "no-store" : "default", signal: AbortSignal.timeout(PATIENCE) };
    const response = await fetch(fresh ? `${name}?t=${Date.now()}` : name, options);
    if (!response.ok) throw new Error(`${name}: ${response.status}`);
    const at = Date.parse(response.headers.get("date")) / 1000 - Date.now() / 1000;
    if (fresh && Number.isFinite(at)) ahead = Math.abs(at) < 5 ? 0 : at; // the way takes its time as well
    return response.json();
  }

  async function refresh() {
    clearTimeout(waiting);
    try {
      const next = await get("status.json", true);
      if (next.schema > SCHEMA) {
        $("footer").textContent = "Published by a newer version; this page is loaded again until it is of that version too.";
        setTimeout(() => location.reload(), 30000); // a server between may keep the old page for a while
        return;
      }
      const wanted = next.series.pieces.map((piece) => piece.file).concat(next.series.older ? [next.series.older.file] : []);
      await Promise.all(wanted.filter((file) => !pieces.has(file)).map(async (file) => pieces.set(file, await get(file, false))));
      for (const file of [...pieces.keys()]) if (!wanted.includes(file)) pieces.delete(file);
      const named = new Set((next.previews ? next.previews.sheets : []).map((sheet) => sheet.file));
      for (const file of [...sheets.keys()]) if (!named.has(file)) sheets.delete(file);
      // a state that was not there at the last look came since, whatever the microscope's clock says; none is of the future
      const now = Date.now() / 1000 + ahead;
      if (!status || next.made_at !== status.made_at) {
        const came = Math.min(now, Math.max(next.made_at, status ? lookedAt : 0));
        newsAt = Math.abs(came - next.made_at) > APART ? came : next.made_at;
      }
      lookedAt = now;
      status = next;
      reached = true;
      const [wrong] = news();
      document.title = `${wrong ? "▲ " : ""}${status.title || "Session"}: ${wrong ? wrong.sentence : status.state.word}`;
      $("title").textContent = [status.title, status.microscope].filter(Boolean).join(" · ") || "Session";
      $("footer").textContent = `Updated ${moment(status.made_at)}; every ${status.refresh} s. Times are those of this device.${status.blur ? ` Images are blurred to ${status.blur} Å.` : ""}`;
      showNumbers();
      showAlerts();
      showPictures();
      showTables();
      draw();
    } catch (error) {
      reached = false; // a state that was being replaced, or no network: the next try will tell
    }
    showState();
    waiting = setTimeout(refresh, 1000 * (reached && status ? Math.max(5, status.refresh) : 10));
  }

  makeRanges();
  $("grid-by").addEventListener("change", () => status && showGrid());
  dark.addEventListener("change", embed);
  document.addEventListener("pointermove", (event) => event.pointerType === "mouse" && point(event));
  document.addEventListener("pointerdown", point); // a finger leaves it where it was; a tap elsewhere takes it away
  document.addEventListener("pointercancel", () => { pointed = null; showTip(); }); // it scrolls, and points at nothing
  setInterval(showState, 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  embed();
  refresh();
})();
