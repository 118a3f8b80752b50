// A picture on which one cell of a map can be chosen: by click, by drag, by keyboard.
//
// SPDX-License-Identifier: MIT
// Copyright (c) 2026 onwards, the danet_nb authors
//
// Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
// associated documentation files (the "Software"), to deal in the Software without restriction,
// including without limitation the rights to use, copy, modify, merge, publish, distribute,
// sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
// furnished to do so, subject to the following conditions: The above copyright notice and this
// permission notice shall be included in all copies or substantial portions of the Software.
//
// THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
// NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
// NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
// DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
// OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
//
// An anywidget module: `render({ model, el })`. It imports nothing and asks no other host.
// The model has
//   src           the picture: an address (data: URL) or the bytes of a PNG
//   rows, columns cells of the map that lies over the picture
//   row, column   the chosen cell, counted from the top left, from 0; written here and there
//   label         the name of the picture, a few words
//   alt           what the picture says, in sentences; shown below it and read out when it changes

const STYLE = `
.danet-picture { margin: 0; max-width: 512px; min-width: 0; }
.danet-picture-map { position: relative; cursor: crosshair; touch-action: pinch-zoom;
  user-select: none; -webkit-user-select: none; }
.danet-picture-map img { display: block; width: 100%; height: auto; }
.danet-picture-map:focus { outline: 3px solid #fff; outline-offset: 0;
  box-shadow: 0 0 0 6px #2a6fdb; }
.danet-picture-map:focus:not(:focus-visible) { outline: none; box-shadow: none; }
.danet-picture-cell { position: absolute; box-sizing: border-box; pointer-events: none;
  min-width: 5px; min-height: 5px; border: 1.5px solid #fff; outline: 1.5px solid #000; }
.danet-picture-help { font-size: 0.85em; opacity: 0.8; }
.danet-picture figcaption { color: var(--jp-content-font-color1, inherit); line-height: 1.4; }
.danet-picture p { margin: 0.6em 0 0; }
`;
const HELP =
  "Click or drag, or use the arrow keys: one cell a step, four with Shift. " +
  "Home and End go to the ends of the row, Page Up and Page Down to those of the column.";

let pictures = 0; // on this page, for names that are used once

function add(parent, tag, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  parent.append(element);
  return element;
}

function clip(value, length) {
  return Math.max(0, Math.min(length - 1, value));
}

// The cell that a key leads to, or null for a key that means nothing here.
function step(event, row, column, rows, columns) {
  if (event.ctrlKey || event.altKey || event.metaKey) return null;
  const far = event.shiftKey ? 4 : 1;
  const cells = {
    ArrowUp: [row - far, column],
    ArrowDown: [row + far, column],
    ArrowLeft: [row, column - far],
    ArrowRight: [row, column + far],
    Home: [row, 0],
    End: [row, columns - 1],
    PageUp: [0, column],
    PageDown: [rows - 1, column],
  };
  return cells[event.key] ?? null;
}

function render({ model, el }) {
  const name = `danet-picture-${++pictures}`;
  add(el, "style", { textContent: STYLE });
  const figure = add(el, "figure", { className: "danet-picture" });
  const map = add(figure, "div", { className: "danet-picture-map", tabIndex: 0 });
  const image = add(map, "img", { draggable: false });
  const cell = add(map, "div", { className: "danet-picture-cell" });
  const caption = add(figure, "figcaption");
  const words = add(caption, "p", { id: `${name}-words` });
  const help = add(caption, "p", { id: `${name}-help`, className: "danet-picture-help" });
  help.textContent = HELP;
  words.setAttribute("aria-live", "polite");
  map.setAttribute("role", "application");
  map.setAttribute("aria-roledescription", "picture with a cursor");
  map.setAttribute("aria-describedby", `${words.id} ${help.id}`);
  map.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's own use of the arrow keys

  const size = () => [model.get("rows"), model.get("columns")];

  function choose([row, column]) {
    const [rows, columns] = size();
    [row, column] = [clip(row, rows), clip(column, columns)];
    if (row === model.get("row") && column === model.get("column")) return;
    model.set("row", row);
    model.set("column", column);
    drawCell(); // at once; the picture follows when it has been computed
    model.save_changes();
  }

  function point(event) {
    const [rows, columns] = size();
    const box = map.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
    choose([row, column]);
  }

  let url = null; // of the bytes now shown
  function drawImage() {
    const src = model.get("src");
    if (url) URL.revokeObjectURL(url);
    url = typeof src === "string" ? null : URL.createObjectURL(new Blob([src]));
    image.src = url ?? src;
  }

  function drawCell() {
    const [rows, columns] = size();
    cell.style.top = `${(100 * model.get("row")) / rows}%`;
    cell.style.left = `${(100 * model.get("column")) / columns}%`;
    cell.style.height = `${100 / rows}%`;
    cell.style.width = `${100 / columns}%`;
  }

  function drawWords() {
    const label = model.get("label") || "Picture";
    map.setAttribute("aria-label", label);
    image.alt = label;
    words.textContent = model.get("alt");
  }

  image.addEventListener("load", () => {
    const ratio = image.naturalWidth / image.naturalHeight;
    figure.style.maxWidth = `min(512px, ${80 * ratio}vh)`; // a tall picture fits on the screen
  });
  map.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    map.setPointerCapture(event.pointerId);
    point(event);
  });
  map.addEventListener("pointermove", (event) => {
    if (map.hasPointerCapture(event.pointerId)) point(event);
  });
  map.addEventListener("keydown", (event) => {
    const next = step(event, model.get("row"), model.get("column"), ...size());
    if (!next) return;
    event.preventDefault(); // the page would scroll
    event.stopPropagation();
    choose(next);
  });

  const heard = [
    ["src", drawImage],
    ["row", drawCell],
    ["column", drawCell],
    ["rows", drawCell],
    ["columns", drawCell],
    ["alt", drawWords],
    ["label", drawWords],
  ];
  for (const [trait, draw] of heard) model.on(`change:${trait}`, draw);
  drawImage();
  drawCell();
  drawWords();
  return () => {
    for (const [trait, draw] of heard) model.off(`change:${trait}`, draw);
    if (url) URL.revokeObjectURL(url);
  };
}

export default { render };
