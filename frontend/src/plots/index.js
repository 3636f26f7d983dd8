// Draws nothing: brings the look of the figures, and has them painted anew when the page turns dark or light.

import { begin } from "../common/dom.js";
import STYLES from "./styles.css";

function render({ el }) {
  begin(el, "plots-look", STYLES);
  el.hidden = true;
  const repaint = () => requestAnimationFrame(() => window.dispatchEvent(new Event("resize")));
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", repaint);
  const observer = new MutationObserver(repaint);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  return () => {
    scheme.removeEventListener("change", repaint);
    observer.disconnect();
  };
}

export default { render };
