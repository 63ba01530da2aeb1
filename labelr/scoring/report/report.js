"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      const numeric = header.classList.contains("n");
      const sorted = header.getAttribute("aria-sort");
      const descending = sorted ? sorted === "ascending" : numeric;
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const value = (row) => {
        const text = row.cells[column].textContent.replaceAll(",", "").trim();
        return numeric ? (text === "" || text === "–" ? NaN : Number(text)) : text;
      };
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (!numeric) return (descending ? -1 : 1) * x.localeCompare(y);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return descending ? y - x : x - y;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}
const openTarget = () => {
  const target = document.getElementById(location.hash.slice(1));
  const details = target && target.closest("details");
  if (details && !details.open) { details.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", openTarget);
openTarget();
