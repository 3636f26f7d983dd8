// A piece of code to be copied, and files handed to whoever looks at the page.

import { Check, Copy } from "lucide";

import { copyText } from "../common/clipboard.js";
import { begin, h } from "../common/dom.js";
import { hearing } from "../common/hear.js";
import { icon, iconButton } from "../common/icons.js";
import STYLES from "./styles.css";

function download(name, type, content) {
  const link = h("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function render({ model, el }) {
  begin(el, "code", STYLES);
  const text = h("pre", { tabindex: 0, "aria-label": "The same as Python code" });
  const button = iconButton(Copy, "Copy as code", async () => {
    try {
      await copyText(model.get("text"));
      button.replaceChildren(icon(Check, "Copied"));
      setTimeout(() => button.replaceChildren(icon(Copy, "Copy as code")), 1500);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(text);
      getSelection().removeAllRanges();
      getSelection().addRange(range); // one key press away
    }
  });
  const show = () => {
    text.textContent = model.get("text");
    el.toggleAttribute("hidden", !model.get("text"));
  };
  const hand = (message, buffers) => {
    // a page opened twice shows this widget twice: the file is for the one that asked last
    if (message.kind === "download" && document.visibilityState === "visible") {
      download(message.name, message.type, buffers[0]);
    }
  };
  el.append(text, button);
  show();
  model.on("change:text", show);
  model.on("msg:custom", hand);
  return () => {
    model.off("change:text", show);
    model.off("msg:custom", hand);
  };
}

export default { render: hearing(render) };
