"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    const value = (row) => {
      const cell = row.cells[column];
      return cell.dataset.value ?? cell.textContent;
    };
    const asNumber = (text) =>
      text === "inf" ? Infinity : text === "nan" || text === "None" || text === "–" ? -Infinity : Number(text);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numeric = head.classList.contains("num");
      const compare = (a, b) => {
        if (!numeric) return value(a).localeCompare(value(b));
        const x = asNumber(value(a)), y = asNumber(value(b));
        return x === y ? 0 : x < y ? -1 : 1;
      };
      const rows = [...body.rows].sort((a, b) => (up ? compare(a, b) : compare(b, a)));
      body.replaceChildren(...rows);
    });
  });
}
