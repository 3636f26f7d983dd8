// One picture with what is drawn over it: a scale bar, resolution rings, the resolution under the pointer.

import { Image as ImageIcon, Route, Target, TriangleAlert } from "lucide";

import { h } from "../common/dom.js";
import { icon } from "../common/icons.js";

const SVG = "http://www.w3.org/2000/svg";
const ICONS = { image: ImageIcon, spectrum: Target, rings: Target, drawing: Route };

function shape(tag, properties) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  return element;
}

export class Picture {
  constructor() {
    this.canvas = h("canvas", { width: 1, height: 1, "aria-hidden": "true" });
    this.over = h("div", { class: "over", "aria-hidden": "true" });
    this.readout = h("output", { class: "readout", hidden: true });
    this.picture = h("div", { class: "picture", role: "img" }, this.canvas, this.over);
    this.drawing = h("div", { class: "drawing" });
    this.words = h("div", { class: "words" });
    this.element = h("div", { class: "frame" }, this.picture, this.drawing, this.words, this.readout);
    this.tile = null;
    this.sized = new ResizeObserver(() => this.#fitPixels());
    this.sized.observe(this.picture);
    this.picture.addEventListener("pointermove", (event) => this.#tellResolution(event));
    this.picture.addEventListener("pointerleave", () => (this.readout.hidden = true));
  }

  close() {
    this.sized.disconnect();
  }

  // Nothing yet: what is to come is still on its way.
  wait() {
    this.tile = null;
    this.element.dataset.shows = "nothing";
    this.readout.hidden = true;
  }

  show(tile, told = "") {
    if (this.tile === tile) return;
    this.tile = tile;
    this.readout.hidden = true;
    this.element.dataset.kind = tile.kind ?? "image";
    if (tile.drawing) {
      this.element.dataset.shows = "drawing";
      this.drawing.innerHTML = tile.drawing; // made by the kernel of numbers alone
    } else if (tile.bitmap) {
      this.element.dataset.shows = "picture";
      this.#draw(tile, told);
    } else {
      this.element.dataset.shows = "words";
      const parts = tile.missing ? (ICONS[tile.kind] ?? ImageIcon) : TriangleAlert;
      this.words.replaceChildren(icon(parts), h("p", {}, tile.missing || "There is no picture."));
    }
  }

  #draw(tile, told) {
    const { width, height } = tile.bitmap;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.element.style.setProperty("--ratio", width / height);
    }
    this.canvas.getContext("2d").drawImage(tile.bitmap, 0, 0);
    this.picture.setAttribute("aria-label", told || tile.title);
    this.over.replaceChildren(...(tile.bar ? drawBar(tile.bar) : []), ...(tile.rings ? drawRings(tile.rings) : []));
    this.#fitPixels();
  }

  // Beyond 1:1 each pixel is shown as it is; below it they are averaged.
  #fitPixels() {
    const shown = this.canvas.clientWidth * devicePixelRatio;
    this.canvas.style.imageRendering = shown > 1.01 * this.canvas.width ? "pixelated" : "auto";
  }

  #tellResolution(event) {
    const tile = this.tile;
    if (!tile?.pixel_size || !["spectrum", "rings"].includes(tile.kind) || event.pointerType === "touch") return;
    const box = this.picture.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width - 0.5;
    const y = (event.clientY - box.top) / box.height - 0.5;
    const radius = Math.hypot(x, y);
    this.readout.hidden = radius < 0.01;
    if (radius >= 0.01) this.readout.value = `${(tile.pixel_size / radius).toPrecision(3)} Å`;
  }
}

// The element as it is drawn: a bar as long as so large a part of the width, its label above it.
function drawBar(bar) {
  return [h("div", { class: "bar", style: { width: `${100 * bar.part}%` } }, h("span", {}, bar.label))];
}

function drawRings(rings) {
  const svg = shape("svg", { viewBox: "-0.5 -0.5 1 1" });
  const labels = [];
  for (const ring of rings) {
    svg.append(shape("circle", { r: ring.radius, class: ring.fit ? "ring fit" : "ring" }));
    const place = 0.5 + ring.radius * Math.SQRT1_2;
    const style = { left: `${100 * place}%`, top: `${100 * place}%` };
    labels.push(h("span", { class: ring.fit ? "ring-label fit" : "ring-label", style }, ring.label));
  }
  return [svg, ...labels];
}
