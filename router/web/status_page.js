"use strict";
// Draws the page again every two seconds. It knows tables, not what is in them, and builds nodes by textContent alone.
(() => {
  const EVERY = 2000, HIDDEN = 30000, PATIENCE = 5000, STALE = 6000;
  const at = (id) => document.getElementById(id);
  const orders = {};
  let tables = [], seen = performance.now(), timer = 0, asking = false;

  const make = (tag, tone, text) => {
    const node = document.createElement(tag);
    if (tone) node.className = tone;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  const cell = ([text, tone, , lines], column) => {
    const node = make(column ? "td" : "th", tone, lines.length ? "" : text);
    if (!column) node.scope = "row";
    for (const line of lines) {
      const box = make("div", "l" + line.length);
      for (const [part, its] of line) box.append(make("span", its, part));
      if (node.lastChild && line.length === 5) node.lastChild.append(...box.childNodes); else node.append(box);
    }
    return node;
  };

  const compare = (one, other) => (one > other) - (one < other);

  const fill = ({id, rows, note}) => {
    const section = at(id), [column, way] = orders[id] || [];
    if (way) rows = [...rows].sort((a, b) => way * compare(a[column][2], b[column][2]));
    section.querySelector("small").textContent = note;
    section.querySelector("tbody").replaceChildren(...rows.map((cells) => {
      const row = make("tr");
      row.append(...cells.map(cell));
      return row;
    }));
  };

  // First what is most, for figures, or first by name; then the other way round; then as it was.
  const sort = (id, column, head) => {
    const first = head.className === "n" ? -1 : 1;
    const [before, way] = orders[id] || [];
    const next = before !== column ? first : way === first ? -first : 0;
    orders[id] = next ? [column, next] : undefined;
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    if (next) head.setAttribute("aria-sort", next > 0 ? "ascending" : "descending");
    const table = tables.find((one) => one.id === id);
    if (table) fill(table);
  };

  const draw = (view) => {
    at("alarms").replaceChildren(...view.alarms.map(([text, tone]) => make("p", "alarm " + tone, text)));
    for (const name of ["facts", "strip"]) view[name].forEach(([, value, tone], index) => {
      const node = at(name).children[index].lastChild;
      node.textContent = value;
      node.className = tone;
    });
    view.curves.forEach(({now, top, path}, index) => {
      const node = at("curves").children[index];
      node.querySelector("b").textContent = now;
      node.querySelector("i").textContent = "max " + top;
      node.querySelector("path").setAttribute("d", path);
    });
    tables = view.tables;
    tables.forEach(fill);
  };

  const look = () => {
    const age = performance.now() - seen;
    document.body.classList.toggle("stale", age > STALE);
    at("fresh").textContent = age > STALE ? "no answer for " + Math.round(age / 1000) + " s" : "live, every 2 s";
  };

  const poll = async () => {
    if (asking) return;
    asking = true;
    clearTimeout(timer);
    try {
      const answer = await fetch("status.json?view", {cache: "no-store", signal: AbortSignal.timeout(PATIENCE)});
      if (answer.ok) {
        draw(await answer.json());
        seen = performance.now();
      }
    } catch { /* it shows by the age of the data */ }
    asking = false;
    look();
    timer = setTimeout(poll, document.hidden ? HIDDEN : EVERY);
  };

  for (const head of document.querySelectorAll("thead th")) {
    const button = make("button", "", head.textContent), id = head.closest("section").id;
    button.addEventListener("click", () => sort(id, head.cellIndex, head));
    head.replaceChildren(button);
  }
  document.addEventListener("visibilitychange", () => document.hidden || poll());
  setInterval(look, 1000);
  poll();
})();
