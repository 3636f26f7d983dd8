// Bring the look into a document that shows only widgets of ipywidgets; nothing is drawn.

import { addStyles } from "../common/dom.js";
import THEME from "../common/theme.css";

function render({ el }) {
  addStyles("theme", THEME, el.ownerDocument);
  el.hidden = true;
}

export default { render };
