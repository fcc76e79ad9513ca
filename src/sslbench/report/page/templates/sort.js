"use strict";
// A click on a column's button sorts its table: numbers by value, text by the alphabet, empty cells last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  headers.forEach((header, place) => {
    const button = header.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of headers) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const numeric = header.dataset.kind === "number";
      const keyed = [...body.rows].map((row) => {
        const cell = row.cells[place];
        const value = numeric ? parseFloat(cell.dataset.value) : cell.textContent.trim();
        return { row, value, empty: numeric ? Number.isNaN(value) : value === "" || value === "-" };
      });
      keyed.sort((a, b) => {
        if (a.empty || b.empty) return Number(a.empty) - Number(b.empty);
        if (numeric) return sign * (a.value - b.value);
        return sign * a.value.localeCompare(b.value, undefined, { numeric: true });
      });
      body.append(...keyed.map((entry) => entry.row));
    });
  });
}
