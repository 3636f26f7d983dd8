// The preview of one image, cut from the sheet of its neighbours.

import { h } from "../common/dom.js";

const WIDE = 176; // px of the page

// The sheet that holds the preview of an image; undefined where there is none.
function sheetOf(previews, id) {
  return previews.sheets.find((sheet) => id >= sheet.first && id < sheet.first + previews.each && (sheet.there >>> (id - sheet.first)) & 1);
}

// What to show of an image beside its value: its preview, its place while it is fetched, or that there is none.
export function preview(store, name, previews, id) {
  if (!previews) return [];
  const sheet = sheetOf(previews, id);
  if (!sheet) return [h("span", { class: "fnb-caption" }, previews.sheets.length ? "no preview of it is kept" : "no previews yet")];
  const picture = store.sheet(name, sheet.file);
  const scale = window.devicePixelRatio || 1;
  const tall = Math.round((WIDE * sheet.height) / sheet.width);
  const canvas = h("canvas", { role: "img", "aria-label": picture ? "Preview" : "The preview is being fetched", dataset: { preview: picture ? String(id) : "" } });
  canvas.width = Math.round(WIDE * scale);
  canvas.height = Math.round(tall * scale);
  canvas.style.width = `${WIDE}px`;
  canvas.style.height = `${tall}px`;
  if (picture) {
    const place = id - sheet.first;
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, (place % previews.columns) * sheet.width, Math.floor(place / previews.columns) * sheet.height, sheet.width, sheet.height, 0, 0, canvas.width, canvas.height);
  }
  return [canvas, previews.blurred_to ? h("span", { class: "fnb-caption" }, `blurred to ${previews.blurred_to} Å`) : ""];
}
